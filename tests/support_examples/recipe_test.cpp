#include <algorithm>

#include "examples/fashion_mnist/recipe_cli.hpp"
#include "flowmatch/core/error.hpp"
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
