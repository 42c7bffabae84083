#include "flowmatch/core/assignment.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include "flowmatch/core/error.hpp"
#include "tests/support/test_std.hpp"

namespace fm = flowmatch;

namespace {

using Matrix = std::vector<double>;
using Columns = std::vector<std::int64_t>;

double total(const Matrix& cost, std::int64_t columns, const Columns& column_of) {
  double sum = 0;
  for (std::size_t i = 0; i < column_of.size(); ++i)
    sum += cost[i * static_cast<std::size_t>(columns) + static_cast<std::size_t>(column_of[i])];
  return sum;
}

// Every way to give the rows columns of their own.
double least_by_trying(const Matrix& cost, std::int64_t rows, std::int64_t columns) {
  Columns order(static_cast<std::size_t>(columns));
  std::iota(order.begin(), order.end(), 0);
  double least = std::numeric_limits<double>::infinity();
  do {
    const Columns chosen(order.begin(), order.begin() + rows);
    least = std::min(least, total(cost, columns, chosen));
  } while (std::next_permutation(order.begin(), order.end()));
  return least;
}

bool all_distinct(Columns columns) {
  std::sort(columns.begin(), columns.end());
  return std::adjacent_find(columns.begin(), columns.end()) == columns.end();
}

}  // namespace

TEST_CASE("assignment: as cheap as the best of all pairings") {
  std::mt19937 random(1);
  std::normal_distribution<double> normal;
  for (std::int64_t rows = 1; rows <= 6; ++rows) {
    for (std::int64_t columns = rows; columns <= 7; ++columns) {
      for (int trial = 0; trial < 5; ++trial) {
        Matrix cost(static_cast<std::size_t>(rows * columns));
        for (double& c : cost) c = normal(random);
        const Columns found = fm::assign(cost, rows, columns);
        INFO(rows << " x " << columns << ", trial " << trial);
        REQUIRE(found.size() == static_cast<std::size_t>(rows));
        REQUIRE(all_distinct(found));
        REQUIRE(total(cost, columns, found) ==
                Approx(least_by_trying(cost, rows, columns)).margin(1e-12));
      }
    }
  }
}

// With a column that nobody wants the problem is not square, and solved without the auction.
TEST_CASE("assignment: the auction of square problems changes the total by nothing") {
  std::mt19937 random(2);
  std::normal_distribution<double> normal;
  const std::int64_t n = 70;
  const auto at = [](std::int64_t row, std::int64_t column, std::int64_t columns) {
    return static_cast<std::size_t>(row * columns + column);
  };
  for (const int kind : {0, 1, 2, 3, 4, 5}) {
    INFO(kind);
    Matrix points(static_cast<std::size_t>(4 * n));
    for (double& p : points) p = normal(random);
    Matrix square(static_cast<std::size_t>(n * n));
    Matrix wide(static_cast<std::size_t>(n * (n + 1)), 1e40);
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t j = 0; j < n; ++j) {
        const double dx = points[at(i, 0, 2)] - points[at(n + j, 0, 2)];
        const double dy = points[at(i, 1, 2)] - points[at(n + j, 1, 2)];
        const double distance = dx * dx + dy * dy;
        const double cost = kind == 0   ? distance
                            : kind == 1 ? distance + (i % 3 == j % 3 ? 0 : 1e6)
                            : kind == 2 ? std::floor(2 * distance)
                            : kind == 3 ? static_cast<double>(i * j)
                            : kind == 4
                                ? distance + 100 * static_cast<double>(i * i)
                                : std::exp(12 * normal(random));  // takes no digits of small ones
        square[at(i, j, n)] = wide[at(i, j, n + 1)] = cost;
      }
    }
    const Columns found = fm::assign(square, n, n);
    REQUIRE(all_distinct(found));
    CHECK(total(square, n, found) ==
          Approx(total(wide, n + 1, fm::assign(wide, n, n + 1))).epsilon(1e-9));
  }
}

TEST_CASE("assignment: equal costs are no trouble") {
  std::mt19937 random(2);
  for (int trial = 0; trial < 50; ++trial) {
    Matrix cost(36);
    for (double& c : cost) c = static_cast<double>(random() % 3);
    const Columns found = fm::assign(cost, 6, 6);
    REQUIRE(all_distinct(found));
    REQUIRE(total(cost, 6, found) == least_by_trying(cost, 6, 6));
  }
  REQUIRE(all_distinct(fm::assign(Matrix(10000, 7.0), 100, 100)));
}

TEST_CASE("assignment: points on a line are paired in order") {
  // For a convex cost the optimum is known at any size: the k-th smallest with the k-th smallest.
  std::mt19937 random(3);
  std::normal_distribution<double> normal;
  constexpr std::size_t n = 300;
  Matrix x(n), y(n), cost(n * n);
  for (double& v : x) v = normal(random);
  for (double& v : y) v = 3 + 2 * normal(random);
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = 0; j < n; ++j) cost[i * n + j] = (x[i] - y[j]) * (x[i] - y[j]);
  const Columns found = fm::assign(cost, n, n);
  const auto rank = [](const Matrix& values, double v) {
    return std::count_if(values.begin(), values.end(), [&](double w) { return w < v; });
  };
  for (std::size_t i = 0; i < n; ++i)
    REQUIRE(rank(x, x[i]) == rank(y, y[static_cast<std::size_t>(found[i])]));
}

TEST_CASE("assignment: nothing to assign") {
  REQUIRE(fm::assign({}, 0, 0).empty());
  REQUIRE(fm::assign({}, 0, 3).empty());
}

TEST_CASE("assignment: sizes that do not fit and costs that are no numbers are refused") {
  require_error<fm::ShapeError>([] { fm::assign({1, 2, 3}, 2, 2); }, "with 3 costs");
  require_error<fm::ShapeError>([] { fm::assign({1, 2}, 2, 1); }, "at least as many columns");
  require_error<fm::ShapeError>([] { fm::assign({}, -1, 0); }, "-1 rows");
  require_error<fm::ShapeError>(
      [] { fm::assign({}, std::int64_t{1} << 32U, std::int64_t{1} << 32U); }, "with 0 costs");
  for (const double bad : {std::numeric_limits<double>::quiet_NaN(),
                           std::numeric_limits<double>::infinity(), 1.1e290}) {
    require_error<fm::DataError>([&] { fm::assign({1, bad, 2, 3}, 2, 2); }, "give finite costs");
  }
  CHECK(fm::assign({1, 1e290, 2, 1}, 2, 2) == Columns{0, 1});
}
