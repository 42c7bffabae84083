#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "flowmatch/core/assignment.hpp"
#include "flowmatch/core/error.hpp"

namespace flowmatch { inline namespace v0 {

namespace detail {

/// The work of `assign_partially`: pairs are added to none, or taken from all.
template <std::floating_point T>
class PartialAssignment : public Assignment<T> {
 public:
  using Assignment<T>::Assignment;

  void solve(std::size_t pairs) {
    // A pair more or less takes up to a look at all costs, and pairs for all rows come sooner.
    const bool few_left_out = rows_ <= columns_ && rows_ - pairs < pairs / 8;
    if (pairs == rows_ || (few_left_out && alike())) {
      Assignment<T>::solve();
      for (std::size_t n = rows_; n > pairs; --n) take_one();
    } else {
      add(pairs);
    }
  }

 private:
  using Assignment<T>::none, Assignment<T>::far, Assignment<T>::price, Assignment<T>::give,
      Assignment<T>::cost_, Assignment<T>::rows_, Assignment<T>::columns_, Assignment<T>::price_,
      Assignment<T>::column_of_, Assignment<T>::row_of_, Assignment<T>::distance_,
      Assignment<T>::before_, Assignment<T>::open_, Assignment<T>::lengthen;

  // Whether the largest costs leave digits of the small ones where all rows have to have a column:
  // where they do not, those pairs must not be made at first either.
  bool alike() const {
    double most = 0;
    std::vector<double> least(rows_);
    for (std::size_t row = 0; row < rows_; ++row) {
      const T* const costs = cost_ + row * columns_;
      const auto [low, high] = std::minmax_element(costs, costs + columns_);
      most = std::max(
          {most, std::abs(static_cast<double>(*low)), std::abs(static_cast<double>(*high))});
      least[row] = std::abs(static_cast<double>(*low));
    }
    const auto middle = least.begin() + static_cast<std::ptrdiff_t>(rows_ / 2);
    std::nth_element(least.begin(), middle, least.end());
    return most <= 1e7 * *middle;
  }

  // The best n + 1 pairs hold the rows of the best n: a shortest path from all free rows at once
  // adds one. A column's nearest free row is kept, and looked for again once it is taken.
  void add(std::size_t pairs) {
    std::vector<double> least(columns_);
    std::vector<std::size_t> nearest(columns_, none), stale(columns_);
    std::iota(stale.begin(), stale.end(), std::size_t{0});
    for (std::size_t n = 0; n < pairs; ++n) {
      for (const std::size_t j : stale) least[j] = far;
      for (std::size_t row = 0; row < rows_ && !stale.empty(); ++row) {
        if (column_of_[row] != none) continue;
        const T* const costs = cost_ + row * columns_;
        for (const std::size_t j : stale) {
          if (static_cast<double>(costs[j]) >= least[j]) continue;
          least[j] = static_cast<double>(costs[j]);
          nearest[j] = row;
        }
      }
      distance_.resize(columns_);
      for (std::size_t j = 0; j < columns_; ++j) distance_[j] = least[j] - price_[j];
      before_ = nearest;
      const std::size_t taken = lengthen();
      stale.clear();
      for (std::size_t j = 0; j < columns_; ++j) {
        if (nearest[j] == taken) stale.push_back(j);
      }
    }
  }

  // The best n - 1 pairs lack one row and one column more: the shortest path from any column that
  // has a row, which loses it, over rows that take the column of the next, to a row that is left
  // with none. distance_[j] is that of losing column j, by the row before_[j], which takes it.
  void take_one() {
    open_.clear();
    distance_.assign(columns_, far);  // far: without a row, or settled
    reached_.resize(columns_);
    before_.assign(columns_, none);
    double highest = -far;
    std::size_t nearest = none;
    const auto slope = [&](std::size_t j) { return price(row_of_[j], j); };
    for (std::size_t j = 0; j < columns_; ++j) {
      if (row_of_[j] == none) continue;
      distance_[j] = -price_[j];
      highest = std::max(highest, slope(j));
      if (nearest == none || distance_[j] < distance_[nearest]) nearest = j;
    }
    double least = far, near = 0;
    std::size_t end = none;
    while (nearest != none) {
      near = distance_[nearest];
      if (near - highest >= least) break;
      const std::size_t column = nearest, row = row_of_[column];
      const double own = slope(column);
      if (near - own < least) {
        least = near - own;
        end = column;
      }
      open_.push_back(column);
      reached_[column] = near;
      distance_[column] = far;
      const T* const costs = cost_ + row * columns_;
      const double walked = near - own;
      double next = far;
      nearest = none;
      for (std::size_t j = 0; j < columns_; ++j) {
        double d = distance_[j];
        if (d == far) continue;
        const double through = walked + (static_cast<double>(costs[j]) - price_[j]);
        if (through < d) {
          distance_[j] = d = through;
          before_[j] = row;
        }
        if (d < next) {
          next = d;
          nearest = j;
        }
      }
    }
    for (const std::size_t j : open_) price_[j] += reached_[j] - near;
    column_of_[row_of_[end]] = none;
    std::size_t column = end;
    for (std::size_t row = before_[column]; row != none; row = before_[column]) {
      const std::size_t lost = column_of_[row];
      give(row, column);
      column = lost;
    }
    row_of_[column] = none;
  }

  std::vector<double> reached_{};  // the distance of those that are settled
};

}  // namespace detail

/// The `pairs` of a row and a column, each row and column in one at most, at the least total cost:
/// the column of each row, -1 for the rows that are left out. The matrix is as for `assign`, of any
/// two sizes; the result is as exact. O(pairs rows columns) time at worst.
///
/// Throws OptionError unless 0 <= pairs <= min(rows, columns), and else as `assign` does.
///
/// Partial optimal transport of points of equal weight (Chapel, Alaya & Gasso 2020, "Partial
/// optimal transport with applications on positive-unlabeled learning"), by shortest augmenting
/// paths from no pairs (Dell'Amico & Martello 1997, "The k-cardinality assignment problem"), or
/// back from all. There are no dummy points, and no large costs between them.
template <std::floating_point T>
std::vector<std::int64_t> assign_partially(const T* cost, std::int64_t rows, std::int64_t columns,
                                           std::int64_t pairs) {
  detail::check_costs(cost, rows, columns);
  if (pairs < 0 || pairs > std::min(rows, columns)) {
    throw OptionError(std::to_string(pairs) + " pairs of " + std::to_string(rows) + " rows and " +
                      std::to_string(columns) + " columns; choose from 0 to the smaller of both");
  }
  const auto n = static_cast<std::size_t>(rows), m = static_cast<std::size_t>(columns);
  detail::PartialAssignment<T> assignment(cost, n, m);
  assignment.solve(static_cast<std::size_t>(pairs));
  return assignment.columns();
}

}}  // namespace flowmatch
