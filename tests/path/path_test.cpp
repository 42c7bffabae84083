#include "flowmatch/path/path.hpp"

#include "tests/support/test.hpp"

namespace {

struct Plain {
  fm::PathSample sample(const at::Tensor&, const at::Tensor&, const at::Tensor&) const;
};
struct Random {
  fm::PathSample sample(const at::Tensor&, const at::Tensor&, const at::Tensor&, fm::Rng&) const;
};
struct More : fm::PathSample {
  at::Tensor second_time;
};
struct HoldsMore {
  More sample(const at::Tensor&, const at::Tensor&, const at::Tensor&) const;
};
struct NotConst {
  fm::PathSample sample(const at::Tensor&, const at::Tensor&, const at::Tensor&);
};
struct OtherResult {
  at::Tensor sample(const at::Tensor&, const at::Tensor&, const at::Tensor&) const;
};
struct MoveOnly : Plain {
  MoveOnly(MoveOnly&&) = default;
};

}  // namespace

TEST_CASE("path: the concepts tell plain and random paths from anything else") {
  static_assert(fm::ProbPath<Plain> && !fm::StochasticPath<Plain>);
  static_assert(fm::StochasticPath<Random> && !fm::ProbPath<Random>);
  static_assert(fm::ProbPath<HoldsMore>);
  static_assert(!fm::ProbPath<NotConst>);
  static_assert(!fm::ProbPath<OtherResult>);
  static_assert(!fm::ProbPath<MoveOnly>);
  static_assert(!fm::ProbPath<int> && !fm::StochasticPath<int>);
}
