#include "examples/fashion_mnist/recipe.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <charconv>
#include <cmath>
#include <utility>
#include <vector>

#include "flowmatch/core/error.hpp"
#include "flowmatch/coupling/independent.hpp"
#include "flowmatch/noisify/condition_dropout.hpp"
#include "flowmatch/path/affine.hpp"

namespace fashion_mnist {

namespace {

/// 16,32,64 -> {16, 32, 64}.
std::vector<std::int64_t> read_widths(const std::string& text) {
  std::vector<std::int64_t> widths;
  const char* at = text.data();
  const char* end = at + text.size();
  while (true) {
    const auto [next, error] = std::from_chars(at, end, widths.emplace_back());
    if (error != std::errc{} || (next != end && *next != ','))
      throw fm::CheckpointError("the network's widths '" + text +
                                "' are no numbers with commas between them; the manifest is not of "
                                "fashion_mnist_train");
    if (next == end) return widths;
    at = next + 1;
  }
}

/// The times t that flow matching is trained at.
struct RecipeTime {
  std::string times;
  fm::LogitNormalTime logit_normal;

  explicit RecipeTime(const Recipe& r)
      : times(r.times), logit_normal(r.times_mean, r.times_stddev) {}
  at::Tensor operator()(std::int64_t n, at::TensorOptions options, fm::Rng& rng) const {
    const fm::UniformTime uniform(latest_time);
    if (times == "logit_normal") return fm::StratifiedTime(logit_normal)(n, options, rng);
    if (times == "stratified") return fm::StratifiedTime(uniform)(n, options, rng);
    return uniform(n, options, rng);
  }
};

/// DDIM's: the notebook draws its s = 1 - t as flow matching draws t.
struct DdimTime {
  RecipeTime s;
  at::Tensor operator()(std::int64_t n, at::TensorOptions options, fm::Rng& rng) const {
    return 1 - s(n, options, rng);
  }
};

/// Those of mean flows, which draw two a sample: if each lay evenly in its batch, all of a batch
/// would be as far apart.
struct MeanFlowTime {
  RecipeTime uneven;
  at::Tensor operator()(std::int64_t n, at::TensorOptions options, fm::Rng& rng) const {
    if (uneven.times == "logit_normal") return uneven.logit_normal(n, options, rng);
    return fm::UniformTime(latest_time)(n, options, rng);
  }
};

/// The same, with labels dropped as the recipe has it.
template <class Noised, class N>
NoisifierOf<Noised> with_dropped_labels(const Recipe& recipe, N noisifier) {
  if (recipe.drop == 0) return noisifier;
  return fm::ConditionDropout(std::move(noisifier), at::full({1}, no_label, at::kLong),
                              recipe.drop);
}

void refuse_target_and_source(const Recipe& recipe) {
  if (recipe.target == "velocity" && recipe.source == "noise") return;
  throw fm::OptionError("--target and --source belong to --method flow; leave them out for " +
                        recipe.method);
}

}  // namespace

NoisifierOf<fm::Noised<at::Tensor>> noisifier(const Recipe& recipe) {
  const auto dropping = [&](auto noisifier) {
    return with_dropped_labels<fm::Noised<at::Tensor>>(recipe, std::move(noisifier));
  };
  const RecipeTime time(recipe);
  const fm::IndependentCoupling<> noise;
  const fm::IndependentCoupling blank{fm::ConstantSource(recipe.pixels.range)};
  const fm::FiniteDifferenceTarget difference(difference_step);
  if (recipe.method == "ddim") {
    refuse_target_and_source(recipe);
    return dropping(
        fm::PathNoisifier(fm::CosinePath{}, fm::EpsilonTarget{}, noise, DdimTime{time}));
  }
  if (recipe.target == "velocity") {
    return recipe.source == "noise"
               ? dropping(fm::VelocityNoisifier(fm::LinearPath{}, noise, time))
               : dropping(fm::VelocityNoisifier(fm::LinearPath{}, blank, time));
  }
  return recipe.source == "noise"
             ? dropping(fm::PathNoisifier(fm::LinearPath{}, difference, noise, time))
             : dropping(fm::PathNoisifier(fm::LinearPath{}, difference, blank, time));
}

NoisifierOf<fm::TwoTimeNoised<at::Tensor>> two_time_noisifier(const Recipe& recipe) {
  refuse_target_and_source(recipe);
  return with_dropped_labels<fm::TwoTimeNoised<at::Tensor>>(
      recipe, fm::TwoTimeNoisifier(fm::LinearPath{}, recipe.mean_flow.equal,
                                   MeanFlowTime{RecipeTime(recipe)}, fm::IndependentCoupling<>{}));
}

Recipe Recipe::named(std::string_view name, const std::string& method) {
  Recipe r;
  r.method = method;
  if (name == "post") return r;
  if (name == "default") {
    r.net = {.widths = {16, 32, 64}, .blocks = 1, .time_scale = 1000};
    r.pixels = {.size = 28, .range = 1};
    if (method == "flow") {
      // Errors at late times stay in the picture, those at early ones are mended later.
      r.times = "logit_normal";
      r.times_mean = 0.8;
      r.times_stddev = 1.2;
    } else if (method == "mean_flow") {
      r.times = "uniform";   // one evaluation goes from 0 to 1, which others hardly ever draw
      r.net.time_scale = 4;  // the objective takes the derivative by t
    } else {
      r.times = "stratified";  // epsilon's loss weights late times by itself
    }
    r.epochs = 8;
    r.batch = 32;
    r.learning_rate = 5e-3;
    r.ema = 0.999;
    r.end.images = 50400;
    return r;
  }
  throw fm::OptionError("there is no recipe '" + std::string(name) + "'; choose default or post");
}

void Recipe::fit_network() {
  net.two_times = method == "mean_flow";
  net.classes = drop > 0 ? no_label + 1 : no_label;
}

double Recipe::cost_of_step() const {
  if (method != "mean_flow") return 1;
  const double derivative = mean_flow.loss.derivative == fm::Derivative::forward ? 2 : 4;
  return 1 + (1 - mean_flow.equal) * (derivative + (mean_flow.loss.own_velocity ? 1 : 0)) / 3;
}

void Recipe::validate() const {
  if (pixels.size < 28 || pixels.size > 1024)
    throw fm::OptionError(
        fmt::format("images of {} pixels a side; choose 28 to 1024, 28 being "
                    "Fashion-MNIST's own",
                    pixels.size));
  if (!(pixels.range > 0 && std::isfinite(pixels.range)))
    throw fm::OptionError(
        fmt::format("pixels from -{0} to {0}; choose a finite range above 0", pixels.range));
  if (end.images < 0)
    throw fm::OptionError(
        fmt::format("an end of {} images; choose at least 0, for no end", end.images));
  // That of the run's own batches shows at once (TensorBatches), this one only after its epochs.
  if (end.batch < 1)
    throw fm::OptionError(
        fmt::format("an end with a batch size of {}; choose at least 1", end.batch));
  if (!(drop >= 0 && drop < 1))
    throw fm::OptionError(
        fmt::format("a share of {} of the labels dropped; choose one in [0, 1), 0 for none", drop));
  net.validate(pixels.size);
  with_training(*this, [](const auto&...) {});  // what its parts refuse
}

Recipe Recipe::end_alone() const {
  Recipe r = *this;
  r.epochs = 1;
  r.batch = end.batch;
  r.learning_rate = end.learning_rate;
  r.ema = end.ema;
  r.end.images = 0;
  return r;
}

std::map<std::string, std::string> Recipe::notes() const {
  std::map<std::string, std::string> notes = {
      {"widths", fmt::format("{}", fmt::join(net.widths, ","))},
      {"blocks", std::to_string(net.blocks)},
      {"groups", std::to_string(net.groups)},
      {"time_scale", fm::number_text(net.time_scale)},
      {"size", std::to_string(pixels.size)},
      {"range", fm::number_text(pixels.range)},
      {"method", method},
      {"target", target},
      {"source", source},
      {"times", times},
      {"times_mean", fm::number_text(times_mean)},
      {"times_stddev", fm::number_text(times_stddev)},
      {"drop", fm::number_text(drop)},
      {"data", data}};
  if (method == "mean_flow") {
    notes["equal_times"] = fm::number_text(mean_flow.equal);
    notes["weight_power"] = fm::number_text(mean_flow.loss.power);
    notes["tangent"] = mean_flow.loss.own_velocity ? "own" : "path";
  }
  return notes;
}

Recipe Recipe::from(const fm::Manifest& m) {
  Recipe r;
  r.method = m.get("note.method");
  r.target = m.get("note.target");
  r.source = m.get("note.source");
  if (m.contains("note.data")) r.data = m.get("note.data");
  if (!m.contains("note.widths")) {  // written before there were recipes
    r.net = UNetOptions::named(m.get("note.model"));
    return r;
  }
  r.net.widths = read_widths(m.get("note.widths"));
  r.net.blocks = m.get_int("note.blocks");
  r.net.groups = m.get_int("note.groups");
  r.net.time_scale = m.get_double("note.time_scale");
  r.pixels.size = m.get_int("note.size");
  r.pixels.range = m.get_double("note.range");
  r.times = m.get("note.times");
  r.times_mean = m.get_double("note.times_mean");
  r.times_stddev = m.get_double("note.times_stddev");
  if (m.contains("note.drop")) r.drop = m.get_double("note.drop");
  if (r.method == "mean_flow") {
    r.mean_flow.equal = m.get_double("note.equal_times");
    r.mean_flow.loss.power = m.get_double("note.weight_power");
    r.mean_flow.loss.own_velocity = m.get("note.tangent") == "own";
  }
  r.fit_network();
  r.validate();
  return r;
}

}  // namespace fashion_mnist
