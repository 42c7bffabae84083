#include "flowmatch/optim/parameter_groups.hpp"

#include <cstddef>
#include <memory>
#include <sstream>
#include <type_traits>
#include <vector>

#include "flowmatch/optim/group_rates.hpp"
#include "tests/support/networks.hpp"

namespace {

/// A group's options and how many parameters it has.
template <class Options>
struct Found {
  explicit Found(torch::optim::Optimizer& optimizer, std::size_t group)
      : options(static_cast<Options&>(optimizer.param_groups().at(group).options())),
        size(optimizer.param_groups().at(group).params().size()) {}
  const Options& options;
  std::size_t size;
};

}  // namespace

TEST_CASE("parameter_groups: no weight decay on norms and biases") {
  networks::Conditional net;  // conv, BatchNorm and embedding: 2 weights of 4 and 2 dimensions
  const auto factory =
      fm::with_groups(fm::adamw({.weight_decay = 0.25}), {fm::norms_and_biases_without_decay()});
  REQUIRE(factory.description ==
          "adamw beta1 0.9 beta2 0.999 eps 1e-08 weight_decay 0.25; group '' of at most 1 "
          "dimensions weight_decay 0");
  const auto optimizer = fm::make_optimizer(factory, *net, 0.5);
  REQUIRE(dynamic_cast<fm::FusedAdamW*>(optimizer.get()) != nullptr);
  REQUIRE(optimizer->param_groups().size() == 2);
  const Found<torch::optim::AdamWOptions> small(*optimizer, 0), rest(*optimizer, 1);
  REQUIRE(small.size == 3);
  REQUIRE(small.options.weight_decay() == 0);
  REQUIRE(small.options.lr() == 0.5);
  REQUIRE(rest.size == 2);
  REQUIRE(rest.options.weight_decay() == 0.25);
  REQUIRE(rest.options.lr() == 0.5);

  // A step without a gradient's pull: decoupled decay alone.
  const at::NoGradGuard no_grad;
  net->conv->weight.fill_(1);
  net->conv->bias.fill_(1);
  for (at::Tensor p : net->parameters()) p.mutable_grad() = torch::zeros_like(p);
  optimizer->step();
  REQUIRE(close(net->conv->weight, torch::full_like(net->conv->weight, 1 - 0.5 * 0.25), 1e-6, 0));
  REQUIRE(torch::equal(net->conv->bias, torch::ones_like(net->conv->bias)));
}

TEST_CASE("parameter_groups: rates and decay by name for each optimizer") {
  networks::Conditional net;
  const std::vector<fm::ParameterGroup> groups{
      {.prefix = "conv.", .rate_factor = 0.125, .weight_decay = 0.5},
      {.prefix = "norm.", .rate_factor = 0}};
  const auto check = [&](const fm::OptimizerFactory& base, auto* options) {
    using Options = std::remove_pointer_t<decltype(options)>;
    const auto optimizer = fm::make_optimizer(fm::with_groups(base, groups), *net, 0.5);
    REQUIRE(optimizer->param_groups().size() == 3);
    const Found<Options> conv(*optimizer, 0), norm(*optimizer, 1), rest(*optimizer, 2);
    REQUIRE(conv.size == 2);
    REQUIRE(conv.options.lr() == 0.0625);
    REQUIRE(conv.options.weight_decay() == 0.5);
    REQUIRE(norm.size == 2);
    REQUIRE(norm.options.lr() == 0);
    REQUIRE(norm.options.weight_decay() == 0.25);
    REQUIRE(rest.size == 1);
    REQUIRE(rest.options.lr() == 0.5);
    REQUIRE(rest.options.weight_decay() == 0.25);
  };
  check(fm::adam({.weight_decay = 0.25}), static_cast<torch::optim::AdamOptions*>(nullptr));
  check(fm::adamw({.weight_decay = 0.25}), static_cast<torch::optim::AdamWOptions*>(nullptr));
  check(fm::sgd(0.9, 0.25), static_cast<torch::optim::SGDOptions*>(nullptr));
  check(fm::rmsprop(0.9, 0, 0.25), static_cast<torch::optim::RMSpropOptions*>(nullptr));
}

