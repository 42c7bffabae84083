#include "flowmatch/solve/tensor_state.hpp"

#include <c10/core/CPUAllocator.h>

#include <atomic>
#include <limits>
#include <stdexcept>

#include "flowmatch/ode/integrate.hpp"
#include "flowmatch/ode/method.hpp"
#include "tests/support/test.hpp"

namespace ode = flowmatch::ode;
using Traits = ode::state_traits<at::Tensor>;

TEST_CASE("tensor_state: sums in place and functional sums agree") {
  static_assert(ode::State<at::Tensor>);
  torch::manual_seed(1);
  const at::Tensor x = on_device::randn({4, 3}, torch::kDouble);
  const std::vector<at::Tensor> k = {on_device::randn({4, 3}, torch::kDouble),
                                     on_device::randn({4, 3}, torch::kDouble),
                                     on_device::randn({4, 3}, torch::kDouble)};
  const std::vector<double> c = {0.5, 0, -2};
  const at::Tensor expected = x + 0.5 * k[0] - 2 * k[2];
  at::Tensor functional;
  Traits::combine(functional, x, c, k);
  CHECK(close(functional, expected));
  at::Tensor difference;
  Traits::difference(difference, c, k);
  CHECK(close(difference, 0.5 * k[0] - 2 * k[2]));

  const at::NoGradGuard no_grad;
  at::Tensor buffer;
  Traits::combine(buffer, x, c, k);
  const void* memory = buffer.data_ptr();
  Traits::combine(buffer, x, c, k);
  CHECK(buffer.data_ptr() == memory);
  CHECK(close(buffer, expected));
  at::Tensor own = x.clone();
  Traits::combine(own, own, c, k);
  CHECK(close(own, expected));
  Traits::combine(buffer, x, {}, {});
  CHECK(close(buffer, x));
  CHECK_FALSE(buffer.is_alias_of(x));
}

TEST_CASE("tensor_state: the norms equal their formulas and carry NaN") {
  const at::Tensor v = doubles({0.3, -0.4}), a = doubles({1, -2}), b = doubles({-3, 0});
  const at::Tensor r = (v / (0.2 + 0.1 * at::maximum(a.abs(), b.abs()))).abs();
  CHECK(Traits::norm(v, a, b, {0.1, 0.2, ode::ErrorNorm::rms}) ==
        Approx(r.square().mean().sqrt().item<double>()));
  CHECK(Traits::norm(v, a, b, {0.1, 0.2, ode::ErrorNorm::max}) == Approx(r.max().item<double>()));
  // The same with gaps between the elements, which no plain loop can do.
  const auto spread = [](const at::Tensor& x) { return at::stack({x, x + 9}, 1).select(1, 0); };
  for (const auto kind : {ode::ErrorNorm::rms, ode::ErrorNorm::max}) {
    CHECK(Traits::norm(spread(v), spread(a), spread(b), {0.1, 0.2, kind}) ==
          Approx(Traits::norm(v, a, b, {0.1, 0.2, kind})).epsilon(1e-14));
  }
  const at::Tensor bad = doubles({std::numeric_limits<double>::quiet_NaN(), 0});
  CHECK(std::isnan(Traits::norm(bad, a, b, {0.1, 0.2, ode::ErrorNorm::max})));
  CHECK(std::isnan(Traits::norm(bad, a, b, {})));
  CHECK(Traits::norm(on_device::empty({0}), on_device::empty({0}), on_device::empty({0}), {}) == 0);
}

TEST_CASE("tensor_state: a model's output is copied where someone else holds its memory") {
  const at::NoGradGuard no_grad;
  const at::Tensor x = on_device::ones({3});
  at::Tensor same = x;
  Traits::own(same, x);
  CHECK_FALSE(same.is_alias_of(x));
  at::Tensor view = x.view({3});
  Traits::own(view, x);
  CHECK_FALSE(view.is_alias_of(x));
  CHECK(at::equal(view, x));
  at::Tensor fresh = on_device::zeros({3});
  const void* memory = fresh.data_ptr();
  Traits::own(fresh, x);
  CHECK(fresh.data_ptr() == memory);
  at::Tensor other = on_device::zeros({2});
  require_error<fm::ShapeError>([&] { Traits::own(other, x); }, "the model's output has shape [2]");
}

