#pragma once

#include <filesystem>
#include <optional>

#include "examples/fashion_mnist/recipe.hpp"
#include "examples/fashion_mnist/sampling.hpp"

namespace fashion_mnist {

/// A velocity led away from a worse one, as far as the options say: that of a worse run
/// (autoguidance), or where there is none the same network's without a label (classifier-free:
/// samples go through it twice, together). Throws OptionError for a run whose labels were never
/// dropped where no worse one is given, for an unknown rule, and for what the rule refuses.
Velocity guided(Velocity velocity, const Recipe& recipe, std::optional<Velocity> worse,
                const GuidanceOptions& options);

/// The velocity of the run `teacher`, for one of such pixels that learns from it: as it is for a
/// scale of 1, else guided, away from the run `worse` or where that is empty from no label. Throws
/// what `load_alike` and `guided` throw.
Velocity teacher_velocity(const std::filesystem::path& teacher, const std::filesystem::path& worse,
                          const Pixels& pixels, const GuidanceOptions& options, c10::Device device);

}  // namespace fashion_mnist
