#include "flowmatch/optim/optimizer.hpp"

#include <memory>
#include <vector>

#include "tests/support/test.hpp"

namespace {

std::vector<at::Tensor> some_parameters() {
  return {on_device::ones({3}, torch::kDouble).requires_grad_(),
          on_device::full({2, 2}, 0.5, torch::kDouble).requires_grad_()};
}

template <class Options>
const Options& options_of(torch::optim::Optimizer& optimizer) {
  auto* options = dynamic_cast<Options*>(&optimizer.param_groups().front().options());
  REQUIRE(options != nullptr);
  return *options;
}

at::Tensor complex_parameter() {
  return on_device::ones({2}, torch::kComplexFloat).requires_grad_();
}

}  // namespace

TEST_CASE("optimizer: adam and adamw hand their settings on and are fused") {
  const auto adam = fm::make_optimizer(
      fm::adam({.beta1 = 0.8, .beta2 = 0.99, .eps = 1e-5, .weight_decay = 0.1, .amsgrad = true}),
      some_parameters(), 3e-4);
  REQUIRE(dynamic_cast<fm::FusedAdam*>(adam.get()) != nullptr);
  const auto& a = options_of<torch::optim::AdamOptions>(*adam);
  REQUIRE(a.lr() == 3e-4);
  REQUIRE(a.betas() == std::make_tuple(0.8, 0.99));
  REQUIRE(a.eps() == 1e-5);
  REQUIRE(a.weight_decay() == 0.1);
  REQUIRE(a.amsgrad());

  const auto adamw = fm::make_optimizer(fm::adamw(), some_parameters(), 1e-3);
  REQUIRE(dynamic_cast<fm::FusedAdamW*>(adamw.get()) != nullptr);
  const auto& w = options_of<torch::optim::AdamWOptions>(*adamw);
  REQUIRE(w.weight_decay() == 1e-2);
  REQUIRE(w.betas() == std::make_tuple(0.9, 0.999));
  REQUIRE(w.eps() == 1e-8);
  REQUIRE(!w.amsgrad());
}

TEST_CASE("optimizer: sgd and rmsprop hand their settings on") {
  const auto sgd = fm::make_optimizer(fm::sgd(0.9, 1e-4, true), some_parameters(), 0.1);
  const auto& s = options_of<torch::optim::SGDOptions>(*sgd);
  REQUIRE(s.lr() == 0.1);
  REQUIRE(s.momentum() == 0.9);
  REQUIRE(s.weight_decay() == 1e-4);
  REQUIRE(s.nesterov());
  REQUIRE(
      !options_of<torch::optim::SGDOptions>(*fm::make_optimizer(fm::sgd(), some_parameters(), 0.1))
           .nesterov());

  const auto rmsprop = fm::make_optimizer(fm::rmsprop(0.95, 0.5, 1e-3), some_parameters(), 0.2);
  const auto& r = options_of<torch::optim::RMSpropOptions>(*rmsprop);
  REQUIRE(r.lr() == 0.2);
  REQUIRE(r.alpha() == 0.95);
  REQUIRE(r.momentum() == 0.5);
  REQUIRE(r.weight_decay() == 1e-3);
}

TEST_CASE("optimizer: factories refuse settings out of range and say which") {
  const auto refused = [](fm::AdamSettings settings, const std::string& part) {
    require_error<fm::OptionError>([&] { fm::adam(settings); }, "adam beta1");
    require_error<fm::OptionError>([&] { fm::adam(settings); }, part);
    require_error<fm::OptionError>([&] { fm::adamw(settings); }, part);
  };
  refused({.beta1 = 1}, "beta1 1 ");
  refused({.beta1 = -0.5}, "beta1 -0.5 ");
  refused({.beta1 = nan_value}, "beta1 nan ");
  refused({.beta2 = 1}, "beta2 1 ");
  refused({.beta2 = nan_value}, "beta2 nan ");
  refused({.eps = -1e-8}, "eps -1e-08 ");
  refused({.eps = nan_value}, "eps nan ");
  refused({.eps = infinity}, "eps inf ");
  refused({.weight_decay = -1}, "weight_decay -1;");
  refused({.weight_decay = nan_value}, "weight_decay nan;");
  refused({.weight_decay = infinity}, "weight_decay inf;");

  require_error<fm::OptionError>([] { fm::sgd(1); }, "sgd momentum 1 ");
  require_error<fm::OptionError>([] { fm::sgd(-0.1); }, "momentum -0.1");
  require_error<fm::OptionError>([] { fm::sgd(nan_value); }, "momentum nan");
  require_error<fm::OptionError>([] { fm::sgd(0, -1); }, "weight_decay -1");
  require_error<fm::OptionError>([] { fm::sgd(0, infinity); }, "weight_decay inf");
  require_error<fm::OptionError>([] { fm::sgd(0, 0, true); }, "Nesterov");

  require_error<fm::OptionError>([] { fm::rmsprop(1); }, "alpha 1 ");
  require_error<fm::OptionError>([] { fm::rmsprop(nan_value); }, "alpha nan");
  require_error<fm::OptionError>([] { fm::rmsprop(0.99, 1); }, "momentum 1 ");
  require_error<fm::OptionError>([] { fm::rmsprop(0.99, 0, -1); }, "weight_decay -1");
}

