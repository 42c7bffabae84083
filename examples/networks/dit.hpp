#pragma once

#include <torch/nn/modules/container/modulelist.h>
#include <torch/nn/modules/embedding.h>

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "examples/networks/dit_block.hpp"
#include "examples/networks/inputs.hpp"

namespace nets {

/// The shape of a `DiT`. Its defaults are a small one; DiT-S of the paper has width 384, depth 12
/// and 6 heads.
struct DiTOptions {
  std::int64_t channels = 1;  ///< D of sequences [B, L, D], C of images [B, C, H, W]
  std::int64_t patch = 0;     ///< side of the patches of images; 0: it is of sequences
  std::int64_t width = 64;    ///< a multiple of 4
  std::int64_t depth = 4;     ///< blocks
  std::int64_t heads = 4;     ///< which divide the width
  std::int64_t ratio = 4;     ///< how many times as wide the blocks' MLPs are
  std::int64_t classes = 0;   ///< of labels, one for no label too; 0: it takes none
  bool two_times = false;     ///< of an average velocity from t to r: r - t is embedded too
  /// What times are multiplied by before their sines and cosines are taken. The paper's counts to
  /// 1,000; mean flows differentiate by time and train steadily at 10.
  double time_scale = 1000;

  /// Throws OptionError for a shape that cannot be built.
  void validate() const {
    if (!(time_scale > 0) || !std::isfinite(time_scale)) {
      throw fm::OptionError("a DiT with a time scale of " + fm::number_text(time_scale) +
                            "; choose a finite one above 0");
    }
    if (channels < 1 || patch < 0 || depth < 1 || ratio < 1 || classes < 0 || width < 4 ||
        width % 4 != 0) {
      throw fm::OptionError(
          "a DiT of width " + std::to_string(width) + ", depth " + std::to_string(depth) + ", " +
          std::to_string(channels) + " channels, patches of " + std::to_string(patch) + ", ratio " +
          std::to_string(ratio) + " and " + std::to_string(classes) +
          " classes; choose a width that 4 divides, patches and classes of at least 0 and all else "
          "at least 1");
    }
  }
};

/// A diffusion transformer (Peebles & Xie 2023) of sequences, or of images in patches: a velocity
/// v(x, t[, label]), or with two times an average velocity u(x, t, r[, label]), which begins as
/// what the network is without the second. Initialised as there: it begins by answering 0.
/// Sequences of different lengths come in one batch with a mask: padding is not looked at, whatever
/// it holds, and the answer is 0 there; see MaskedLoss.
class DiTImpl : public torch::nn::Module {
 public:
  explicit DiTImpl(const DiTOptions& o = {}) : options_(o) {
    o.validate();
    using torch::nn::Linear;
    const std::int64_t token = o.channels * (o.patch > 0 ? o.patch * o.patch : 1);
    first_ = register_module("first", Linear(token, o.width));
    time1_ = register_module("time1", Linear(o.width, o.width));
    time2_ = register_module("time2", Linear(o.width, o.width));
    if (o.two_times) {
      span1_ = register_module("span1", Linear(o.width, o.width));
      span2_ = register_module("span2", Linear(o.width, o.width));
    }
    if (o.classes > 0)
      labels_ = register_module("labels", torch::nn::Embedding(o.classes, o.width));
    register_module("blocks", blocks_);
    for (std::int64_t i = 0; i < o.depth; ++i)
      blocks_->push_back(DiTBlock(o.width, o.heads, o.ratio));
    modulation_ = register_module("modulation", Modulation(o.width, 2));
    last_ = register_module("last", Linear(o.width, token));
    initialise();
  }

  /// x [B, L, D], or [B, C, H, W] whose sides the patch divides; t [B]; and what else there is (see
  /// Inputs) -> of x's shape. Of two times u(x, t, t) where r is left out. Throws ShapeError for x
  /// or a mask of another shape, and as Inputs does.
  template <Input... Rest>
  at::Tensor forward(const at::Tensor& x, const at::Tensor& t, const Rest&... rest) {
    return run(x, t, Inputs(rest...));
  }

 private:
  void initialise() {
    for (const auto& each : modules(/*include_self=*/false)) {
      auto* const linear = each->as<torch::nn::Linear>();
      if (linear == nullptr) continue;
      torch::nn::init::xavier_uniform_(linear->weight);
      torch::nn::init::zeros_(linear->bias);
    }
    for (const auto& each : modules(false)) {
      if (auto* const modulation = each->as<Modulation>()) modulation->reset();
    }
    for (auto& each : {time1_, time2_}) torch::nn::init::normal_(each->weight, 0, 0.02);
    if (labels_) torch::nn::init::normal_(labels_->weight, 0, 0.02);
    if (span2_) torch::nn::init::zeros_(span2_->weight);
    torch::nn::init::zeros_(last_->weight);
  }

