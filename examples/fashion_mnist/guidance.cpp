#include "examples/fashion_mnist/guidance.hpp"

#include <utility>

#include "flowmatch/core/error.hpp"
#include "flowmatch/model/guidance.hpp"

namespace fashion_mnist {

Velocity guided(Velocity velocity, const Recipe& recipe, std::optional<Velocity> worse,
                const GuidanceOptions& o) {
  if (!worse && recipe.drop == 0) {
    throw fm::OptionError(
        "guidance needs a network that knows samples of no label, and this run has seen each with "
        "its own; train with --drop-labels 0.1, name a worse run with --worse, or leave --guidance "
        "out");
  }
  const auto by = [&](auto rule) -> Velocity {
    const fm::IntervalGuidance within(rule, o.from, o.to);
    if (worse) return fm::Autoguidance(std::move(velocity), std::move(*worse), within);
    return fm::ClassifierFreeGuidance(std::move(velocity), at::full({1}, no_label, at::kLong),
                                      within);
  };
  if (o.rule == "plain") return by(fm::LinearGuidance(o.scale));
  if (o.rule == "zero_star") return by(fm::ZeroStarGuidance(o.scale));
  if (o.rule == "projected") return by(fm::ProjectedGuidance(o.scale));
  throw fm::OptionError("there is no guidance rule '" + o.rule +
                        "'; choose plain, zero_star or projected");
}

Velocity teacher_velocity(const std::filesystem::path& teacher, const std::filesystem::path& worse,
                          const Pixels& pixels, const GuidanceOptions& options,
                          c10::Device device) {
  TrainedModel model = load_alike(teacher, pixels, device);
  if (options.scale == 1) return velocity_of(model);
  std::optional<Velocity> other;
  if (!worse.empty()) {
    TrainedModel worse_model = load_alike(worse, pixels, device);
    other = velocity_of(worse_model);
  }
  return guided(velocity_of(model), model.recipe, std::move(other), options);
}

}  // namespace fashion_mnist
