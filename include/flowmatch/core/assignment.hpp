#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "flowmatch/core/error.hpp"

namespace flowmatch { inline namespace v0 {

/// The assignment of each row to a column of its own at the least total cost: the column of each
/// row, for a matrix `cost` of `rows` x `columns`, row by row, with at least as many columns as
/// rows.
///
/// Shortest augmenting paths: O(rows² columns) time, O(columns) memory beside the matrix. Exact,
/// but for the rounding of sums of costs. Throws ShapeError where the sizes do not fit, DataError
/// for a cost that is NaN or infinite.
///
/// Jonker & Volgenant 1987; in the form of Crouse 2016, "On implementing 2D rectangular assignment
/// algorithms", without initialisation.
inline std::vector<std::int64_t> assign(const std::vector<double>& cost, std::int64_t rows,
                                        std::int64_t columns) {
  // Each size at most 2^31, so that their product cannot overflow.
  constexpr std::int64_t most = std::int64_t{1} << 31U;
  if (rows < 0 || columns < rows || columns > most ||
      static_cast<std::int64_t>(cost.size()) != rows * columns) {
    throw ShapeError("an assignment of " + std::to_string(rows) + " rows to " +
                     std::to_string(columns) + " columns with " + std::to_string(cost.size()) +
                     " costs; give rows x columns of them, and at least as many columns as rows");
  }
  for (const double c : cost) {
    if (!std::isfinite(c)) {
      throw DataError("a cost of the assignment is " + number_text(c) +
                      "; give finite costs, a large one where a pair must not be");
    }
  }
  const auto n = static_cast<std::size_t>(rows);
  const auto m = static_cast<std::size_t>(columns);
  constexpr std::size_t none = std::numeric_limits<std::size_t>::max();
  constexpr double far = std::numeric_limits<double>::infinity();

  // Dual prices: cost - row_price - column_price >= 0 everywhere, and = 0 on what is assigned.
  std::vector<double> row_price(n, 0.0);
  std::vector<double> column_price(m, 0.0);
  std::vector<std::size_t> column_of(n, none);
  std::vector<std::size_t> row_of(m, none);
  std::vector<double> distance(m);     // of the shortest path that ends in a column
  std::vector<std::size_t> before(m);  // the row from which that path enters it
  std::vector<std::size_t> open(m);    // columns that are not settled yet: the first `left`
  for (std::size_t start = 0; start < n; ++start) {
    // Dijkstra from the row `start` to the nearest free column, over reduced costs.
    for (std::size_t j = 0; j < m; ++j) {
      distance[j] = far;
      open[j] = j;
    }
    std::size_t left = m;
    std::size_t row = start;
    double walked = 0;
    std::size_t sink = none;
    while (sink == none) {
      const double* costs = &cost[row * m];
      std::size_t nearest = 0;
      for (std::size_t k = 0; k < left; ++k) {
        const std::size_t j = open[k];
        const double through = walked + costs[j] - row_price[row] - column_price[j];
        if (through < distance[j]) {
          distance[j] = through;
          before[j] = row;
        }
        // Among equals a free column, which ends the search.
        const std::size_t best = open[nearest];
        if (distance[j] < distance[best] ||
            (distance[j] == distance[best] && row_of[j] == none && row_of[best] != none)) {
          nearest = k;
        }
      }
      const std::size_t settled = open[nearest];
      walked = distance[settled];
      std::swap(open[nearest], open[--left]);
      if (row_of[settled] == none) {
        sink = settled;
      } else {
        row = row_of[settled];
      }
    }
    // What lies behind `left` is settled. Prices change so that the path's edges cost nothing.
    row_price[start] += walked;
    for (std::size_t k = left; k < m; ++k) {
      const std::size_t j = open[k];
      if (j == sink) continue;
      row_price[row_of[j]] += walked - distance[j];
      column_price[j] -= walked - distance[j];
    }
    // Turn the path round: each row on it takes the column that it leads to.
    for (std::size_t j = sink, i = none; i != start;) {
      i = before[j];
      row_of[j] = i;
      std::swap(column_of[i], j);
    }
  }
  return {column_of.begin(), column_of.end()};
}

}}  // namespace flowmatch