TEST_CASE("optimizer: descriptions are short and tell settings apart") {
  REQUIRE(fm::adam({.eps = 1e-5}).description ==
          "adam beta1 0.9 beta2 0.999 eps 1e-05 weight_decay 0");
  REQUIRE(fm::adamw({.weight_decay = 0.01, .amsgrad = true}).description ==
          "adamw beta1 0.9 beta2 0.999 eps 1e-08 weight_decay 0.01 amsgrad");
  REQUIRE(fm::sgd(0.9, 0, true).description == "sgd momentum 0.9 weight_decay 0 nesterov");
  REQUIRE(fm::rmsprop().description == "rmsprop alpha 0.99 momentum 0 weight_decay 0");
  REQUIRE(fm::adam({.weight_decay = 1e-8}).description !=
          fm::adam({.weight_decay = 2e-8}).description);
}

TEST_CASE("optimizer: an optimizer that needs a closure or none at all is refused") {
  const fm::OptimizerFactory lbfgs{
      "lbfgs", [](std::vector<at::Tensor> parameters, double learning_rate) {
        return std::make_unique<torch::optim::LBFGS>(std::move(parameters),
                                                     torch::optim::LBFGSOptions(learning_rate));
      }};
  require_error<fm::OptionError>([&] { fm::make_optimizer(lbfgs, some_parameters(), 0.1); },
                                 "LBFGS needs a closure");
  require_error<fm::OptionError>([] { fm::make_optimizer({}, some_parameters(), 0.1); },
                                 "the optimizer factory made none");
  const fm::OptimizerFactory nothing{"nothing", [](std::vector<at::Tensor>, double) {
                                       return std::unique_ptr<torch::optim::Optimizer>();
                                     }};
  require_error<fm::OptionError>([&] { fm::make_optimizer(nothing, some_parameters(), 0.1); },
                                 "the optimizer factory made none");
}

TEST_CASE("optimizer: a model without a parameter to train is refused") {
  require_error<fm::OptionError>([] { fm::make_optimizer(fm::adam(), {}, 0.1); },
                                 "no parameters to train");
  require_error<fm::OptionError>(
      [] { fm::make_optimizer(fm::adam(), {on_device::ones({2})}, 0.1); },
      "leave requires_grad set");
}

TEST_CASE("optimizer: any other class comes in through a factory of one's own") {
  const fm::OptimizerFactory adagrad{
      "adagrad", [](std::vector<at::Tensor> parameters, double learning_rate) {
        return std::make_unique<torch::optim::Adagrad>(std::move(parameters),
                                                       torch::optim::AdagradOptions(learning_rate));
      }};
  const auto optimizer = fm::make_optimizer(adagrad, some_parameters(), 0.25);
  REQUIRE(optimizer->param_groups().front().options().get_lr() == 0.25);
  fm::set_rates(*optimizer, 0.5, 0.9);  // it has no momentum to set
  REQUIRE(optimizer->param_groups().front().options().get_lr() == 0.5);
}