TEST_CASE("tensor_state: a model's output takes the state's dtype and half norms do not overflow") {
  const at::Tensor x = on_device::ones({3});
  at::Tensor wide = on_device::full({3}, 2.0, torch::kDouble);
  Traits::own(wide, x);
  CHECK(wide.dtype() == torch::kFloat);
  const at::Tensor large = on_device::full({5}, 300.0, torch::kHalf);
  const at::Tensor zero = on_device::zeros({5}, torch::kHalf);
  CHECK(Traits::norm(large, zero, zero, {0, 1, ode::ErrorNorm::rms}) == Approx(300));
  CHECK(Traits::norm(large, zero, zero, {0, 1e-3, ode::ErrorNorm::max}) == Approx(3e5));
}

namespace {

/// LibTorch's CPU allocator, with a count of what it is asked for while this lives.
class CountingAllocator final : public c10::Allocator {
 public:
  CountingAllocator() { c10::SetCPUAllocator(this, 100); }
  ~CountingAllocator() override { c10::SetCPUAllocator(inner_, 100); }
  CountingAllocator(const CountingAllocator&) = delete;
  CountingAllocator& operator=(const CountingAllocator&) = delete;
  c10::DataPtr allocate(std::size_t n) override {
    ++count;
    return inner_->allocate(n);
  }
  c10::DeleterFnPtr raw_deleter() const override { return inner_->raw_deleter(); }
  void copy_data(void* to, const void* from, std::size_t n) const override {
    inner_->copy_data(to, from, n);
  }
  std::atomic<std::int64_t> count = 0;

 private:
  c10::Allocator* inner_ = c10::GetCPUAllocator();
};

/// Whether a solve five times as long allocates no more but for the model, which does so once an
/// evaluation. solve(f, x, n) gives its statistics.
template <class Solve>
bool allocates_at_first_only(std::int64_t size, Solve solve) {
  const at::NoGradGuard no_grad;
  const auto model = [](const at::Tensor& x, double) { return at::neg(x); };
  const auto solvers_own = [&](std::int64_t n) {
    at::Tensor x = on_device::ones({size});
    const CountingAllocator allocator;
    const std::int64_t evaluations = solve(model, x, n).evaluations;
    if (allocator.count < evaluations) throw std::logic_error("allocations are not counted");
    return allocator.count - evaluations;
  };
  return solvers_own(8) == solvers_own(40);
}

}  // namespace

// What the CPU's allocator is asked for.
TEST_CASE("tensor_state: after its first step a solve allocates nothing of its own", "[cpu]") {
  for (const char* name : {"euler", "midpoint", "heun2", "heun3", "rk4", "rk4_classic",
                           "explicit_adams", "implicit_adams", "bosh3", "tsit5", "dopri5"}) {
    INFO(name);
    ode::with_method(name, [&](auto method) {
      const auto fixed = [&](auto f, at::Tensor& x, std::int64_t n) {
        return ode::integrate(method, f, x, ode::TimeGrid::uniform(n));
      };
      CHECK(allocates_at_first_only(64, fixed));
      CHECK(allocates_at_first_only(100000, fixed));
      if constexpr (ode::ErrorStepper<decltype(method), at::Tensor>) {
        CHECK(allocates_at_first_only(64, [&](auto f, at::Tensor& x, std::int64_t n) {
          return ode::integrate(method, f, x, 0, 0.5 * static_cast<double>(n),
                                ode::AdaptiveOptions{});
        }));
      }
    });
  }
}

TEST_CASE("tensor_state: memory that was lent to LibTorch is neither kept nor written over",
          "[cpu]") {
  std::vector<float> buffer = {1, 2, 3};
  const at::Tensor x = on_device::ones({3});
  const auto answer = [&] { return at::from_blob(buffer.data(), {3}); };
  for (const bool gradients : {false, true}) {
    const at::AutoGradMode mode(gradients);
    at::Tensor k = answer();
    Traits::own(k, x);
    CHECK(k.data_ptr() != buffer.data());
    CHECK(at::equal(k, answer()));
  }
  const at::NoGradGuard no_grad;
  at::Tensor state = answer();
  ode::integrate(
      ode::Heun2{}, [](const at::Tensor& y, double) { return y.clone(); }, state,
      ode::TimeGrid::uniform(2));
  CHECK(buffer == std::vector<float>{1, 2, 3});
  CHECK(state[0].item<double>() == Approx(1.625 * 1.625));
}
