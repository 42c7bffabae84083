#pragma once

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>
#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/randperm.h>

#include <cstdint>
#include <memory>
#include <string_view>

namespace flowmatch { inline namespace v0 {

/// An explicit source of randomness: a seed, a device and the generator made from them.
///
/// `fork(purpose, index)` derives an independent Rng from (seed, purpose, index) alone. It neither
/// reads nor moves this one's stream, so step k's noise is the same whatever was drawn before:
/// training resumes in mid-epoch without a saved stream. The same seed gives the same numbers on
/// the same device type.
///
/// `split()` derives one that differs from call to call, for work that draws by forks of its own.
///
/// Copies share one stream. An Rng is not for use by several threads at once; fork one for each.
class Rng {
 public:
  /// The same seed gives the same numbers on one type of device.
  explicit Rng(std::uint64_t seed, c10::Device device = c10::kCPU)
      : Rng(seed, device, seed >> 32U == 0 ? seed : mix(seed)) {}

  /// An independent Rng by (seed, purpose, index) alone, on the same device.
  Rng fork(std::string_view purpose, std::uint64_t index = 0) const {
    std::uint64_t hash = 0xcbf29ce484222325U;  // FNV-1a, so that a purpose is any text
    for (const char c : purpose) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3U;
    const std::uint64_t seed = mix(mix(mix(seed_) ^ hash) ^ index);
    return Rng(seed, device_, seed);
  }

  /// An independent Rng, another one at each call: the n-th depends on (seed, n) alone.
  Rng split() { return fork("split", (*splits_)++); }

  /// What it was made with.
  std::uint64_t seed() const noexcept { return seed_; }
  /// Where its tensors lie.
  c10::Device device() const noexcept { return device_; }
  /// LibTorch's generator, for functions that take one; drawing from it moves this Rng's stream.
  at::Generator& generator() noexcept { return generator_; }

  /// N(0, 1) of the given shape, on this Rng's device.
  at::Tensor normal(at::IntArrayRef shape, at::TensorOptions options = at::kFloat) {
    return at::randn(shape, generator_, options.device(device_));
  }
  /// U[0, 1) of the given shape, on this Rng's device.
  at::Tensor uniform(at::IntArrayRef shape, at::TensorOptions options = at::kFloat) {
    return at::rand(shape, generator_, options.device(device_));
  }
  /// A random order of 0 … n-1, int64 [n].
  at::Tensor permutation(std::int64_t n) {
    return at::randperm(n, generator_, at::TensorOptions(at::kLong).device(device_));
  }

 private:
  // LibTorch's generator on the CPU looks at the lower 32 bits of its seed only, into which `mix`
  // folds all 64.
  Rng(std::uint64_t seed, c10::Device device, std::uint64_t cpu_seed)
      : seed_(seed),
        device_(device),
        generator_(device.is_cpu() ? at::detail::createCPUGenerator(cpu_seed)
                                   : device_generator(seed, device)) {}

  // The finaliser of SplitMix64 (Steele, Lea & Flood 2014): neighbouring seeds give unrelated
  // streams.
  static std::uint64_t mix(std::uint64_t z) {
    z += 0x9e3779b97f4a7c15U;
    z = (z ^ (z >> 30U)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27U)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31U);
  }

  static at::Generator device_generator(std::uint64_t seed, c10::Device device) {
    // A clone of the device's default generator is of the right class, without that device's
    // headers.
    at::Generator generator = at::globalContext().defaultGenerator(device).clone();
    generator.set_current_seed(seed);
    return generator;
  }

  std::uint64_t seed_;
  c10::Device device_;
  at::Generator generator_;
  std::shared_ptr<std::uint64_t> splits_ = std::make_shared<std::uint64_t>(0);
};

}}  // namespace flowmatch
