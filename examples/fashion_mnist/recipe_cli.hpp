#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "examples/fashion_mnist/recipe.hpp"

namespace fashion_mnist {

/// The options of programs that train: a recipe by its name, and what differs from it.
struct RecipeCli {
  std::string name, model;
  std::string method = "flow", target = "velocity", source = "noise";
  std::optional<std::vector<std::int64_t>> widths;
  std::optional<std::int64_t> blocks, groups, size, epochs, batch, end_images, end_batch;
  std::optional<double> time_scale, range, times_mean, times_stddev, learning_rate, ema;
  std::optional<double> end_learning_rate, end_ema, drop, equal_times, weight_power;
  std::optional<std::string> times, tangent, derivative;

  /// Those of the network and the pixels that it sees.
  void add_network_to(CLI::App& app) {
    app.add_option(
           "--recipe", name,
           "default, or post: the blog post's, which --model paper and small bring with them")
        ->check(CLI::IsMember({"default", "post"}));
    app.add_option("--model", model,
                   "the post's network: paper (13.0 M parameters) or small (2.2 M)")
        ->check(CLI::IsMember({"paper", "small"}));
    app.add_option("--method", method,
                   "flow, ddim, or mean_flow: average velocities, which one evaluation samples by")
        ->check(CLI::IsMember({"flow", "ddim", "mean_flow"}));
    add(app, "--widths", widths, "channels of each level, such as 16,32,64")->delimiter(',');
    add(app, "--blocks", blocks, "residual blocks a level on the way down; one more on the way up");
    add(app, "--groups", groups, "of GroupNorm; 0 for BatchNorm");
    add(app, "--time-scale", time_scale,
        "what times are multiplied by before the network sees them");
    add(app, "--drop-labels", drop,
        "share of the labels hidden in training, such as 0.1, which guidance needs; 0 for none");
    add(app, "--size", size, "side of the images: 28, or more with a border of background");
    add(app, "--range", range, "black and white are -range and range");
  }
  void add_to(CLI::App& app) {
    add_network_to(app);
    app.add_option("--target", target, "velocity or difference")
        ->check(CLI::IsMember({"velocity", "difference"}));
    app.add_option("--source", source, "noise or blank")->check(CLI::IsMember({"noise", "blank"}));
    add(app, "--epochs", epochs, "passes over the data");
    add(app, "--batch", batch, "batch size, of all ranks together");
    add(app, "--lr", learning_rate, "the one-cycle policy's maximum learning rate");
    add(app, "--ema", ema, "decay of averaged weights, such as 0.999; 0 for none");
    add(app, "--end-images", end_images,
        "of one more pass, in large batches, which begins with the weights so far; 0 for none");
    add(app, "--end-batch", end_batch, "its batch size");
    add(app, "--end-lr", end_learning_rate, "its maximum learning rate");
    add(app, "--end-ema", end_ema, "its decay of averaged weights");
    add(app, "--times", times,
        "of training: uniform, stratified or logit_normal (stratified too); of ddim, those of 1 - "
        "t")
        ->check(CLI::IsMember({"uniform", "stratified", "logit_normal"}));
    add(app, "--times-mean", times_mean, "of logit-normal times; above 0 is nearer to data");
    add(app, "--times-stddev", times_stddev, "of logit-normal times");
    add(app, "--equal-times", equal_times,
        "of mean flows: share of samples with one time for both, at which the velocity is learned");
    add(app, "--weight-power", weight_power,
        "of mean flows: errors are divided by their own size to this power; 0 for not");
    add(app, "--tangent", tangent,
        "of mean flows: the derivative along the network's own velocity (own) or the path's (path)")
        ->check(CLI::IsMember({"own", "path"}));
    add(app, "--derivative", derivative,
        "of mean flows, how it is found: forward, or double_backward for what has no other")
        ->check(CLI::IsMember({"forward", "double_backward"}));
  }

  /// Throws OptionError for a network or pixels that cannot be.
  Recipe recipe() const {
    Recipe r = Recipe::named(!name.empty() ? name : model.empty() ? "default" : "post", method);
    if (!model.empty()) r.net = UNetOptions::named(model);
    r.target = target;
    r.source = source;
    const auto replace = [](auto& value, const auto& own) {
      if (own) value = *own;
    };
    replace(r.net.widths, widths);
    replace(r.net.blocks, blocks);
    replace(r.net.groups, groups);
    replace(r.net.time_scale, time_scale);
    replace(r.pixels.size, size);
    replace(r.pixels.range, range);
    replace(r.times, times);
    replace(r.times_mean, times_mean);
    replace(r.times_stddev, times_stddev);
    replace(r.epochs, epochs);
    replace(r.batch, batch);
    replace(r.learning_rate, learning_rate);
    replace(r.ema, ema);
    replace(r.end.images, end_images);
    replace(r.end.batch, end_batch);
    replace(r.end.learning_rate, end_learning_rate);
    replace(r.end.ema, end_ema);
    replace(r.drop, drop);
    if (method != "mean_flow" && (equal_times || weight_power || tangent || derivative)) {
      throw fm::OptionError(
          "--equal-times, --weight-power, --tangent and --derivative belong to --method "
          "mean_flow; leave them out for " +
          method);
    }
    replace(r.mean_flow.equal, equal_times);
    replace(r.mean_flow.loss.power, weight_power);
    if (tangent) r.mean_flow.loss.own_velocity = *tangent == "own";
    if (derivative == "double_backward")
      r.mean_flow.loss.derivative = fm::Derivative::double_backward;
    r.fit_network();
    r.validate();
    return r;
  }

 private:
  template <class T>
  static CLI::Option* add(CLI::App& app, const char* flag, std::optional<T>& value,
                          const char* what) {
    return app.add_option(flag, value, what)->group("In place of the recipe's");
  }
};

}  // namespace fashion_mnist
