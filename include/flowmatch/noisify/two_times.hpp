#pragma once

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <cmath>
#include <cstdint>
#include <utility>

#include "flowmatch/core/error.hpp"
#include "flowmatch/core/expand.hpp"
#include "flowmatch/core/random.hpp"
#include "flowmatch/core/types.hpp"
#include "flowmatch/coupling/independent.hpp"
#include "flowmatch/noisify/noisifier.hpp"
#include "flowmatch/noisify/time.hpp"
#include "flowmatch/path/path.hpp"

namespace flowmatch { inline namespace v0 {

/// The noisifier of mean flows: two times of each sample by one distribution, t the earlier and r
/// the later; for a share `equal` of each batch, drawn from it, both are t, where the model is the
/// velocity. x_t is the path's and the target its velocity dx_t (Geng et al. 2025, section 4.3,
/// whose times are logit-normal and count from the data: LogitNormalTime(0.4, 1) here; they found
/// 0.75 best for `equal`). A share that is no whole number of samples is rounded up or down, at
/// random, so that it is kept on average. Throws OptionError unless 0 <= equal <= 1, and what its
/// parts throw.
template <ProbPath Path, class CouplingT = IndependentCoupling<>,
          TimeSampler Time = LogitNormalTime>
class TwoTimeNoisifier {
 public:
  /// Of its parts; each but the path has a default.
  explicit TwoTimeNoisifier(Path path, double equal = 0.75, Time time = Time(0.4),
                            CouplingT coupling = CouplingT())
      : path_(std::move(path)),
        equal_(equal),
        time_(std::move(time)),
        coupling_(std::move(coupling)) {
    if (!(equal >= 0 && equal <= 1)) {
      throw OptionError("a share of " + number_text(equal) +
                        " of equal times; choose one in [0, 1]");
    }
  }

  /// A training example of a batch.
  template <class Condition>
  requires Coupling<CouplingT, Condition> TwoTimeNoised<Condition>
  operator()(const Batch<Condition>& batch, Rng& rng) const {
    check_floating(batch.x_1);
    Coupled<Condition> pair = coupling_(batch, rng);
    const std::int64_t n = pair.x_1.size(0);
    const at::TensorOptions options = pair.x_1.options().dtype(time_dtype(pair.x_1));
    const at::Tensor a = time_(n, options, rng).to(pair.x_1.device());
    const at::Tensor b = time_(n, options, rng).to(pair.x_1.device());
    const at::Tensor t = at::minimum(a, b);
    const at::Tensor apart =
        rng.permutation(n).slice(0, 0, how_many_apart(n, rng)).to(pair.x_1.device());
    const at::Tensor r = t.index_copy(0, apart, at::maximum(a, b).index_select(0, apart));
    const PathSample sample = path_.sample(pair.x_0, pair.x_1, t);
    return {{sample.x_t, t, sample.dx_t, std::move(pair.condition)}, r, apart};
  }

 private:
  // Drawn on the CPU: a look at a number of the device's would wait for it.
  std::int64_t how_many_apart(std::int64_t n, Rng& rng) const {
    const double share = (1 - equal_) * static_cast<double>(n);
    const double whole = std::floor(share);
    const double rest = share - whole;
    const bool up = rest > 0 && Rng(rng.split().seed()).uniform({1}).item<double>() < rest;
    return static_cast<std::int64_t>(whole) + (up ? 1 : 0);
  }

  Path path_;
  double equal_;
  Time time_;
  CouplingT coupling_;
};

}}  // namespace flowmatch
