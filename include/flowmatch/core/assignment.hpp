#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "flowmatch/core/error.hpp"

namespace flowmatch { inline namespace v0 {

namespace detail {

/// The work of `assign`. Column j has a dual price v_j, and `cost(i, j) - v_j` is a row's price for
/// it. At all times a row that has a column has the one that is cheapest for it, and columns that
/// no row has cost at least as much as they did at the start: so a full assignment is the best one.
template <std::floating_point T>
class Assignment {
 public:
  Assignment(const T* cost, std::size_t rows, std::size_t columns)
      : cost_(cost),
        rows_(rows),
        columns_(columns),
        price_(columns),
        column_of_(rows, none),
        row_of_(columns, none) {}

  // Gives each row a column.
  void solve() {
    if (rows_ == columns_) {
      reduce_columns();
      auction();
    }
    reduce_rows();
    for (std::size_t row = 0; row < rows_; ++row) {
      if (column_of_[row] == none) augment(row);
    }
  }

  // Those of rows without one are -1.
  std::vector<std::int64_t> columns() const {
    std::vector<std::int64_t> all(rows_, -1);
    for (std::size_t i = 0; i < rows_; ++i) {
      if (column_of_[i] != none) all[i] = static_cast<std::int64_t>(column_of_[i]);
    }
    return all;
  }

 protected:
  static constexpr std::size_t none = std::numeric_limits<std::size_t>::max();
  static constexpr double far = std::numeric_limits<double>::infinity();

  double price(std::size_t row, std::size_t column) const {
    return static_cast<double>(cost_[row * columns_ + column]) - price_[column];
  }

  void give(std::size_t row, std::size_t column) {
    column_of_[row] = column;
    row_of_[column] = row;
  }

  // Dijkstra from rows without a column, over distance_ by before_, to the nearest column that is
  // free, over what each column costs beyond a row's cheapest. Columns open_[0, looked) are
  // settled, those up to `ready` are as near as the last of them and not looked at yet. Returns the
  // row that has a column then.
  std::size_t lengthen() {
    open_.resize(columns_);
    std::iota(open_.begin(), open_.end(), std::size_t{0});
    std::size_t looked = 0, ready = 0, settled = 0, sink = none;
    double near = 0;
    while (sink == none) {
      if (looked == ready) {
        settled = looked;
        near = far;
        for (std::size_t k = looked; k < columns_; ++k) {
          const std::size_t j = open_[k];
          if (distance_[j] > near) continue;
          if (distance_[j] < near) {
            near = distance_[j];
            ready = looked;
          }
          open_[k] = std::exchange(open_[ready++], j);
        }
        for (std::size_t k = looked; k < ready && sink == none; ++k) {
          if (row_of_[open_[k]] == none) sink = open_[k];
        }
        continue;
      }
      const std::size_t column = open_[looked++];
      const std::size_t row = row_of_[column];
      const T* const costs = cost_ + row * columns_;
      const double* const prices = price_.data();
      const double walked = near - price(row, column);
      for (std::size_t k = ready; k < columns_; ++k) {
        const std::size_t j = open_[k];
        const double through = walked + (static_cast<double>(costs[j]) - prices[j]);
        if (through >= distance_[j]) continue;
        distance_[j] = through;
        before_[j] = row;
        if (through > near) continue;
        if (row_of_[j] == none) {
          sink = j;
          break;
        }
        open_[k] = std::exchange(open_[ready++], j);
      }
    }
    for (std::size_t k = 0; k < settled; ++k) price_[open_[k]] += distance_[open_[k]] - near;
    // Turn the path round: each row on it takes the column that it leads to.
    std::size_t row = none;
    for (std::size_t j = sink; j != none;) {
      row = before_[j];
      row_of_[j] = row;
      std::swap(column_of_[row], j);
    }
    return row;
  }

  const T* cost_;
  std::size_t rows_, columns_;
  std::vector<double> price_;
  std::vector<std::size_t> column_of_, row_of_;
  std::vector<double> distance_{};  // of the shortest path that ends in a column
  std::vector<std::size_t> before_{}, open_{};

 private:
  // The first prices: the least cost in each column beyond its row's least. Costs that differ most
  // by row, as those of a source of spread norms, would otherwise have all columns want one row.
  void reduce_columns() {
    std::vector<std::size_t> cheapest(columns_, none);
    price_.assign(columns_, far);
    for (std::size_t row = 0; row < rows_; ++row) {
      const T* const costs = cost_ + row * columns_;
      const auto least = static_cast<double>(*std::min_element(costs, costs + columns_));
      for (std::size_t j = 0; j < columns_; ++j) {
        const double beyond = static_cast<double>(costs[j]) - least;
        if (beyond < price_[j]) {
          price_[j] = beyond;
          cheapest[j] = row;
        }
      }
    }
    for (std::size_t j = columns_; j-- > 0;) {
      if (column_of_[cheapest[j]] == none) give(cheapest[j], j);
    }
  }

  struct TwoCheapest {
    double least = far, second = far;
    std::size_t column = none;  // of the least
  };

  TwoCheapest two_cheapest(std::size_t row) const {
    const T* const costs = cost_ + row * columns_;
    const double* const prices = price_.data();
    double least = far, second = far;
    std::size_t column = none;
    for (std::size_t j = 0; j < columns_; ++j) {
      const double p = static_cast<double>(costs[j]) - prices[j];
      if (p >= second) continue;
      if (p < least) {
        second = std::exchange(least, p);
        column = j;
      } else {
        second = p;
      }
    }
    return {least, second, column};
  }

