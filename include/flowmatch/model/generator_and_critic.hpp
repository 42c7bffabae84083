#pragma once

#include <torch/nn/module.h>

#include <utility>

namespace flowmatch { inline namespace v0 {

/// A generator, and beside it the flow of what it makes, as one module for the trainer, in whose
/// parameters' names `generator` and `critic` come first. Networks are module holders
/// (TORCH_MODULE) or shared pointers.
template <class Generator, class Critic = Generator>
class GeneratorAndCritic : public torch::nn::Module {
 public:
  /// Of both, `of_noise` and `of_samples`; the critic is best a copy of the teacher, or of the
  /// generator.
  GeneratorAndCritic(Generator of_noise, Critic of_samples)
      : generator(register_module("generator", std::move(of_noise))),
        critic(register_module("critic", std::move(of_samples))) {}

  Generator generator;  ///< noise to data: a FlowMapModel, or a VelocityModel that makes one step
  Critic critic;        ///< a VelocityModel: the flow from noise to what the generator makes
};

}}  // namespace flowmatch