TEST_CASE("optimizer: set_rates reaches every group and each class's momentum") {
  auto parameters = some_parameters();
  std::vector<torch::optim::OptimizerParamGroup> groups;
  groups.emplace_back(std::vector<at::Tensor>{parameters[0]});
  groups.emplace_back(std::vector<at::Tensor>{parameters[1]},
                      std::make_unique<torch::optim::AdamWOptions>(
                          torch::optim::AdamWOptions(7.0).betas({0.1, 0.7})));
  fm::FusedAdamW adamw(groups, torch::optim::AdamWOptions(1.0));
  fm::set_rates(adamw, 0.25, 0.875);
  for (auto& group : adamw.param_groups()) REQUIRE(group.options().get_lr() == 0.25);
  const auto& second = static_cast<torch::optim::AdamWOptions&>(adamw.param_groups()[1].options());
  REQUIRE(second.betas() == std::make_tuple(0.875, 0.7));
  fm::set_rates(adamw, 0.5, std::nullopt);
  REQUIRE(second.betas() == std::make_tuple(0.875, 0.7));
  REQUIRE(second.lr() == 0.5);

  torch::optim::RMSprop rmsprop(some_parameters(), torch::optim::RMSpropOptions(1.0));
  fm::set_rates(rmsprop, 0.5, 0.75);
  REQUIRE(options_of<torch::optim::RMSpropOptions>(rmsprop).momentum() == 0.75);
  REQUIRE(options_of<torch::optim::RMSpropOptions>(rmsprop).lr() == 0.5);
}

TEST_CASE("optimizer: parameters to train of half precision are refused with the remedy") {
  for (const auto type : {torch::kBFloat16, torch::kHalf}) {
    const at::Tensor half = on_device::ones({3}, type);
    for (const auto& factory : {fm::adam(), fm::adamw(), fm::sgd(), fm::rmsprop()}) {
      const at::Tensor trained = half.clone().requires_grad_();
      require_error<fm::OptionError>([&] { fm::make_optimizer(factory, {trained}, 0.1); },
                                     "set precision = Precision::bfloat16");
      REQUIRE_NOTHROW(fm::make_optimizer(factory, {half, some_parameters()[0]}, 0.1));  // frozen
    }
    const fm::OptimizerFactory own{
        "own", [](std::vector<at::Tensor> parameters, double learning_rate) {
          return std::make_unique<torch::optim::SGD>(std::move(parameters), learning_rate);
        }};
    REQUIRE_NOTHROW(fm::make_optimizer(own, {half.clone().requires_grad_()}, 0.1));
  }
}

TEST_CASE("optimizer: complex parameters are refused where their gradients would be squared") {
  require_error<fm::OptionError>(
      [] { fm::make_optimizer(fm::rmsprop(), {complex_parameter()}, 0.1); }, "use adam()");
  require_error<fm::OptionError>([] { fm::rmsprop().make({complex_parameter()}, 0.1); },
                                 "use adam()");
  const fm::OptimizerFactory plain{
      "plain", [](std::vector<at::Tensor> parameters, double learning_rate) {
        return std::make_unique<torch::optim::Adam>(std::move(parameters),
                                                    torch::optim::AdamOptions(learning_rate));
      }};
  require_error<fm::OptionError>([&] { fm::make_optimizer(plain, {complex_parameter()}, 0.1); },
                                 "complex");
  for (const auto& factory : {fm::adam(), fm::adamw(), fm::sgd(0.9, 0.1, true)})
    REQUIRE_NOTHROW(fm::make_optimizer(factory, {complex_parameter()}, 0.1));
}

TEST_CASE("optimizer: sgd takes a complex parameter as two real ones") {
  const auto factory = fm::sgd(0.9, 0.1, true);
  at::Tensor whole = complex_parameter();
  at::Tensor parts = at::view_as_real(whole.detach()).clone().requires_grad_();
  const auto mine = fm::make_optimizer(factory, {whole}, 0.1);
  const auto theirs = fm::make_optimizer(factory, {parts}, 0.1);
  for (int i = 0; i < 5; ++i) {
    parts.mutable_grad() = on_device::tensor({{1.0F, -2.0F}, {0.5F, 3.0F}}) + i;
    whole.mutable_grad() = at::view_as_complex(parts.grad()).clone();
    mine->step();
    theirs->step();
  }
  REQUIRE(close(at::view_as_real(whole.detach()), parts, 1e-6, 1e-7));
}

