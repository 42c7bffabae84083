#include "flowmatch/sample/renoise.hpp"

#include "flowmatch/sample/sampler.hpp"
#include "tests/support/test.hpp"

TEST_CASE("renoise: each step keeps the data that v points at, and no noise but new one") {
  fm::ode::Workspace<double> w;
  const auto to_three = [](double x, double t) { return (3 - x) / (1 - t); };
  const auto fixed = [](double) { return 0.25; };
  double x = -1;
  fm::Renoise{}.step(to_three, w, x, 0.2, 0.4, fixed);
  CHECK(x == Approx(0.6 * 3 + 0.4 * 0.25));
  fm::Renoise{}.step(to_three, w, x, 0.6, 0.4, fixed);
  CHECK(x == Approx(3));
  CHECK(w.evaluations == 2);
}

TEST_CASE("renoise: a model that reaches the data has its distribution after any steps") {
  // Data at -1 and 1; the consistency map of a distilled model, taken for granted: the sign of x_0.
  const auto model = [](const at::Tensor& y, const at::Tensor& time) {
    const at::Tensor t = fm::expand_time(time, y);
    return (y.sign() - y) / (1 - t);
  };
  for (const std::int64_t steps : {1, 2, 4}) {
    fm::Rng rng(1, test_device()), same(1, test_device());
    fm::Sampler sampler(model, fm::Renoise{}, fm::TimeGrid::uniform(steps));
    const at::Tensor x = sampler.sample({4000, 1}, rng);
    CHECK(close(x.abs(), torch::ones_like(x), 0, 1e-5));
    CHECK(x.mean().item<double>() == Approx(0).margin(0.06));
    CHECK(at::equal(sampler.sample({4000, 1}, same), x));
  }
  fm::Rng rng(2, test_device());
  fm::Sampler back(model, fm::Renoise{}, fm::TimeGrid::uniform(3, 1, 0));
  require_error<fm::OptionError>([&] { back.sample({2, 1}, rng); }, "from noise at 0");
}
