#pragma once

#include <string>

#include "examples/fashion_mnist/recipe.hpp"
#include "examples/fashion_mnist/sampling.hpp"

namespace fashion_mnist {

/// A velocity led further to the label than the run goes by itself, by classifier-free guidance:
/// samples go through the network twice, together. Throws OptionError for a run whose labels were
/// never dropped, for an unknown rule, and for what the rule refuses.
Velocity guided(Velocity velocity, const Recipe& recipe, const GuidanceOptions& options);

}  // namespace fashion_mnist
