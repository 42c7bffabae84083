#include "flowmatch/model/guidance.hpp"

#include <limits>
#include <tuple>

#include "flowmatch/sample/likelihood.hpp"
#include "flowmatch/sample/method.hpp"
#include "flowmatch/sample/sampler.hpp"
#include "tests/support/networks.hpp"

namespace {

/// v = label + x, and how many samples it was asked for.
struct Labelled {
  std::int64_t* samples;
  at::Tensor operator()(const at::Tensor& x, const at::Tensor&, const at::Tensor& label) const {
    *samples += x.size(0);
    return label.to(x.scalar_type()).unsqueeze(1) + x;
  }
};

}  // namespace

TEST_CASE("guidance: classifier-free, both velocities come of one call with twice the samples") {
  std::int64_t samples = 0;
  const at::Tensor x = on_device::rand({3, 2}), t = on_device::full({3}, 0.5);
  const at::Tensor label = on_device::tensor({1, 2, 3}), null = on_device::tensor({10});
  fm::ClassifierFreeGuidance guided(Labelled{&samples}, null, fm::LinearGuidance(3));
  static_assert(fm::VelocityModel<decltype(guided), at::Tensor>);
  const at::Tensor expected = x + (10 + 3 * (label - 10)).unsqueeze(1);
  CHECK(close(fm::call_model(guided, x, t, label), expected, 1e-6, 1e-6));
  CHECK(samples == 6);
  // A scale of 1 asks for the condition alone.
  samples = 0;
  fm::ClassifierFreeGuidance alone(Labelled{&samples}, null, fm::LinearGuidance(1));
  CHECK(close(fm::call_model(alone, x, t, label), x + label.unsqueeze(1), 1e-6, 1e-6));
  CHECK(samples == 3);
}

TEST_CASE("guidance: conditions of any type, in Sampler and Likelihood alike") {
  using Two = std::tuple<at::Tensor, at::Tensor>;
  const auto model = [](const at::Tensor& x, const at::Tensor&, const Two& c) {
    return -x + std::get<0>(c) * std::get<1>(c).unsqueeze(1).to(x.scalar_type());
  };
  const Two null{on_device::zeros({1, 1}, torch::kDouble), on_device::tensor({1})};
  fm::ClassifierFreeGuidance guided(model, null, fm::LinearGuidance(2));
  const Two condition{on_device::rand({4, 1}, torch::kDouble), on_device::tensor({1, 2, 3, 4})};
  // v = -x + 2 a b, whose solution from x_0 is known.
  const at::Tensor x_0 = on_device::randn({4, 1}, torch::kDouble);
  const at::Tensor goal = 2 * std::get<0>(condition) * std::get<1>(condition).unsqueeze(1);
  const at::Tensor expected = goal + (x_0 - goal) * std::exp(-1.0);
  fm::Sampler sampler(guided, fm::ode::Dopri5{}, fm::AdaptiveOptions{.rtol = 1e-10, .atol = 1e-10});
  CHECK(close(sampler.sample_from(x_0, condition), expected, 1e-8, 1e-8));
  fm::Likelihood likelihood(guided, fm::ode::Dopri5{},
                            fm::AdaptiveOptions{.rtol = 1e-10, .atol = 1e-10});
  const auto result = likelihood.log_prob(expected, condition);
  const at::Tensor normal = -0.5 * (x_0.square() + std::log(2 * M_PI)).squeeze(1);
  CHECK(close(result.log_prob, normal + 1, 1e-7, 1e-7));  // the divergence is -1
}

TEST_CASE("guidance: modules in it are put into evaluation mode") {
  torch::manual_seed(1);
  networks::Mlp net, weak;
  net->train();
  weak->train();
  fm::Autoguidance guided(net, weak, fm::LinearGuidance(1.5));
  bool all = true;
  int seen = 0;
  const fm::EvalScope eval(guided);
  fm::for_each_module(guided, [&](const torch::nn::Module& m) {
    all = all && !m.is_training();
    ++seen;
  });
  CHECK(all);
  CHECK(seen == 2);
}

TEST_CASE("guidance: of two models the worse one is gone away from") {
  const auto good = [](const at::Tensor& x, const at::Tensor&) { return x; };
  int asked = 0;
  const auto bad = [&](const at::Tensor& x, const at::Tensor&) {
    ++asked;
    return 2 * x;
  };
  const at::Tensor x = on_device::rand({3, 2}), t = on_device::tensor({0.1F, 0.5F, 0.9F});
  fm::Autoguidance guided(good, bad, fm::LinearGuidance(3));
  CHECK(close(fm::call_model(guided, x, t), -x, 1e-6, 1e-6));  // 2x + 3 (x - 2x)
  CHECK(asked == 1);
  // In an interval of times only; outside the worse one is not asked where a look at the times
  // costs nothing.
  fm::Autoguidance some(good, bad, fm::IntervalGuidance(fm::LinearGuidance(3), 0.4, 0.6));
  const at::Tensor v = fm::call_model(some, x, t);
  CHECK(close(v[0], x[0], 0, 0));
  CHECK(close(v[1], -x[1], 1e-6, 1e-6));
  CHECK(close(v[2], x[2], 0, 0));
  asked = 0;
  fm::call_model(some, x, on_device::full({3}, 0.7F));
  CHECK(asked == (test_device().is_cpu() ? 0 : 1));
}