TEST_CASE("optimizer: a parameter whose elements share memory is refused by its name") {
  struct ExpandedImpl : torch::nn::Module {
    ExpandedImpl() { register_parameter("wide", on_device::ones({1}).expand({3})); }
  } module;
  require_error<fm::OptionError>([&] { fm::make_optimizer(fm::sgd(), module, 0.1); },
                                 "the parameter wide [3] share memory");
  module.named_parameters()["wide"].set_requires_grad(false);
  require_error<fm::OptionError>([&] { fm::make_optimizer(fm::sgd(), module, 0.1); },
                                 "no parameters to train");
}

TEST_CASE("optimizer: overlapping parameters are refused and those with gaps are not") {
  const auto trained = [](at::Tensor t) { return t.set_requires_grad(true); };
  for (const at::Tensor& overlapping :
       {on_device::zeros({6}).unfold(0, 3, 1), on_device::zeros({1}).expand({2}),
        on_device::zeros({7}).as_strided({3, 3}, {1, 2})}) {
    require_error<fm::OptionError>(
        [&] { fm::make_optimizer(fm::sgd(), {trained(overlapping)}, 0.1); }, "share memory");
  }
  for (const at::Tensor& apart :
       {on_device::zeros({6}).unfold(0, 3, 3), on_device::zeros({4, 4}).t().slice(0, 1, 4, 2),
        on_device::zeros({11}).as_strided({3, 3}, {2, 3}), on_device::zeros({0, 3}),
        on_device::zeros({})}) {
    REQUIRE_NOTHROW(fm::make_optimizer(fm::sgd(), {trained(apart)}, 0.1));
  }
}

TEST_CASE("optimizer: sparse gradients that have no step are refused with the remedy", "[sparse]") {
  const auto with_sparse_gradient = [] {
    const at::Tensor table = on_device::ones({5, 1}).requires_grad_();
    torch::embedding(table, on_device::tensor({1, 1, 3}), -1, false, true).sum().backward();
    return table;
  };
  for (const auto& factory : {fm::rmsprop(), fm::sgd(0, 0.1), fm::adam(), fm::adamw()}) {
    const auto optimizer = fm::make_optimizer(factory, {with_sparse_gradient()}, 0.5);
    require_error<fm::OptionError>([&] { optimizer->step(); }, "sparse(false)");
  }
  const at::Tensor table = with_sparse_gradient();
  fm::make_optimizer(fm::sgd(), {table}, 0.25)->step();
  REQUIRE(torch::equal(table, on_device::tensor({1.0F, 0.5F, 1.0F, 0.75F, 1.0F}).view({5, 1})));
}

TEST_CASE("optimizer: lazily conjugated and negated views are trained as their values") {
  for (const auto& factory :
       {fm::adam(), fm::adamw({.weight_decay = 0.1, .amsgrad = true}), fm::sgd(0.9, 0.1)}) {
    const auto numbers = [] {
      return torch::complex(on_device::tensor({1.0F, -2.0F}), on_device::tensor({0.5F, 3.0F}));
    };
    at::Tensor plain = numbers().requires_grad_();
    at::Tensor lazy = numbers().conj().resolve_conj().conj().set_requires_grad(true);
    at::Tensor plain_real = on_device::tensor({1.0F, -2.0F}).requires_grad_();
    at::Tensor lazy_real = at::_neg_view(on_device::tensor({-1.0F, 2.0F})).set_requires_grad(true);
    REQUIRE(lazy.is_conj());
    REQUIRE(lazy_real.is_neg());
    const auto one = fm::make_optimizer(factory, {plain, plain_real}, 0.1);
    const auto two = fm::make_optimizer(factory, {lazy, lazy_real}, 0.1);
    for (int i = 0; i < 20; ++i) {
      const auto loss = [](const at::Tensor& w, const at::Tensor& r) {
        return (w - c10::complex<float>(0.5F, 0.25F)).abs().square().sum() + (r * r.sin()).sum();
      };
      one->zero_grad();
      two->zero_grad();
      loss(plain, plain_real).backward();
      loss(lazy, lazy_real).backward();
      one->step();
      two->step();
    }
    REQUIRE(!close(plain_real, on_device::tensor({1.0F, -2.0F}), 0, 0.1));
    REQUIRE(close(at::view_as_real(lazy.detach().resolve_conj()), at::view_as_real(plain.detach()),
                  1e-5, 1e-6));
    REQUIRE(close(lazy_real.detach().resolve_neg(), plain_real.detach(), 1e-5, 1e-6));
  }
}
