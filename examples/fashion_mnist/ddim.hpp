#pragma once

#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <numbers>
#include <string>

#include "examples/fashion_mnist/unet.hpp"
#include "flowmatch/core/error.hpp"
#include "flowmatch/core/random.hpp"

namespace fashion_mnist {

/// How DDIM goes from noise to data. The notebook's times are s = 1 - 1/N, …, 0 with predictions
/// clamped to twice the pixel range; the fair one spends its N evaluations on s = 0.999 … 0.999/N
/// and clamps to the pixel range.
struct DdimOptions {
  std::int64_t steps = 100;
  double eta = 1;      ///< 0: deterministic, 1: as much noise as DDPM
  double range = 0.5;  ///< pixels lie in [-range, range]
  bool notebook = true;
  std::function<bool(std::int64_t step, const torch::Tensor& x)>
      observer{};  ///< returns false to stop
};

/// DDIM (Song, Meng & Ermon 2021, eq. 12) for a network that predicts epsilon, on abar(s) =
/// cos^2(pi s / 2), where s = 1 is noise and s = 0 data. The network is given t = 1 - s. x [B, C,
/// H, W] is noise. Throws OptionError for options out of range. Gradients off and evaluation mode
/// are the caller's.
inline torch::Tensor ddim_sample(UNet& net, torch::Tensor x, const torch::Tensor& labels,
                                 flowmatch::Rng& rng, const DdimOptions& o) {
  if (o.steps < 1)
    throw flowmatch::OptionError("DDIM with " + std::to_string(o.steps) +
                                 " steps; choose at least 1");
  if (!(o.eta >= 0 && o.eta <= 1)) {
    throw flowmatch::OptionError("DDIM with eta " + std::to_string(o.eta) +
                                 "; choose one in [0, 1]");
  }
  // sampling code begins
  const double n = static_cast<double>(o.steps);
  const double clamp = o.notebook ? 2 * o.range : o.range;
  const auto abar_at = [](double s) { return std::pow(std::cos(std::numbers::pi * s / 2), 2); };
  for (std::int64_t i = 0; i < o.steps; ++i) {
    const double left = static_cast<double>(o.steps - 1 - i) / n;
    const double notebook_s =
        o.steps == 1 ? 0 : (1 - 1 / n) * static_cast<double>(o.steps - 1 - i) / (n - 1);
    const double s = o.notebook ? notebook_s : 0.999 * (left + 1 / n);
    const bool last = i + 1 == o.steps;
    const double abar = abar_at(s);
    const double next = last ? 1 : abar_at(o.notebook ? s - 1 / n : 0.999 * left);
    const torch::Tensor t = torch::full({x.size(0)}, 1 - s, x.options());
    const torch::Tensor epsilon = net->forward(x, t, labels);
    const torch::Tensor x_hat =
        ((x - std::sqrt(1 - abar) * epsilon) / std::sqrt(abar)).clamp(-clamp, clamp);
    double sigma = 0;
    if (!last)
      sigma =
          o.eta * std::sqrt((1 - next) / (1 - abar)) * std::sqrt(std::max(0.0, 1 - abar / next));
    if (1 - next <= sigma * sigma + 0.01) sigma = 0;
    x = std::sqrt(next) * x_hat + std::sqrt(std::max(0.0, 1 - next - sigma * sigma)) * epsilon;
    if (sigma > 0) x = x + sigma * rng.normal(x.sizes()).to(x.device());
    // sampling code pauses
    if (o.observer && !o.observer(i + 1, x)) break;
    // sampling code goes on
  }
  return x;
  // sampling code ends
}

}  // namespace fashion_mnist