  void check(const at::Tensor& x, const at::Tensor& mask) const {
    const std::int64_t patch = options_.patch;
    const bool fits =
        x.defined() && (patch == 0 ? x.dim() == 3 && x.size(2) == options_.channels
                                   : x.dim() == 4 && x.size(1) == options_.channels &&
                                         x.size(2) % patch == 0 && x.size(3) % patch == 0);
    if (!fits) {
      const std::string d = std::to_string(options_.channels);
      throw fm::ShapeError("a DiT was given x of shape " + fm::shape_text(x) + "; give it " +
                           (patch == 0 ? "sequences [B, L, " + d + "]"
                                       : "images [B, " + d + ", H, W] with sides that " +
                                             std::to_string(patch) + " divides"));
    }
    if (!mask.defined()) return;
    if (patch > 0) throw fm::ShapeError("a DiT of images takes no mask; leave it out");
    if (mask.dim() != 2 || mask.size(0) != x.size(0) || mask.size(1) != x.size(1)) {
      throw fm::ShapeError("the mask has shape " + fm::shape_text(mask) + " for x of shape " +
                           fm::shape_text(x) + "; give bool [B, L]");
    }
  }

  // [B, C, H, W] -> [B, H/p W/p, C p p].
  at::Tensor patches(const at::Tensor& x) const {
    const std::int64_t p = options_.patch, c = x.size(1), h = x.size(2) / p, w = x.size(3) / p;
    return x.reshape({x.size(0), c, h, p, w, p})
        .permute({0, 2, 4, 1, 3, 5})
        .reshape({x.size(0), h * w, c * p * p});
  }
  at::Tensor from_patches(const at::Tensor& y, const at::Tensor& x) const {
    const std::int64_t p = options_.patch, c = x.size(1), h = x.size(2) / p, w = x.size(3) / p;
    return y.reshape({x.size(0), h, w, c, p, p}).permute({0, 3, 1, 4, 2, 5}).reshape(x.sizes());
  }
  // [L, width], by one number for sequences, by row and column for images.
  at::Tensor positions(const at::Tensor& x) const {
    const auto line = [&](std::int64_t n) {
      return at::arange(n, x.options().dtype(fm::time_dtype(x)));
    };
    if (options_.patch == 0) return waves(line(x.size(1)), options_.width).to(x.scalar_type());
    const std::int64_t h = x.size(2) / options_.patch, w = x.size(3) / options_.patch;
    return at::cat({waves(line(h).repeat_interleave(w), options_.width / 2),
                    waves(line(w).repeat({h}), options_.width / 2)},
                   1)
        .to(x.scalar_type());
  }

  // The activated embedding of time and class [B, width].
  at::Tensor embed(const at::Tensor& t, const Inputs& more, at::ScalarType dtype) {
    const auto of = [&](const at::Tensor& time, auto& layer1, auto& layer2) {
      // Times up to 1,000, as the paper's; cast after the sines, as t may be finer than the
      // network.
      return layer2->forward(
          at::silu(layer1->forward(waves(options_.time_scale * time, options_.width).to(dtype))));
    };
    at::Tensor c = of(t, time1_, time2_);
    if (span1_) c = c + of(more.r.defined() ? more.r - t : t - t, span1_, span2_);
    if (more.label.defined()) c = c + labels_->forward(more.label);
    return at::silu(c);
  }

  at::Tensor run(const at::Tensor& x, const at::Tensor& t, const Inputs& more) {
    check(x, more.mask);
    more.check(x, t, options_.classes, options_.two_times);
    const at::Tensor padding =
        more.mask.defined() ? more.mask.logical_not().unsqueeze(2) : at::Tensor();
    const at::Tensor seen = padding.defined() ? x.masked_fill(padding, 0) : x;
    at::Tensor h = first_->forward(options_.patch > 0 ? patches(seen) : seen) + positions(x);
    const at::Tensor c = embed(t, more, x.scalar_type());
    for (const auto& block : *blocks_) h = block->as<DiTBlock>()->forward(h, c, more.mask);
    const std::vector<at::Tensor> m = modulation_->forward(c);
    const at::Tensor y = last_->forward(modulated(h, m[0], m[1]));
    if (options_.patch > 0) return from_patches(y, x);
    return padding.defined() ? y.masked_fill(padding, 0) : y;
  }

  DiTOptions options_;
  torch::nn::Linear first_{nullptr}, time1_{nullptr}, time2_{nullptr};
  torch::nn::Linear span1_{nullptr}, span2_{nullptr}, last_{nullptr};
  torch::nn::Embedding labels_{nullptr};
  torch::nn::ModuleList blocks_;
  Modulation modulation_{nullptr};
};
TORCH_MODULE(DiT);

}  // namespace nets
