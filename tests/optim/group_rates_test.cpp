#include "flowmatch/optim/group_rates.hpp"

#include <memory>
#include <vector>

#include "tests/support/test.hpp"

namespace {

std::vector<at::Tensor> two_parameters() {
  return {on_device::ones({3}, torch::kDouble).requires_grad_(),
          on_device::full({2, 2}, 0.5, torch::kDouble).requires_grad_()};
}

}  // namespace

TEST_CASE("group_rates: a schedule multiplies each group's own rate") {
  auto parameters = two_parameters();
  std::vector<torch::optim::OptimizerParamGroup> groups;
  groups.emplace_back(std::vector<at::Tensor>{parameters[0]});
  groups.emplace_back(std::vector<at::Tensor>{parameters[1]},
                      std::make_unique<torch::optim::AdamWOptions>(
                          torch::optim::AdamWOptions(0.125).betas({0.5, 0.75})));
  fm::FusedAdamW adamw(groups, torch::optim::AdamWOptions(0.5));
  const auto rate = [&](std::size_t i) { return adamw.param_groups()[i].options().get_lr(); };
  const auto betas = [&](std::size_t i) {
    return static_cast<torch::optim::AdamWOptions&>(adamw.param_groups()[i].options()).betas();
  };
  fm::GroupRates rates(adamw);
  REQUIRE(rate(0) == 0.5);
  REQUIRE(rate(1) == 0.125);
  for (const double factor : {0.5, 0.25, 1.0, 0.0, 0.75}) {
    rates.scale(adamw, {factor, 0.875});
    REQUIRE(rate(0) == 0.5 * factor);
    REQUIRE(rate(1) == 0.125 * factor);
    REQUIRE(betas(1) == std::make_tuple(0.875, 0.75));
    REQUIRE(betas(0) == std::make_tuple(0.875, 0.999));
  }
  adamw.param_groups()[1].options().set_lr(2);  // the caller's word
  rates.scale(adamw, {0.5, {}});
  REQUIRE(rate(0) == 0.25);
  REQUIRE(rate(1) == 1);
  adamw.param_groups()[0].options().set_lr(0.375);  // as a saved state does
  rates.keep(adamw);
  rates.scale(adamw, {1, {}});
  REQUIRE(rate(0) == 0.5);
  REQUIRE(rate(1) == 2);
}

TEST_CASE("group_rates: groups' own rates are kept as text and come back with every digit") {
  auto parameters = two_parameters();
  std::vector<torch::optim::OptimizerParamGroup> groups;
  groups.emplace_back(std::vector<at::Tensor>{parameters[0]});
  groups.emplace_back(std::vector<at::Tensor>{parameters[1]},
                      std::make_unique<torch::optim::SGDOptions>(0.125));
  torch::optim::SGD sgd(groups, torch::optim::SGDOptions(0.5));
  const auto rate = [&](std::size_t i) { return sgd.param_groups()[i].options().get_lr(); };
  fm::GroupRates rates(sgd);
  rates.scale(sgd, {0.25, {}});
  REQUIRE(rates.text(sgd) == "0.5 0.125");
  sgd.param_groups()[1].options().set_lr(1.0 / 3);  // since the last step
  REQUIRE(rates.text(sgd) == fmt::format("0.5 {}", 1.0 / 3));
  rates.scale(sgd, {0.25, {}});
  const std::string text = rates.text(sgd);
  REQUIRE(text == fmt::format("0.5 {}", 1.0 / 3));

  fm::GroupRates again(sgd);  // whose groups were made with what the state has brought
  again.keep(sgd, text);
  again.scale(sgd, {0.5, {}});
  REQUIRE(rate(0) == 0.25);
  REQUIRE(rate(1) == 1.0 / 3 * 0.5);
  for (const char* wrong : {"0.5", "0.5 0.25 1", "0.5 x", "0.5 ", " "}) {
    require_error<fm::CheckpointError>([&] { again.keep(sgd, wrong); },
                                       "are not of the optimizer's 2");
  }
}
