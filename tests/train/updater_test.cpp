#include "flowmatch/train/updater.hpp"

#include <cmath>
#include <limits>

#include "flowmatch/optim/parameter_groups.hpp"
#include "tests/support/networks.hpp"
#include "tests/support/temporary_folder.hpp"

namespace {

/// One weight of two numbers; a loss with the gradient (3, 4).
struct WeightImpl : torch::nn::Module {
  WeightImpl() { weight = register_parameter("weight", doubles({1.0, 2.0})); }
  at::Tensor loss() const { return (weight * doubles({3.0, 4.0})).sum(); }
  torch::Tensor weight;
};

fm::TrainOptions descent() { return {.learning_rate = 0.5, .optimizer = fm::sgd()}; }

bool finish(fm::Updater& updater, const at::Tensor& loss) {
  fm::StepUndo undo = updater.undo();
  return updater.finish(0, loss, undo);
}

}  // namespace

TEST_CASE("updater: a step adds gradients and clips and steps and averages") {
  WeightImpl module;
  fm::TrainOptions options = descent();
  options.clip_norm = 1;
  options.ema_decay = 0.5;
  options.ema_warmup = false;
  fm::Updater updater(module, options);
  updater.begin({});
  updater.backward(module.loss() / 2);
  updater.backward(module.loss() / 2);
  REQUIRE(finish(updater, module.loss().detach()));
  REQUIRE(updater.norm().item<double>() == Approx(5));
  REQUIRE(close(module.weight, doubles({1 - 0.3, 2 - 0.4}), 1e-6, 0));
  REQUIRE(close(updater.ema()->state().at("weight"), doubles({1 - 0.15, 2 - 0.2}), 1e-6, 0));
  updater.begin({});  // the gradients of the step before are gone
  updater.backward(module.loss() * 0.01);
  REQUIRE(finish(updater, module.loss().detach()));
  REQUIRE(updater.norm().item<double>() == Approx(0.05));
}

TEST_CASE("updater: float16 gives the gradients of the loss that is not scaled") {
  WeightImpl module;
  fm::TrainOptions options = descent();
  options.precision = fm::Precision::float16;
  fm::Updater updater(module, options);
  updater.begin({});
  updater.backward(module.loss());
  REQUIRE(finish(updater, module.loss().detach()));
  REQUIRE(close(module.weight, doubles({1 - 1.5, 2 - 2.0})));
  fm::Manifest manifest;
  updater.describe(manifest);
  REQUIRE(manifest.get_double("loss_scale") == 65536);
  REQUIRE(manifest.get_int("loss_scale_steps") == 1);
}

TEST_CASE("updater: what is not finite changes no weight") {
  WeightImpl module;
  fm::TrainOptions options = descent();
  options.on_nonfinite = fm::OnNonfinite::skip;
  options.ema_decay = 0.5;
  fm::Updater updater(module, options);
  const double bad = std::numeric_limits<double>::quiet_NaN();
  updater.begin({});
  updater.backward(module.loss());
  REQUIRE(finish(updater, on_device::tensor(bad)));  // the loss
  updater.begin({});
  updater.backward(module.loss() * bad);
  REQUIRE(finish(updater, on_device::tensor(1.0)));  // the gradient
  REQUIRE(close(module.weight, doubles({1.0, 2.0})));
  REQUIRE(updater.ema()->updates() == 0);
  REQUIRE(updater.watch().skipped() == 2);

  options.on_nonfinite = fm::OnNonfinite::roll_back;
  options.checkpoints = "somewhere";
  fm::Updater back(module, options);
  back.begin({});
  back.backward(module.loss() * bad);
  REQUIRE(!finish(back, on_device::tensor(1.0)));
  REQUIRE(close(module.weight, doubles({1.0, 2.0})));
}

TEST_CASE("updater: options are checked before the module is touched") {
  auto net = on_device::module(torch::nn::Conv2d(torch::nn::Conv2dOptions(2, 2, 3)));
  fm::TrainOptions options;
  options.channels_last = true;
  options.epochs = 0;
  require_error<fm::OptionError>([&] { fm::Updater(*net, options); }, "epochs is 0");
  REQUIRE(net->weight.is_contiguous());
  options.epochs = 1;
  const fm::Updater updater(*net, options);
  REQUIRE(net->weight.is_contiguous(at::MemoryFormat::ChannelsLast));
}

TEST_CASE("updater: a module that has changed is refused and the change is named") {
  struct TwoImpl : torch::nn::Module {
    TwoImpl() {
      weight = register_parameter("weight", doubles({1.0, 2.0}));
      buffer = register_buffer("buffer", doubles({1.0}));
    }
    at::Tensor weight, buffer;
  };
  for (const double decay : {0.0, 0.5}) {
    fm::TrainOptions options = descent();
    options.ema_decay = decay;
    {
      TwoImpl module;
      fm::Updater updater(module, options);
      module.register_parameter("more", on_device::ones({2}));
      require_error<fm::OptionError>([&] { updater.begin({}); }, "parameter more was added");
      require_error<fm::OptionError>([&] { updater.own_weights(); }, "parameter more was added");
    }
    {
      TwoImpl module;
      fm::Updater updater(module, options);
      module.to(torch::kFloat);
      require_error<fm::OptionError>([&] { updater.begin({}); }, "parameter weight is Float [2]");
    }
    TwoImpl module;
    fm::Updater updater(module, options);
    module.register_buffer("cache", doubles({3.0}));
    if (decay > 0) {
      require_error<fm::OptionError>([&] { updater.begin({}); }, "buffer cache was added");
    } else {  // nothing is kept for it, and steps undo it from now on
      updater.begin({});
      {
        const fm::StepUndo undo = updater.undo();
        module.named_buffers()["cache"].fill_(9);
      }
      REQUIRE(close(module.named_buffers()["cache"], doubles({3.0})));
    }
  }
}