TEST_CASE("parameter_groups: groups go through a saved state with their own rates") {
  const auto factory = fm::with_groups(fm::adam(), {{.prefix = "embedding", .rate_factor = 0.1}});
  networks::Conditional net;
  const auto first = fm::make_optimizer(factory, *net, 0.5);
  fm::GroupRates rates(*first);
  rates.scale(*first, {0.5, {}});
  torch::serialize::OutputArchive out;
  first->save(out);
  std::stringstream bytes;
  out.save_to(bytes);
  const auto load = [&](torch::optim::Optimizer& optimizer) {
    bytes.seekg(0);
    torch::serialize::InputArchive in;
    in.load_from(bytes);
    optimizer.load(in);
  };
  const auto second = fm::make_optimizer(factory, *net, 0.5);
  fm::GroupRates again(*second);
  load(*second);
  again.keep(*second);
  again.scale(*second, {0.25, {}});
  REQUIRE(second->param_groups()[0].options().get_lr() == Approx(0.0125));
  REQUIRE(second->param_groups()[1].options().get_lr() == Approx(0.125));
  REQUIRE_THROWS_AS(load(*fm::make_optimizer(fm::adam(), *net, 0.5)), c10::Error);
}

TEST_CASE("parameter_groups: groups without a parameter or out of range are refused") {
  networks::Conditional net;
  const auto make = [&](const fm::ParameterGroup& group) {
    return [&net, group] { fm::make_optimizer(fm::with_groups(fm::adam(), {group}), *net, 0.5); };
  };
  require_error<fm::OptionError>(make({.prefix = "encoder."}), "group 'encoder.'");
  require_error<fm::OptionError>(make({.rate_factor = -1}), "rate x -1; choose a finite factor");
  require_error<fm::OptionError>(make({.rate_factor = infinity}), "rate x inf");
  require_error<fm::OptionError>(make({.weight_decay = -0.5}), "weight_decay -0.5");
  require_error<fm::OptionError>(make({.weight_decay = nan_value}), "weight_decay nan");
  const fm::OptimizerFactory grouped = fm::with_groups(fm::adam(), {{.prefix = "conv."}});
  require_error<fm::OptionError>(
      [&] { fm::make_optimizer(fm::with_groups(grouped, {{.prefix = "norm."}}), *net, 0.5); },
      "name all groups in one");
  const auto all_in_one = fm::with_groups(fm::adam(), {{.rate_factor = 0.1}});
  require_error<fm::OptionError>([&] { fm::with_groups(all_in_one, {{.rate_factor = 2}}); },
                                 "name all groups in one");
  const fm::OptimizerFactory own{"two groups", [](std::vector<at::Tensor> p, double rate) {
                                   std::vector<torch::optim::OptimizerParamGroup> groups;
                                   groups.emplace_back(std::vector<at::Tensor>{p.back()});
                                   p.pop_back();
                                   groups.emplace_back(p);
                                   return std::make_unique<torch::optim::SGD>(groups, rate);
                                 }};
  require_error<fm::OptionError>(
      [&] { fm::make_optimizer(fm::with_groups(own, {{.prefix = "norm."}}), *net, 0.5); },
      "name them all in one");
  // One group that holds all leaves none for the rest.
  REQUIRE(fm::make_optimizer(fm::with_groups(fm::adam(), {{.rate_factor = 0.5}}), *net, 0.5)
              ->param_groups()
              .size() == 1);
  // Without names only the dimensions can be asked for.
  const auto factory = fm::with_groups(fm::sgd(), {fm::norms_and_biases_without_decay()});
  REQUIRE(fm::make_optimizer(factory, net->parameters(), 0.5)->param_groups().size() == 2);
}
