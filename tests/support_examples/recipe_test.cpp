#include <algorithm>

#include "examples/fashion_mnist/recipe_cli.hpp"
#include "examples/fashion_mnist/sampling.hpp"
#include "flowmatch/core/error.hpp"
#include "flowmatch/data/tensor_batches.hpp"
#include "flowmatch/train/trainer.hpp"
#include "tests/support/test.hpp"

using fashion_mnist::Recipe;
using fashion_mnist::RecipeCli;

namespace {

fm::Manifest manifest_of(const Recipe& recipe) {
  fm::Manifest manifest;
  for (const auto& [name, value] : recipe.notes()) manifest.set("note." + name, value);
  return manifest;
}

/// What a command line comes to.
Recipe parsed(std::vector<std::string> arguments) {
  CLI::App app;
  RecipeCli cli;
  cli.add_to(app);
  std::reverse(arguments.begin(), arguments.end());  // CLI11 takes them from the back
  app.parse(arguments);
  return cli.recipe();
}

/// A network of few weights, which are as they began.
fashion_mnist::TrainedModel untrained(std::vector<std::string> arguments) {
  arguments.insert(arguments.end(), {"--widths", "4,8"});
  torch::manual_seed(0);
  const Recipe recipe = parsed(std::move(arguments));
  return {recipe, fashion_mnist::UNet(recipe.net)};
}

at::Tensor noise(std::int64_t n) { return fm::Rng(1).normal({n, 1, 28, 28}); }

}  // namespace

TEST_CASE("recipe: the default one costs no more than the post's with its small network") {
  const Recipe r = Recipe::named("default");
  const double gflop = fashion_mnist::UNet(r.net)->gflop(r.pixels.size);
  const double cost = static_cast<double>(r.epochs * 60000 + r.end.images) * gflop;
  CHECK(cost <= fashion_mnist::post_cost);
}

TEST_CASE("recipe: its end alone is one pass, and has no end") {
  const Recipe r =
      parsed({"--end-images", "100", "--end-batch", "50", "--end-lr", "0.25", "--end-ema", "0.5"});
  CHECK(r.end.images == 100);
  const Recipe end = r.end_alone();
  CHECK(end.epochs == 1);
  CHECK(end.batch == 50);
  CHECK(end.learning_rate == 0.25);
  CHECK(end.ema == 0.5);
  CHECK(end.end.images == 0);
  CHECK(end.notes() == r.notes());
  CHECK(parsed({"--recipe", "post"}).end.images == 0);
  require_error<fm::OptionError>([] { parsed({"--end-images", "-1"}); }, "an end of -1 images");
}

TEST_CASE("recipe: a manifest keeps what sampling has to know") {
  Recipe r = Recipe::named("default");
  r.net.groups = 4;
  r.method = "ddim";
  r.times = "logit_normal";
  r.times_mean = 0.5;
  r.data = "train";
  const Recipe back = Recipe::from(manifest_of(r));
  CHECK(back.net == r.net);
  CHECK(back.notes() == r.notes());
  fm::Manifest wrong = manifest_of(r);
  wrong.set("note.widths", "16,,32");
  require_error<fm::CheckpointError>([&] { Recipe::from(wrong); }, "widths '16,,32'");
  require_error<fm::CheckpointError>([&] { Recipe::from(fm::Manifest{}); }, "note.method");
}

TEST_CASE("recipe: manifests from before there were recipes are the post's") {
  fm::Manifest old;
  for (const auto& [name, value] : {std::pair{"model", "small"},
                                    {"method", "flow"},
                                    {"target", "velocity"},
                                    {"source", "noise"}})
    old.set(std::string("note.") + name, value);
  const Recipe r = Recipe::from(old);
  CHECK(r.net == fashion_mnist::UNetOptions::small());
  CHECK(r.pixels.size == 32);
  CHECK(r.data == "unknown");
  CHECK(r.drop == 0);
}

TEST_CASE("recipe: a manifest tells of dropped labels and of two times; older ones of neither") {
  const Recipe r = parsed({"--method", "mean_flow", "--drop-labels", "0.25", "--equal-times", "0.5",
                           "--weight-power", "0.75", "--tangent", "path"});
  CHECK(r.net.two_times);
  CHECK(r.net.classes == 11);
  const Recipe back = Recipe::from(manifest_of(r));
  CHECK(back.net == r.net);
  CHECK(back.drop == 0.25);
  CHECK(back.mean_flow.equal == 0.5);
  CHECK(back.mean_flow.loss.power == 0.75);
  CHECK_FALSE(back.mean_flow.loss.own_velocity);
  fm::Manifest older;
  for (const auto& [name, value] : Recipe::named("default").notes()) {
    if (name != "drop") older.set("note." + name, value);
  }
  CHECK(Recipe::from(older).net == Recipe::named("default").net);
}

