#include "examples/fashion_mnist/recipe.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <charconv>
#include <cmath>
#include <vector>

#include "flowmatch/core/error.hpp"

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

}  // namespace

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
  net.validate(pixels.size);
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
  return {{"widths", fmt::format("{}", fmt::join(net.widths, ","))},
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
          {"data", data}};
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
  r.validate();
  return r;
}

}  // namespace fashion_mnist