TEST_CASE("updater: it does not train the averages and its own weights can be had in a scope") {
  WeightImpl module;
  fm::TrainOptions options = descent();
  options.ema_decay = 0.5;
  options.ema_warmup = false;
  fm::Updater updater(module, options);
  updater.begin({});
  updater.backward(module.loss());
  REQUIRE(finish(updater, module.loss().detach()));
  const auto averaged = updater.ema()->swap_in();
  REQUIRE(close(module.weight, doubles({1 - 0.75, 2 - 1.0})));
  require_error<fm::OptionError>([&] { updater.begin({}); }, "the averages are in the module");
  {
    const auto own = updater.own_weights();
    REQUIRE(close(module.weight, doubles({1 - 1.5, 2 - 2.0})));
  }
  REQUIRE(close(module.weight, doubles({1 - 0.75, 2 - 1.0})));
}

TEST_CASE("updater: groups keep their own learning rates") {
  struct TwoImpl : torch::nn::Module {
    TwoImpl() {
      a = register_parameter("a", doubles({0.0}));
      b = register_parameter("b", doubles({0.0}));
    }
    at::Tensor a, b;
  } module;
  fm::TrainOptions options = descent();
  options.optimizer = fm::with_groups(fm::sgd(), {{.prefix = "b", .rate_factor = 0.1}});
  fm::Updater updater(module, options);
  const auto step = [&](double factor) {
    updater.begin({factor, {}});
    updater.backward((module.a + module.b).sum());
    REQUIRE(finish(updater, on_device::tensor(1.0)));
  };
  step(1);
  step(0.5);
  REQUIRE(close(module.a, doubles({-0.75})));
  REQUIRE(close(module.b, doubles({-0.075})));
}

TEST_CASE("updater: complex weights that are used conjugated are clipped and trained") {
  for (const auto precision : {fm::Precision::float32, fm::Precision::float16}) {
    struct ComplexImpl : torch::nn::Module {
      ComplexImpl() {
        weight = register_parameter(
            "weight", on_device::full({2}, c10::complex<double>(1, 1), torch::kComplexFloat));
      }
      at::Tensor weight;
    } module;
    fm::TrainOptions options = descent();
    options.clip_norm = 1;
    options.precision = precision;
    fm::Updater updater(module, options);
    updater.begin({});
    const at::Tensor parts = at::view_as_real(module.weight.conj().resolve_conj());
    updater.backward((parts * on_device::tensor({3.0F, 4.0F})).sum());
    REQUIRE(module.weight.grad().is_conj());
    REQUIRE(finish(updater, on_device::tensor(1.0)));
    const double norm = std::sqrt(50.0);
    REQUIRE(updater.norm().item<double>() == Approx(norm));
    const at::Tensor after = at::view_as_real(module.weight.detach());
    REQUIRE(after[0][0].item<double>() == Approx(1 - 0.5 * 3 / norm).epsilon(1e-5));
    REQUIRE(after[0][1].item<double>() == Approx(1 + 0.5 * 4 / norm).epsilon(1e-5));
  }
}

TEST_CASE("updater: a checkpoint of before there were own rates is restored with the factory's") {
  WeightImpl module;
  fm::Updater updater(module, descent());
  fm::Manifest manifest;
  updater.describe(manifest);
  REQUIRE(manifest.get("learning_rates") == "0.5");
  const TemporaryFolder folder;
  fm::save_optimizer(folder.path() / "optimizer.pt", updater.optimizer());
  const auto rate_after = [&](const fm::Manifest& of) {
    updater.restore({folder.path(), of});
    updater.begin({0.5, {}});
    return updater.optimizer().param_groups()[0].options().get_lr();
  };
  REQUIRE(rate_after(manifest) == 0.25);
  manifest.set("learning_rates", "0.125");
  REQUIRE(rate_after(manifest) == 0.0625);
  fm::Manifest old;
  old.set("skipped", 0);
  fm::Updater fresh(module, descent());
  fresh.restore({folder.path(), old});
  fresh.begin({0.5, {}});
  REQUIRE(fresh.optimizer().param_groups()[0].options().get_lr() == 0.25);
}

TEST_CASE("updater: a schedule's rates out of range are refused before they are set") {
  WeightImpl module;
  fm::Updater updater(module, descent());
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double infinite = std::numeric_limits<double>::infinity();
  for (const fm::Rates& rates :
       std::vector<fm::Rates>{{nan, {}}, {-0.5, {}}, {infinite, {}}, {1, nan}, {1, -0.5}, {1, 1.0}})
    require_error<fm::OptionError>([&] { updater.begin(rates); }, "the schedule says a factor of");
  REQUIRE(updater.optimizer().param_groups()[0].options().get_lr() == 0.5);
  updater.begin({0, 0.5});
  REQUIRE(updater.optimizer().param_groups()[0].options().get_lr() == 0);
}