TEST_CASE("recipe: what mean flows and dropped labels cannot be is refused") {
  const auto refused = [](std::vector<std::string> arguments, const char* text) {
    INFO(text);
    require_error<fm::OptionError>([&] { parsed(arguments); }, text);
  };
  refused({"--drop-labels", "1"}, "a share of 1 of the labels dropped; choose one in [0, 1)");
  refused({"--drop-labels", "nan"}, "a share of nan of the labels");
  refused({"--equal-times", "0.5"}, "belong to --method mean_flow; leave them out for flow");
  refused({"--method", "mean_flow", "--equal-times", "2"}, "a share of 2 of equal times");
  refused({"--method", "mean_flow", "--weight-power", "-1"}, "power -1");
  refused({"--method", "mean_flow", "--source", "blank"}, "leave them out for mean_flow");
  refused({"--method", "ddim", "--target", "difference"}, "leave them out for ddim");
}

TEST_CASE("recipe: a mean flow's step is counted with its derivative") {
  CHECK(parsed({}).cost_of_step() == 1);
  const auto cost = [](std::vector<std::string> more) {
    more.insert(more.end(), {"--method", "mean_flow", "--equal-times", "0.5"});
    return parsed(more).cost_of_step();
  };
  CHECK(cost({}) == Approx(1.5));
  CHECK(cost({"--tangent", "path"}) == Approx(1 + 1. / 3));
  CHECK(cost({"--derivative", "double_backward"}) == Approx(1 + 5. / 6));
}

TEST_CASE("recipe: noisifiers drop the share of the labels") {
  const fm::Batch<at::Tensor> batch{noise(400), at::full({400}, 3, at::kLong)};
  const auto dropped = [&](const Recipe& r) {
    fm::Rng rng(2);
    const at::Tensor labels = r.method == "mean_flow"
                                  ? fashion_mnist::two_time_noisifier(r)(batch, rng).condition
                                  : fashion_mnist::noisifier(r)(batch, rng).condition;
    CHECK((labels.eq(3) + labels.eq(fashion_mnist::no_label)).all().item<bool>());
    return labels.eq(fashion_mnist::no_label).to(at::kDouble).mean().item<double>();
  };
  for (const char* method : {"flow", "ddim", "mean_flow"}) {
    INFO(method);
    CHECK(dropped(parsed({"--method", method})) == 0);
    CHECK(dropped(parsed({"--method", method, "--drop-labels", "0.25"})) ==
          Approx(0.25).margin(0.08));
  }
}

TEST_CASE("recipe: a mean flow learns, and one evaluation draws a sample of it") {
  const std::string groups = GENERATE("0", "2");
  auto model = untrained({"--method", "mean_flow", "--groups", groups, "--drop-labels", "0.5",
                          "--equal-times", "0.25", "--batch", "4", "--epochs", "1"});
  fm::TrainOptions options = fashion_mnist::train_options(model.recipe);
  options.channels_last = true;
  fm::Trainer trainer(model.net, fashion_mnist::two_time_noisifier(model.recipe), options,
                      fm::MeanFlowLoss(model.recipe.mean_flow.loss));
  const at::Tensor labels = fashion_mnist::classes_in_turn(8);
  trainer.fit(fm::TensorBatches(noise(8), labels, 4));
  CHECK(trainer.steps() == 2);
  CHECK(model.net->named_parameters()["span2.weight"].abs().sum().item<double>() > 0);

  const at::Tensor x_0 = noise(8);
  fashion_mnist::SamplingOptions one{.solver = {}, .steps = 1};
  const auto samples = fashion_mnist::sample_images(model, x_0, labels, one);
  CHECK(samples.evaluations == 1);
  model.net->eval();
  const torch::NoGradGuard no_grad;
  const at::Tensor u = model.net->forward(x_0, at::zeros({8}), at::ones({8}), labels);
  CHECK(close(samples.images, model.recipe.pixels.to_images(x_0 + u), 1e-4, 1e-4));
  for (const char* solver : {"flow_map", "renoise", "euler"}) {
    INFO(solver);
    fashion_mnist::SamplingOptions two{.solver = solver, .steps = 2};
    CHECK(fashion_mnist::sample_images(model, x_0, labels, two).evaluations == 2);
  }
}

