#include "flowmatch/core/partial_assignment.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "tests/support/test_std.hpp"

namespace fm = flowmatch;

namespace {

using Costs = std::vector<double>;
using Taken = std::vector<std::int64_t>;

Taken partially(const Costs& cost, std::int64_t rows, std::int64_t columns, std::int64_t pairs) {
  return fm::assign_partially(cost.data(), rows, columns, pairs);
}

// The total of so many pairs, each row and column in one at most.
double total_of(const Costs& cost, std::int64_t columns, const Taken& column_of,
                std::int64_t pairs) {
  Taken taken;
  double sum = 0;
  for (std::size_t i = 0; i < column_of.size(); ++i) {
    if (column_of[i] < 0) continue;
    taken.push_back(column_of[i]);
    sum += cost[i * static_cast<std::size_t>(columns) + static_cast<std::size_t>(column_of[i])];
  }
  REQUIRE(static_cast<std::int64_t>(taken.size()) == pairs);
  std::sort(taken.begin(), taken.end());
  REQUIRE(std::adjacent_find(taken.begin(), taken.end()) == taken.end());
  return sum;
}

// Every choice of pairs.
double least_of(const Costs& cost, std::int64_t rows, std::int64_t columns, std::int64_t pairs,
                std::int64_t row = 0, unsigned taken = 0) {
  if (pairs == 0) return 0;
  if (row == rows) return std::numeric_limits<double>::infinity();
  double least = least_of(cost, rows, columns, pairs, row + 1, taken);
  for (std::int64_t j = 0; j < columns; ++j) {
    if ((taken >> j & 1U) != 0) continue;
    least = std::min(least, cost[static_cast<std::size_t>(row * columns + j)] +
                                least_of(cost, rows, columns, pairs - 1, row + 1, taken | 1U << j));
  }
  return least;
}

}  // namespace

TEST_CASE("partial_assignment: they are as cheap as the best choice of so many") {
  std::mt19937 random(5);
  std::normal_distribution<double> normal;
  for (std::int64_t rows = 1; rows <= 5; ++rows) {
    for (std::int64_t columns = 1; columns <= 6; ++columns) {
      for (int kind = 0; kind < 6; ++kind) {
        Costs cost(static_cast<std::size_t>(rows * columns));
        for (double& c : cost) {
          c = kind < 3    ? normal(random)  // of both signs
              : kind == 3 ? static_cast<double>(random() % 3)
                          : std::exp(12 * normal(random));
        }
        for (std::int64_t pairs = 0; pairs <= std::min(rows, columns); ++pairs) {
          INFO(rows << " x " << columns << ", kind " << kind << ", pairs " << pairs);
          REQUIRE(total_of(cost, columns, partially(cost, rows, columns, pairs), pairs) ==
                  Approx(least_of(cost, rows, columns, pairs)).epsilon(1e-12).margin(1e-12));
        }
      }
    }
  }
}

// With columns beside the others that cost nothing, for the rows to be left out, all rows have one.
// Pairs are added to none, or, where nearly all are made, taken from all.
TEST_CASE("partial_assignment: they are those of the whole problem with places for the others") {
  std::mt19937 random(6);
  std::normal_distribution<double> normal;
  const std::int64_t n = 60;
  for (const std::int64_t columns : {n, n + 7}) {
    for (const int kind : {0, 1, 2}) {
      Costs cost(static_cast<std::size_t>(n * columns));
      for (double& c : cost) {
        c = kind == 0   ? std::exp(normal(random))
            : kind == 1 ? 1 + static_cast<double>(random() % 4)
                        : 10 + normal(random) + 100 * static_cast<double>(random() % 5 == 0);
      }
      for (const std::int64_t pairs : {1, 20, 45, 54, 55, 58, 59, 60}) {
        Costs wide;
        for (std::int64_t i = 0; i < n; ++i) {
          wide.insert(wide.end(), cost.begin() + i * columns, cost.begin() + (i + 1) * columns);
          wide.insert(wide.end(), static_cast<std::size_t>(n - pairs), 0.0);
        }
        const std::int64_t width = columns + n - pairs;
        const Taken found = fm::assign(wide, n, width);
        double expected = 0;
        for (std::int64_t i = 0; i < n; ++i)
          expected +=
              wide[static_cast<std::size_t>(i * width + found[static_cast<std::size_t>(i)])];
        INFO(columns << " columns, kind " << kind << ", pairs " << pairs);
        CHECK(total_of(cost, columns, partially(cost, n, columns, pairs), pairs) ==
              Approx(expected).epsilon(1e-12));
      }
      CHECK(partially(cost, n, columns, n) == fm::assign(cost, n, columns));
    }
  }
}

TEST_CASE("partial_assignment: of few columns, as of few rows") {
  std::mt19937 random(8);
  std::normal_distribution<double> normal;
  const std::int64_t rows = 40, columns = 30;
  Costs cost(static_cast<std::size_t>(rows * columns)), turned(cost.size());
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < columns; ++j) {
      turned[static_cast<std::size_t>(j * rows + i)] =
          cost[static_cast<std::size_t>(i * columns + j)] = normal(random);
    }
  }
  for (const std::int64_t pairs : {3, 20, 29, 30}) {
    INFO(pairs);
    CHECK(total_of(cost, columns, partially(cost, rows, columns, pairs), pairs) ==
          Approx(total_of(turned, rows, partially(turned, columns, rows, pairs), pairs))
              .epsilon(1e-12));
  }
}

TEST_CASE("partial_assignment: pairs that are not made take no digits of those that are") {
  // Costs near 1e-9 beside some near 1e280.
  std::mt19937 random(7);
  std::uniform_real_distribution<double> uniform;
  const std::int64_t n = 40;
  for (const std::int64_t far : {2, 10}) {
    INFO(far);
    Costs cost, small;
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t j = 0; j < n; ++j) {
        const bool near = i >= far && j < n - far;
        cost.push_back((near ? 1e-9 : 1e280) * uniform(random));
        if (near) small.push_back(cost.back());
      }
    }
    const Taken found = partially(cost, n, n, n - far);
    CHECK(std::all_of(found.begin(), found.begin() + far, [](auto j) { return j == -1; }));
    CHECK(Taken(found.begin() + far, found.end()) == fm::assign(small, n - far, n - far));
  }
}

TEST_CASE("partial_assignment: nothing to assign") {
  REQUIRE(partially({}, 0, 3, 0).empty());
  REQUIRE(partially({}, 2, 0, 0) == Taken{-1, -1});
  REQUIRE(partially({1, 2}, 1, 2, 0) == Taken{-1});
}

TEST_CASE("partial_assignment: numbers of pairs and costs that cannot be are refused") {
  require_error<fm::OptionError>([] { partially({1, 2}, 2, 1, 2); }, "2 pairs of 2 rows");
  require_error<fm::OptionError>([] { partially({1, 2}, 2, 1, -1); }, "choose from 0");
  require_error<fm::ShapeError>([] { partially({}, -1, 0, 0); }, "-1 rows");
  require_error<fm::DataError>([] { partially({NAN}, 1, 1, 1); }, "nan");
}
