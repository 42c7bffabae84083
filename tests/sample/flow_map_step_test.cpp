#include "flowmatch/sample/flow_map_step.hpp"

#include "flowmatch/model/flow_map.hpp"
#include "flowmatch/sample/sampler.hpp"
#include "tests/support/gaussian_flow.hpp"
#include "tests/support/networks.hpp"

namespace {

/// Where the Gaussian flow takes x from t to r.
at::Tensor moved(const at::Tensor& x, const at::Tensor& t, const at::Tensor& r) {
  using gaussian_flow::mu, gaussian_flow::s;
  const auto spread = [](const at::Tensor& time) {
    return ((1 - time).square() + s * s * time.square()).sqrt();
  };
  return r * mu + spread(r) / spread(t) * (x - t * mu);
}

const auto map_of_flow = [](const at::Tensor& x, const at::Tensor& from, const at::Tensor& to) {
  const at::Tensor t = fm::expand_time(from, x), r = fm::expand_time(to, x);
  return at::where(r == t, gaussian_flow::velocity(x, from), (moved(x, t, r) - x) / (r - t));
};

struct LabelledImpl : torch::nn::Module {
  LabelledImpl() { weight = register_parameter("weight", on_device::ones({1}, torch::kBFloat16)); }
  at::Tensor forward(const at::Tensor& x, const at::Tensor& t, const at::Tensor& r,
                     const at::Tensor& label) {
    seen = {x.scalar_type(), t.scalar_type(), r.scalar_type()};
    training = is_training();
    return (label.unsqueeze(1) + (t + r).unsqueeze(1)).to(x.scalar_type()) + 0 * x;
  }
  at::Tensor weight;
  std::vector<at::ScalarType> seen;
  bool training = true;
};
TORCH_MODULE(Labelled);

}  // namespace

TEST_CASE("flow_map_step: an exact map goes from any time to any other in one step") {
  fm::Rng rng(1, test_device());
  const at::Tensor x_0 = rng.normal({100, 2}, at::kDouble);
  const at::Tensor end = gaussian_flow::mu + gaussian_flow::s * x_0;
  for (const auto& grid :
       {fm::TimeGrid::uniform(1), fm::TimeGrid::uniform(7), fm::TimeGrid::nodes({0, 0.9, 1})}) {
    fm::Sampler sampler(fm::FlowMap{map_of_flow}, fm::FlowMapStep{}, grid);
    const auto result = sampler.solve(x_0);
    CHECK(close(result.x, end, 0, 1e-12));
    CHECK(result.statistics.evaluations == static_cast<std::int64_t>(grid.steps().size()));
  }
  fm::Sampler back(fm::FlowMap{map_of_flow}, fm::FlowMapStep{}, fm::TimeGrid::uniform(2, 1, 0));
  CHECK(close(back.sample_from(end), x_0, 0, 1e-12));
  // By other methods it is the flow's velocity.
  fm::Sampler euler(fm::FlowMap{map_of_flow}, fm::ode::Euler{}, fm::TimeGrid::uniform(9));
  fm::Sampler velocity(gaussian_flow::flow, fm::ode::Euler{}, fm::TimeGrid::uniform(9));
  CHECK(close(euler.sample_from(x_0), velocity.sample_from(x_0), 0, 1e-12));
}

TEST_CASE("flow_map_step: a module gets x in its dtype, times in float32, and its own condition") {
  static_assert(fm::FlowMapModel<Labelled, at::Tensor> && !fm::FlowMapModel<Labelled>);
  static_assert(fm::FlowMapModel<decltype(map_of_flow)> && !fm::FlowMapModel<networks::Mlp>);
  Labelled net;
  fm::Sampler sampler(fm::FlowMap{net}, fm::FlowMapStep{}, fm::TimeGrid::uniform(2),
                      {.batch_size = 2});
  const at::Tensor x = sampler.sample_from(on_device::zeros({3, 2}), on_device::tensor({1, 2, 3}));
  // Steps of 1/2: label + 0.5, label + 1.5.
  CHECK(close(x, on_device::tensor({{2.0F}, {3.0F}, {4.0F}}).expand({3, 2}), 0, 1e-2));
  CHECK(net->seen == std::vector<at::ScalarType>{at::kBFloat16, at::kFloat, at::kFloat});
  CHECK_FALSE(net->training);
  CHECK(net->is_training());
}

TEST_CASE("flow_map_step: an output of another shape is refused") {
  const auto narrow = [](const at::Tensor& x, const at::Tensor&, const at::Tensor&) {
    return x.slice(1, 0, 1);
  };
  fm::Sampler sampler(fm::FlowMap{narrow}, fm::FlowMapStep{}, fm::TimeGrid::uniform(1));
  require_error<fm::ShapeError>(
      [&] {
        sampler.sample_from(on_device::zeros({3, 2}));
      },
      "the model's output");
}
