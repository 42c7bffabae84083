#include "flowmatch/coupling/coupling.hpp"

#include "flowmatch/coupling/independent.hpp"
#include "tests/support/test.hpp"

namespace {

/// Pairs each x_1 with its mirror image.
struct Mirror {
  template <class C>
  fm::Coupled<C> operator()(const fm::Batch<C>& batch, fm::Rng&) const {
    return {-batch.x_1, batch.x_1, batch.condition};
  }
};
struct OnlyX0 {
  at::Tensor operator()(const fm::Batch<>& batch, fm::Rng&) const { return batch.x_1; }
};

}  // namespace

TEST_CASE("coupling: the concept takes couplings of any condition and refuses the rest") {
  static_assert(fm::Coupling<fm::IndependentCoupling<>>);
  static_assert(fm::Coupling<fm::IndependentCoupling<>, at::Tensor>);
  static_assert(fm::Coupling<fm::IndependentCoupling<fm::PairedSource>>);
  static_assert(fm::Coupling<Mirror> && fm::Coupling<Mirror, std::tuple<at::Tensor, at::Tensor>>);
  static_assert(!fm::Coupling<OnlyX0>);
  static_assert(!fm::Coupling<fm::GaussianSource>);
  static_assert(!fm::Coupling<fm::IndependentCoupling<int>>);
  fm::Rng rng(0, test_device());
  CHECK(Mirror{}(fm::Batch<>{on_device::ones({1})}, rng).x_0.item<float>() == -1);
}