TEST_CASE("guidance: CFG-Zero* scales the worse velocity to fit, and begins at zero") {
  const at::Tensor good = on_device::tensor({{1.0F, 2.0F}, {3.0F, 0.0F}});
  const at::Tensor bad = on_device::tensor({{2.0F, 0.0F}, {1.0F, 1.0F}});
  const at::Tensor x = on_device::rand({2, 2}), t = on_device::tensor({0.0F, 0.3F});
  // Fits: <good, bad> / |bad|^2 = 0.5 and 1.5.
  const at::Tensor fitted = bad * on_device::tensor({{0.5F}, {1.5F}});
  const at::Tensor v = fm::ZeroStarGuidance(2)(good, bad, x, t);
  CHECK(at::equal(v[0], on_device::zeros({2})));
  CHECK(close(v[1], fitted[1] + 2 * (good[1] - fitted[1]), 1e-6, 1e-6));
  CHECK(close(fm::ZeroStarGuidance(2, -1)(good, bad, x, t), fitted + 2 * (good - fitted), 1e-6,
              1e-6));
}

TEST_CASE("guidance: projected, the part along the prediction of x_1 is left out") {
  torch::manual_seed(2);
  const at::Tensor good = on_device::randn({3, 4}, torch::kDouble), bad = torch::randn_like(good);
  const at::Tensor x = torch::randn_like(good), t = doubles({0.1, 0.5, 0.9});
  const at::Tensor x_1 = x + (1 - t).unsqueeze(1) * good;
  const at::Tensor v = fm::ProjectedGuidance(3)(good, bad, x, t);
  CHECK(close(((v - good) * x_1).sum(1), on_device::zeros({3}, torch::kDouble), 0, 1e-12));
  // All of it kept is linear guidance.
  CHECK(close(fm::ProjectedGuidance(3, {.parallel = 1})(good, bad, x, t),
              fm::LinearGuidance(3)(good, bad, x, t), 1e-12, 1e-12));
  const at::Tensor bounded =
      fm::ProjectedGuidance(2, {.parallel = 1, .threshold = 0.1})(good, bad, x, t);
  const at::Tensor norm = ((bounded - good) * (1 - t).unsqueeze(1)).square().sum(1).sqrt();
  CHECK(norm.max().item<double>() <= 0.1 + 1e-12);
  // What is below the threshold stays as it is.
  const double longest =
      ((good - bad) * (1 - t).unsqueeze(1)).square().sum(1).sqrt().max().item<double>();
  CHECK(close(fm::ProjectedGuidance(2, {.threshold = 1.5 * longest})(good, bad, x, t),
              fm::ProjectedGuidance(2)(good, bad, x, t), 1e-12, 1e-12));
}

TEST_CASE("guidance: what cannot be is refused") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  require_error<fm::OptionError>([&] { fm::LinearGuidance{nan}; }, "scale of nan");
  require_error<fm::OptionError>([&] { fm::ZeroStarGuidance{nan}; }, "scale of nan");
  require_error<fm::OptionError>([&] { fm::ZeroStarGuidance(2, 1); }, "below 1");
  require_error<fm::OptionError>([&] { fm::ProjectedGuidance(2, {.parallel = 2}); }, "[0, 1]");
  require_error<fm::OptionError>([&] { fm::ProjectedGuidance(2, {.threshold = -1}); },
                                 "at least 0");
  require_error<fm::OptionError>([&] { fm::IntervalGuidance(fm::LinearGuidance(2), 0.6, 0.4); },
                                 "interval");
  const auto model = [](const at::Tensor& x, const at::Tensor&, const at::Tensor&) { return x; };
  require_error<fm::ShapeError>(
      [&] {
        fm::ClassifierFreeGuidance(model, on_device::tensor({1, 2}), fm::LinearGuidance(2));
      },
      "2 entries for 1 samples");
  const auto narrow = [](const at::Tensor& x, const at::Tensor&, const at::Tensor&) {
    return x.slice(1, 0, 1);
  };
  fm::ClassifierFreeGuidance wrong(narrow, on_device::tensor({1}), fm::LinearGuidance(2));
  require_error<fm::ShapeError>(
      [&] {
        wrong(on_device::zeros({2, 2}), on_device::zeros({2}), on_device::zeros({2}));
      },
      "the model's output");
}