  // A row takes its cheapest column, and pays so much more that its second choice would be better
  // by `extra`. Returns who had it.
  std::size_t bid(std::size_t row, const TwoCheapest& choice, double extra) {
    const std::size_t before = row_of_[choice.column];
    if (choice.second != far) price_[choice.column] -= choice.second - choice.least + extra;
    give(row, choice.column);
    if (before != none) column_of_[before] = none;
    return before;
  }

  // Where there are as many rows as columns any prices will do, so rows bid by more than they need,
  // which keeps wars among them short, and by less and less of it (Bertsekas 1988): from a part of
  // what a column costs beyond the cheapest on average, which brings the prices of points in few
  // dimensions near to where they belong, to a part of what a second choice does. The latter is
  // small where costs are, however large some of them, and bounds the former, so that no digits of
  // the small ones are lost.
  void auction() {
    double gap = 0, beyond = 0;
    const auto rows = static_cast<double>(rows_), columns = static_cast<double>(columns_);
    for (std::size_t row = 0; row < rows_ && columns_ > 1; ++row) {
      const TwoCheapest choice = two_cheapest(row);
      gap += (choice.second - choice.least) / rows;
      double sum = 0;
      for (std::size_t j = 0; j < columns_; ++j) sum += price(row, j) - choice.least;
      beyond += sum / columns / rows;
    }
    for (double extra = std::min(beyond / 4, 1e6 * gap); extra > gap / 50; extra /= 5) {
      column_of_.assign(rows_, none);
      row_of_.assign(columns_, none);
      std::size_t bids = 64 * rows_;
      for (std::size_t next = 0; next < rows_; ++next) {
        std::size_t row = next;
        for (; row != none && bids > 0; --bids) row = bid(row, two_cheapest(row), extra);
      }
    }
    for (std::size_t row = 0; row < rows_; ++row) {  // who paid too much
      const std::size_t column = column_of_[row];
      if (column == none || price(row, column) <= two_cheapest(row).least) continue;
      row_of_[column] = column_of_[row] = none;
    }
  }

  // Rows without a column take the cheapest from whoever has it. Left without one are rows of equal
  // choices, and all after some bids.
  void reduce_rows() {
    std::size_t bids = 8 * rows_;  // more of them cost more than the paths that they save
    for (std::size_t next = 0; next < rows_; ++next) {
      std::size_t row = column_of_[next] == none ? next : none;
      while (row != none) {
        const TwoCheapest choice = two_cheapest(row);
        const bool taken = row_of_[choice.column] != none;
        if (taken && (choice.second == choice.least || bids == 0)) break;
        row = bid(row, choice, 0);
        if (bids > 0) --bids;
      }
    }
  }

  void augment(std::size_t start) {
    distance_.resize(columns_);
    before_.assign(columns_, start);
    for (std::size_t j = 0; j < columns_; ++j) distance_[j] = price(start, j);
    lengthen();
  }
};

/// Throws unless `assign` can do with these.
template <std::floating_point T>
void check_costs(const T* cost, std::int64_t rows, std::int64_t columns) {
  // Each size at most 2^31, so that their product cannot overflow.
  constexpr std::int64_t most = std::int64_t{1} << 31U;
  if (rows < 0 || columns < 0 || rows > most || columns > most) {
    throw ShapeError("an assignment of " + std::to_string(rows) + " rows to " +
                     std::to_string(columns) + " columns; give at most 2^31 of each");
  }
  const std::size_t size = static_cast<std::size_t>(rows) * static_cast<std::size_t>(columns);
  for (std::size_t i = 0; i < size; ++i) {
    if (!(std::abs(cost[i]) <= 1e290)) {
      throw DataError("a cost of the assignment is " + number_text(cost[i]) +
                      "; give finite costs, a large one where a pair must not be");
    }
  }
}

}  // namespace detail

/// The assignment of each row to a column of its own at the least total cost: the column of each
/// row, for a matrix `cost` of `rows` x `columns`, row by row, float or double, with at least as
/// many columns as rows.
///
/// Exact, but for the rounding of sums of costs, which are added in float64. O(rows² columns) time
/// at worst, O(columns) memory beside the matrix; half a second for 4,096 points of 784 dimensions.
/// Throws ShapeError where the sizes do not fit, DataError for a cost that is NaN or beyond 1e290.
///
/// Jonker & Volgenant 1987, "A shortest augmenting path algorithm for dense and sparse linear
/// assignment problems", whose three stages these are; costs are counted from their row's least in
/// the first one, and the second one is an auction (Bertsekas 1988, "The auction algorithm: a
/// distributed relaxation method for the assignment problem") where rows are as many as columns.
template <std::floating_point T>
std::vector<std::int64_t> assign(const T* cost, std::int64_t rows, std::int64_t columns) {
  if (columns < rows) {
    throw ShapeError("an assignment of " + std::to_string(rows) + " rows to " +
                     std::to_string(columns) + " columns; give at least as many columns as rows");
  }
  detail::check_costs(cost, rows, columns);
  const auto n = static_cast<std::size_t>(rows), m = static_cast<std::size_t>(columns);
  detail::Assignment<T> assignment(cost, n, m);
  assignment.solve();
  return assignment.columns();
}

/// The same of a vector `cost`, which has to hold rows x columns costs.
inline std::vector<std::int64_t> assign(const std::vector<double>& cost, std::int64_t rows,
                                        std::int64_t columns) {
  const auto size = static_cast<std::int64_t>(cost.size());
  if (rows > 0 ? size % rows != 0 || size / rows != columns : size != 0) {
    throw ShapeError("an assignment of " + std::to_string(rows) + " rows to " +
                     std::to_string(columns) + " columns with " + std::to_string(size) +
                     " costs; give rows x columns of them");
  }
  return assign(cost.data(), rows, columns);
}

}}  // namespace flowmatch