TEST_CASE("recipe: guidance at 1 is the network itself, at 0 that without a label") {
  auto model = untrained({"--drop-labels", "0.1"});
  const at::Tensor x_0 = noise(6), labels = fashion_mnist::classes_in_turn(6);
  const auto sampled = [&](const at::Tensor& of, std::optional<fashion_mnist::GuidanceOptions> by) {
    fashion_mnist::SamplingOptions options{.solver = {}, .steps = 4, .guidance = std::move(by)};
    return fashion_mnist::sample_images(model, x_0, of, options);
  };
  const auto plain = sampled(labels, std::nullopt);
  const auto none = sampled(at::full_like(labels, fashion_mnist::no_label), std::nullopt);
  CHECK_FALSE(close(plain.images, none.images, 1e-3, 1e-3));
  const auto at_one = sampled(labels, {{.scale = 1}});
  CHECK(at_one.evaluations == 4);
  CHECK(close(at_one.images, plain.images, 1e-5, 1e-5));
  const auto at_zero = sampled(labels, {{.scale = 0}});
  CHECK(at_zero.evaluations == 8);
  CHECK(close(at_zero.images, none.images, 1e-4, 1e-4));
  // Of the steps from 0, 0.25, 0.5 and 0.75 the last two.
  const auto late = sampled(labels, {{.scale = 2, .from = 0.5}});
  CHECK(late.evaluations == 6);
  CHECK_FALSE(close(late.images, plain.images, 1e-3, 1e-3));
  for (const char* rule : {"zero_star", "projected"}) {
    INFO(rule);
    const auto guided = sampled(labels, {{.scale = 2, .rule = rule}});
    CHECK(guided.evaluations == 8);
    CHECK(guided.images.isfinite().all().item<bool>());
  }
  require_error<fm::OptionError>([&] { sampled(labels, {{.scale = 2, .rule = "best"}}); },
                                 "choose plain, zero_star or projected");
}

TEST_CASE("recipe: runs are not sampled by what they have not learned") {
  const auto refused = [](std::vector<std::string> run, fashion_mnist::SamplingOptions by,
                          const char* text) {
    INFO(text);
    auto model = untrained(std::move(run));
    require_error<fm::OptionError>(
        [&] {
          fashion_mnist::sample_images(model, noise(2), fashion_mnist::classes_in_turn(2), by);
        },
        text);
  };
  const fashion_mnist::GuidanceOptions guidance{.scale = 2};
  refused({}, {.solver = {}, .guidance = guidance}, "train with --drop-labels 0.1");
  refused({}, {.solver = "flow_map"}, "--method mean_flow; this one is of flow");
  refused({"--method", "mean_flow"}, {.solver = "ddim"}, "this one is of mean_flow");
  refused({"--method", "mean_flow", "--drop-labels", "0.1"}, {.solver = {}, .guidance = guidance},
          "--solver flow_map does not ask for");
}

TEST_CASE("recipe: options replace the recipe's, and the post's networks bring its recipe") {
  CHECK(parsed({}).notes() == Recipe::named("default").notes());
  CHECK(parsed({"--method", "ddim"}).times == "stratified");
  const Recipe small = parsed({"--model", "small", "--ema", "0.9"});
  CHECK(small.net == fashion_mnist::UNetOptions::small());
  CHECK(small.pixels.size == 32);
  CHECK(small.batch == 512);
  CHECK(small.ema == 0.9);
  CHECK(parsed({"--recipe", "post"}).net == fashion_mnist::UNetOptions::paper());
  const Recipe own = parsed({"--widths", "8,16", "--times", "logit_normal", "--range", "2"});
  CHECK(own.net.widths == std::vector<std::int64_t>{8, 16});
  CHECK(own.times == "logit_normal");
  CHECK(own.pixels.range == 2);
  require_error<fm::OptionError>([] { parsed({"--size", "20"}); }, "choose 28 to 1024");
  require_error<fm::OptionError>([] { parsed({"--range", "0"}); }, "finite range above 0");
  require_error<fm::OptionError>([] { Recipe::named("best"); }, "choose default or post");
}
