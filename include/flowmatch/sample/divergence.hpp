#pragma once

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cstdint>
#include <string>

#include "flowmatch/core/error.hpp"
#include "flowmatch/core/random.hpp"
#include "flowmatch/solve/recorded.hpp"

namespace flowmatch { inline namespace v0 {

/// A velocity and its divergence.
struct Divergent {
  at::Tensor v;           ///< [B, …]
  at::Tensor divergence;  ///< [B]
};

namespace detail {

/// x [B, …] as [B, D].
inline at::Tensor rows(const at::Tensor& x) { return x.dim() == 1 ? x.unsqueeze(1) : x.flatten(1); }

/// (J^T u) · u for each row, J the derivative of v = f(x, n) at x: one backward pass. v and x are
/// [N, …], u is [N, D]. Throws OptionError where autograd did not record what f does with x.
template <class F>
at::Tensor along(F& f, const at::Tensor& v, const at::Tensor& x, std::int64_t n,
                 const at::Tensor& u, bool create_graph) {
  at::Tensor g;
  if (v.requires_grad()) {
    g = torch::autograd::grad({rows(v)}, {x}, {u}, create_graph, create_graph,
                              /*allow_unused=*/true)[0];
  }
  if (g.defined()) return (rows(g) * u).sum(1);
  require_constant([&](const at::Tensor& beside) { return f(beside, n); }, x, v);
  return at::zeros({x.size(0)}, x.options().requires_grad(false));
}

/// x with every sample n times in a row, from where gradients are taken.
inline at::Tensor repeated(const at::Tensor& x, std::int64_t n, bool create_graph) {
  const at::Tensor many = x.repeat_interleave(n, 0);
  return create_graph && many.requires_grad() ? many : many.detach().requires_grad_();
}

}  // namespace detail

/// The exact divergence sum_i dv_i/dx_i of fields whose samples do not see each other: `chunk` of
/// the D dimensions at once, each by a copy of the batch, in ceil(D / chunk) passes forward and
/// back.
struct ExactDivergence {
  std::int64_t chunk = 32;  ///< dimensions at once

  /// Throws OptionError for a chunk below 1.
  void prepare(const at::Tensor&) {
    if (chunk < 1)
      throw OptionError("chunk is " + std::to_string(chunk) + "; choose at least 1 dimension");
  }
  /// f(x, n) is the field at x [B n, …], where every sample stands n times in a row. With
  /// `create_graph` the result can be differentiated.
  template <class F>
  Divergent operator()(F& f, const at::Tensor& x, bool create_graph) const {
    const std::int64_t samples = x.size(0);
    const std::int64_t dimensions = detail::rows(x).size(1);
    Divergent result;
    for (std::int64_t first = 0; first < dimensions; first += chunk) {
      const std::int64_t n = std::min(chunk, dimensions - first);
      const at::Tensor many = detail::repeated(x, n, create_graph);
      const at::Tensor v = f(many, n);
      const at::Tensor unit = at::eye(n, dimensions, x.options().requires_grad(false))
                                  .roll(first, 1)
                                  .repeat({samples, 1});
      const at::Tensor part =
          detail::along(f, v, many, n, unit, create_graph).view({samples, n}).sum(1);
      result.divergence = first == 0 ? part : result.divergence + part;
      if (first == 0) result.v = v.unflatten(0, {samples, n}).select(1, 0);
    }
    if (dimensions == 0)  // points of no extent
      result = {f(x, 1), at::zeros({samples}, x.options().requires_grad(false))};
    return result;
  }
};

/// Noise u with E[u u^T] = I.
enum class Probe { rademacher, gaussian };

/// Hutchinson's estimate of the divergence, the mean of u^T J u over `probes` draws of u, which
/// stay the same along a solve, so that it stays an ordinary differential equation, and are others
/// in the next (Hutchinson 1989; Grathwohl et al. 2019, FFJORD, eq. 8). One pass forward and back
/// whatever the dimension. One that is made anew for each solve needs a `seed` of its own.
struct Hutchinson {
  std::int64_t probes = 1;          ///< draws of u for each sample
  Probe noise = Probe::rademacher;  ///< how u is distributed
  std::uint64_t seed = 0;           ///< with `solves` it decides the probes
  std::uint64_t solves = 0;         ///< so far
  at::Tensor u{};                   ///< [B probes, D]; drawn by `prepare`

  /// Draws the probes of a solve.
  void prepare(const at::Tensor& x) {
    if (probes < 1)
      throw OptionError("probes is " + std::to_string(probes) + "; choose at least 1");
    Rng rng = Rng(seed, x.device()).fork("probes", solves++);
    const std::int64_t samples = x.size(0);
    const std::int64_t shape[2] = {samples * probes, detail::rows(x).size(1)};
    const at::TensorOptions options = x.options().requires_grad(false);
    u = noise == Probe::gaussian
            ? rng.normal(shape, options)
            : at::where(rng.uniform(shape) < 0.5, at::scalar_tensor(-1, options),
                        at::scalar_tensor(1, options));
  }
  /// The mean over the probes; f and `create_graph` as for ExactDivergence.
  template <class F>
  Divergent operator()(F& f, const at::Tensor& x, bool create_graph) const {
    const at::Tensor many = detail::repeated(x, probes, create_graph);
    const at::Tensor v = f(many, probes);
    const at::Tensor along = detail::along(f, v, many, probes, u, create_graph);
    return {v.unflatten(0, {x.size(0), probes}).select(1, 0),
            along.view({x.size(0), probes}).mean(1)};
  }
};

}}  // namespace flowmatch
