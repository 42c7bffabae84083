#pragma once

#include <torch/nn/modules/container/functional.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/pimpl.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "examples/networks/inputs.hpp"

namespace nets {

/// The shape of an `Mlp`.
struct MlpOptions {
  std::int64_t dimensions = 2;  ///< of the points
  std::int64_t width = 64;
  std::int64_t depth = 3;  ///< hidden layers
  std::function<at::Tensor(at::Tensor)> activation = [](const at::Tensor& x) {
    return at::silu(x);
  };
  /// Sines and cosines of x, and of t, times each of these go in too: a small network learns sharp
  /// edges by them (Tancik et al. 2020).
  std::vector<float> x_waves{};
  std::vector<float> t_waves{};
  std::int64_t classes = 0;  ///< of labels, one for no label too; 0: it takes none
  bool two_times = false;    ///< of an average velocity from t to r: r - t goes in too

  /// Throws OptionError for a shape that cannot be built.
  void validate() const {
    if (dimensions < 1 || width < 1 || depth < 1 || classes < 0) {
      throw fm::OptionError("an MLP of " + std::to_string(dimensions) + " dimensions, width " +
                            std::to_string(width) + ", depth " + std::to_string(depth) + " and " +
                            std::to_string(classes) +
                            " classes; choose at least 1, of classes at least 0");
    }
    if (!activation) throw fm::OptionError("an MLP needs an activation; leave out for SiLU");
  }
};

/// Linear layers for points: a velocity v(x, t[, label]), or with two times an average velocity
/// u(x, t, r[, label]).
class MlpImpl : public torch::nn::Module {
 public:
  explicit MlpImpl(const MlpOptions& o = {}) : options_(o) {
    o.validate();
    const auto waves = static_cast<std::int64_t>(o.x_waves.size()) * o.dimensions +
                       static_cast<std::int64_t>(o.t_waves.size());
    std::int64_t in = o.dimensions + 1 + 2 * waves + (o.two_times ? 1 : 0);
    if (o.classes > 0) {
      labels_ = register_module("labels", torch::nn::Embedding(o.classes, label_width));
      in += label_width;
    }
    for (std::int64_t layer = 0; layer < o.depth; ++layer) {
      layers_->push_back(torch::nn::Linear(in, o.width));
      layers_->push_back(torch::nn::Functional(o.activation));
      in = o.width;
    }
    layers_->push_back(torch::nn::Linear(in, o.dimensions));
    register_module("layers", layers_);
  }

  /// x [B, d], t [B] and what else there is (see Inputs) -> [B, d]. Of two times u(x, t, t) where r
  /// is left out. Throws ShapeError for x of another shape, and as Inputs does.
  template <Input... Rest>
  at::Tensor forward(const at::Tensor& x, const at::Tensor& t, const Rest&... rest) {
    return run(x, t, Inputs(rest...));
  }

 private:
  static constexpr std::int64_t label_width = 16;

  at::Tensor run(const at::Tensor& x, const at::Tensor& t, const Inputs& more) {
    if (!x.defined() || x.dim() != 2 || x.size(1) != options_.dimensions || more.mask.defined()) {
      throw fm::ShapeError("an MLP of points [B, " + std::to_string(options_.dimensions) +
                           "] was given x of shape " + fm::shape_text(x) +
                           (more.mask.defined() ? " with a mask, which is for sequences" : "") +
                           "; give it points of as many dimensions as it was built for");
    }
    more.check(x, t, options_.classes, options_.two_times);
    const at::Tensor time = t.to(x.scalar_type()).unsqueeze(1);
    std::vector<at::Tensor> in = {x, time};
    std::vector<at::Tensor> phases;
    if (!options_.x_waves.empty())
      phases.push_back((x.unsqueeze(2) * at::tensor(options_.x_waves, x.options())).flatten(1));
    if (!options_.t_waves.empty())
      phases.push_back(time * at::tensor(options_.t_waves, x.options()));
    if (!phases.empty()) {
      const at::Tensor all = at::cat(phases, 1);
      in.push_back(at::sin(all));
      in.push_back(at::cos(all));
    }
    if (options_.two_times)
      in.push_back(more.r.defined() ? (more.r - t).to(x.scalar_type()).unsqueeze(1)
                                    : at::zeros_like(time));
    if (more.label.defined()) in.push_back(labels_->forward(more.label));
    return layers_->forward(at::cat(in, 1));
  }

  MlpOptions options_;
  torch::nn::Embedding labels_{nullptr};
  torch::nn::Sequential layers_;
};
TORCH_MODULE(Mlp);

}  // namespace nets
