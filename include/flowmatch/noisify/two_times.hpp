#pragma once

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

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
/// the later; with the probability `equal` both are t, where the model is the velocity. x_t is the
/// path's and the target its velocity dx_t (Geng et al. 2025, section 4.3, whose times are
/// logit-normal and count from the data: LogitNormalTime(0.4, 1) here; they found 0.75 best for
/// `equal`). Throws OptionError unless 0 <= equal <= 1, and what its parts throw.
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
      throw OptionError("a probability of " + number_text(equal) +
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
    const at::Tensor same = rng.uniform({n}).to(pair.x_1.device()) < equal_;
    const at::Tensor t = at::minimum(a, b);
    const at::Tensor r = at::where(same, t, at::maximum(a, b));
    const PathSample sample = path_.sample(pair.x_0, pair.x_1, t);
    return {{sample.x_t, t, sample.dx_t, std::move(pair.condition)}, r};
  }

 private:
  Path path_;
  double equal_;
  Time time_;
  CouplingT coupling_;
};

}}  // namespace flowmatch
