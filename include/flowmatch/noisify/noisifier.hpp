#pragma once

#include <concepts>
#include <utility>

#include "flowmatch/core/expand.hpp"
#include "flowmatch/coupling/independent.hpp"
#include "flowmatch/noisify/target.hpp"
#include "flowmatch/noisify/time.hpp"
#include "flowmatch/path/path.hpp"

namespace flowmatch { inline namespace v0 {

/// Turns a batch of data into a training example.
/// 1. `n(batch, rng)` gives a Noised with the batch's condition type, or a type derived from it
/// that holds more, which the trainer hands to the objective as it is.
template <class N, class Condition = NoCondition>
concept Noisifier = std::copyable<N> &&
    requires(const N& n, const Batch<Condition>& batch, Rng& rng) {
  { n(batch, rng) } -> std::derived_from<Noised<Condition>>;
};

/// coupling -> time -> path -> target: draws (x_0, x_1) from the coupling, one time t per sample,
/// x_t from the path, and computes the target. Knows nothing of images: x_1 is any [B, …] of a
/// floating dtype. Throws ShapeError for data of an integer dtype.
template <class Path, class TargetT, class CouplingT = IndependentCoupling<>,
          TimeSampler Time = UniformTime>
requires Target<TargetT, Path>
class PathNoisifier {
  static_assert(ProbPath<Path> || StochasticPath<Path>,
                "flowmatch: a noisifier needs a path with `PathSample sample(x_0, x_1, t)`; see "
                "path/path.hpp");
  static_assert(
      !requires { requires Path::of_standard_normal; } || standard_normal_source<CouplingT>,
      "flowmatch: this path begins at standard normal noise, which the coupling's source "
      "is not known to be; use GaussianSource, or wrap yours in AssumeNormal");

 public:
  /// Of its parts; each but the path has a default.
  explicit PathNoisifier(Path path, TargetT target = TargetT{}, CouplingT coupling = CouplingT{},
                         Time time = Time{})
      : path_(std::move(path)),
        target_(std::move(target)),
        coupling_(std::move(coupling)),
        time_(std::move(time)) {}
  /// The same with other times alone.
  PathNoisifier(Path path, TargetT target, Time time)
      : PathNoisifier(std::move(path), std::move(target), CouplingT{}, std::move(time)) {}

  /// A training example of a batch: a Noised, or a NoisedSample where the path's samples hold more
  /// than a PathSample.
  template <class Condition>
  requires Coupling<CouplingT, Condition>
  auto operator()(const Batch<Condition>& batch, Rng& rng) const {
    check_floating(batch.x_1);
    Coupled<Condition> pair = coupling_(batch, rng);
    const at::Tensor t =
        time_(pair.x_1.size(0), pair.x_1.options().dtype(time_dtype(pair.x_1)), rng)
            .to(pair.x_1.device());
    auto sample = sample_path(pair, t, rng);
    using Sample = decltype(sample);
    Noised<Condition> noised{sample.x_t, t, target_(path_, sample), std::move(pair.condition)};
    if constexpr (std::same_as<Sample, PathSample>) {
      return noised;
    } else {
      return NoisedSample<Sample, Condition>{std::move(noised), std::move(sample)};
    }
  }

  /// The path that examples lie on.
  const Path& path() const noexcept { return path_; }

 private:
  template <class Condition>
  auto sample_path(const Coupled<Condition>& pair, const at::Tensor& t, Rng& rng) const {
    if constexpr (ProbPath<Path>) {
      return path_.sample(pair.x_0, pair.x_1, t);
    } else {
      return path_.sample(pair.x_0, pair.x_1, t, rng);
    }
  }

  Path path_;
  TargetT target_;
  CouplingT coupling_;
  Time time_;
};

template <class P, class T>
PathNoisifier(P, T) -> PathNoisifier<P, T>;
template <class P, class T, class C>
PathNoisifier(P, T, C) -> PathNoisifier<P, T, C>;
template <class P, class T, TimeSampler Time>
PathNoisifier(P, T, Time) -> PathNoisifier<P, T, IndependentCoupling<>, Time>;
template <class P, class T, class C, class Time>
PathNoisifier(P, T, C, Time) -> PathNoisifier<P, T, C, Time>;

/// The noisifier of flow matching: the target is the path's velocity dx_t.
/// `VelocityNoisifier(LinearPath{})` is the blog post's noisify; its clamp is
/// `VelocityNoisifier(LinearPath{}, UniformTime(0.999))`.
template <class Path, class CouplingT = IndependentCoupling<>, TimeSampler Time = UniformTime>
class VelocityNoisifier : public PathNoisifier<Path, VelocityTarget, CouplingT, Time> {
 public:
  /// Of its parts; each but the path has a default.
  explicit VelocityNoisifier(Path path, CouplingT coupling = CouplingT{}, Time time = Time{})
      : PathNoisifier<Path, VelocityTarget, CouplingT, Time>(
            std::move(path), VelocityTarget{}, std::move(coupling), std::move(time)) {}
  /// The same with other times alone.
  VelocityNoisifier(Path path, Time time)
      : VelocityNoisifier(std::move(path), CouplingT{}, std::move(time)) {}
};
template <class P>
VelocityNoisifier(P) -> VelocityNoisifier<P>;
template <class P, class C>
VelocityNoisifier(P, C) -> VelocityNoisifier<P, C>;
template <class P, TimeSampler Time>
VelocityNoisifier(P, Time) -> VelocityNoisifier<P, IndependentCoupling<>, Time>;
template <class P, class C, class Time>
VelocityNoisifier(P, C, Time) -> VelocityNoisifier<P, C, Time>;

}}  // namespace flowmatch
