#include "examples/fashion_mnist/unet.hpp"

#include <torch/nn/functional/upsampling.h>
#include <torch/torch.h>

#include <cmath>
#include <string>

#include "flowmatch/core/error.hpp"
#include "flowmatch/model/eval_scope.hpp"

namespace fashion_mnist {

namespace nn = torch::nn;

namespace {

// `contiguous` would leave a tensor of one channel as it is, which is contiguous in either sense;
// convolutions would read its strides as the other layout, and every layer after would follow.
torch::Tensor in_layout(const torch::Tensor& x, torch::MemoryFormat layout) {
  return x.to(x.options(), /*non_blocking=*/false, /*copy=*/false, layout);
}

nn::Conv2dOptions conv3x3(std::int64_t in, std::int64_t out) {
  return nn::Conv2dOptions(in, out, 3).padding(1);
}

}  // namespace

UNetOptions UNetOptions::named(std::string_view name) {
  if (name == "paper") return paper();
  if (name == "small") return small();
  throw flowmatch::OptionError("there is no model '" + std::string(name) +
                               "'; choose paper or small");
}

void UNetOptions::validate(std::int64_t size) const {
  const auto bad = [](const std::string& what) { return flowmatch::OptionError("a UNet " + what); };
  if (widths.empty() || widths.size() > 10) throw bad("needs 1 to 10 widths, one a level");
  for (const std::int64_t width : widths) {
    if (width < 2 || width % 2 != 0 || width > 4096)
      throw bad("of width " + std::to_string(width) + "; choose even widths from 2 to 4096");
    if (groups < 0 || (groups > 0 && width % groups != 0)) {
      throw bad("of width " + std::to_string(width) + " with " + std::to_string(groups) +
                " groups; choose groups that divide every width, or 0 for BatchNorm");
    }
  }
  if (blocks < 1 || blocks > 100)
    throw bad("with " + std::to_string(blocks) + " blocks a level; choose 1 to 100");
  if (!(time_scale > 0 && std::isfinite(time_scale)))
    throw bad("with a time scale of " + flowmatch::number_text(time_scale) +
              "; choose a finite one above 0");
  const std::int64_t factor = std::int64_t{1} << (widths.size() - 1);
  if (size < factor || size % factor != 0) {
    throw bad("of " + std::to_string(widths.size()) + " levels halves its images " +
              std::to_string(widths.size() - 1) + " times, which " + std::to_string(size) + " x " +
              std::to_string(size) + " pixels do not allow; choose multiples of " +
              std::to_string(factor) + ", or fewer widths");
  }
}

NormActConvImpl::NormActConvImpl(std::int64_t in, std::int64_t out, std::int64_t groups,
                                 bool bias) {
  if (groups > 0) {
    group_norm_ = register_module("norm", nn::GroupNorm(groups, in));
  } else {
    batch_norm_ = register_module("norm", nn::BatchNorm2d(in));
  }
  conv_ = register_module("conv", nn::Conv2d(conv3x3(in, out).bias(bias)));
}

torch::Tensor NormActConvImpl::forward(const torch::Tensor& x) {
  const auto norm = [&] {
    if (group_norm_.is_empty()) return batch_norm_->forward(x);
    // LibTorch's forward derivative of it takes views, which channels-last does not allow.
    const bool is_dual = x._fw_grad(/*level=*/0).defined();
    return group_norm_->forward(is_dual ? x.contiguous() : x);
  };
  return conv_->forward(torch::silu(norm()));
}

ResidualBlockImpl::ResidualBlockImpl(std::int64_t embedding, std::int64_t in, std::int64_t out,
                                     std::int64_t groups)
    : scale_shift_(register_module("scale_shift", nn::Linear(embedding, 2 * out))),
      conv1_(register_module("conv1", NormActConv(in, out, groups))),
      conv2_(register_module("conv2", NormActConv(out, out, groups))) {
  if (in != out) shortcut_ = register_module("shortcut", nn::Conv2d(nn::Conv2dOptions(in, out, 1)));
}

torch::Tensor ResidualBlockImpl::forward(const torch::Tensor& x, const torch::Tensor& embedding) {
  const auto scale_shift = scale_shift_->forward(embedding).unsqueeze(-1).unsqueeze(-1).chunk(2, 1);
  // shift + h (1 + scale) in one pass over h.
  const torch::Tensor h = torch::addcmul(scale_shift[1], conv1_->forward(x), 1 + scale_shift[0]);
  return conv2_->forward(h) + (shortcut_.is_empty() ? x : shortcut_->forward(x));
}

UNetImpl::UNetImpl(const UNetOptions& o)
    : time_scale_(o.time_scale),
      first_(register_module("first", nn::Conv2d(conv3x3(o.channels, o.widths.at(0))))),
      class_embedding_(
          register_module("class_embedding", nn::Embedding(o.classes, 4 * o.widths.at(0)))),
      time1_(register_module("time1", nn::Linear(o.widths.at(0), 4 * o.widths.at(0)))),
      time2_(register_module("time2", nn::Linear(4 * o.widths.at(0), 4 * o.widths.at(0)))),
      last_(register_module("last",
                            NormActConv(o.widths.at(0), o.channels, o.groups, /*bias=*/false))) {
  if (o.groups == 0) time_norm_ = register_module("time_norm", nn::BatchNorm1d(o.widths.at(0)));
  const std::int64_t half = o.widths[0] / 2;
  frequencies_ = torch::exp(-std::log(10000.0) * torch::linspace(0, 1, half));
  const std::int64_t embedding = 4 * o.widths[0];
  const std::size_t levels = o.widths.size();
  const auto at = [](const char* name, std::size_t level, std::int64_t block) {
    return name + std::to_string(level) + "_" + std::to_string(block);
  };

  std::int64_t width = o.widths[0];
  std::vector<std::int64_t> skips = {width};
  for (std::size_t level = 0; level < levels; ++level) {
    down_.emplace_back();
    for (std::int64_t block = 0; block < o.blocks; ++block) {
      down_.back().push_back(register_module(
          at("down", level, block), ResidualBlock(embedding, width, o.widths[level], o.groups)));
      width = o.widths[level];
      skips.push_back(width);
    }
    if (level + 1 < levels) {
      shrink_.push_back(register_module("shrink" + std::to_string(level),
                                        nn::Conv2d(conv3x3(width, width).stride(2))));
      skips.push_back(width);
    }
  }
  middle_ = register_module("middle", ResidualBlock(embedding, width, width, o.groups));
  for (std::size_t i = 0; i < levels; ++i) {
    const std::size_t level = levels - 1 - i;
    up_.emplace_back();
    for (std::int64_t block = 0; block <= o.blocks; ++block) {
      up_.back().push_back(register_module(
          at("up", level, block),
          ResidualBlock(embedding, width + skips.back(), o.widths[level], o.groups)));
      skips.pop_back();
      width = o.widths[level];
    }
    if (level > 0) {
      grow_.push_back(
          register_module("grow" + std::to_string(level), nn::Conv2d(conv3x3(width, width))));
    }
  }
  if (!o.two_times) return;
  span1_ = register_module("span1", nn::Linear(o.widths[0], embedding));
  span2_ = register_module("span2", nn::Linear(embedding, embedding));
  nn::init::zeros_(span2_->weight);
  nn::init::zeros_(span2_->bias);
}

torch::Tensor UNetImpl::waves(const torch::Tensor& t) {
  if (frequencies_.device() != t.device()) frequencies_ = frequencies_.to(t.device());
  const torch::Tensor angles = (time_scale_ * t.to(torch::kFloat)).unsqueeze(1) * frequencies_;
  return torch::cat({angles.sin(), angles.cos()}, 1).to(time1_->weight.scalar_type());
}

torch::Tensor UNetImpl::embed_time(const torch::Tensor& t) {
  torch::Tensor first = waves(t);
  if (!time_norm_.is_empty()) first = torch::silu(time_norm_->forward(first));
  return time2_->forward(torch::silu(time1_->forward(first)));
}

torch::Tensor UNetImpl::embed(const torch::Tensor& t, const torch::Tensor& r,
                              const torch::Tensor& classes) {
  torch::Tensor time = embed_time(t);
  if (!span1_.is_empty()) time = time + span2_->forward(torch::silu(span1_->forward(waves(r - t))));
  // Every block starts from the activated embedding, so it is activated once here.
  return torch::silu(time + class_embedding_->forward(classes));
}

torch::Tensor UNetImpl::forward(const torch::Tensor& x, const torch::Tensor& t,
                                const torch::Tensor& r, const torch::Tensor& classes) {
  if (span1_.is_empty()) {
    throw flowmatch::OptionError(
        "this UNet has one time and was asked for an average over two; build it with two_times, "
        "as --method mean_flow does");
  }
  return run(x, embed(t, r, classes));
}

torch::Tensor UNetImpl::forward(const torch::Tensor& x, const torch::Tensor& t,
                                const torch::Tensor& classes) {
  return run(x, embed(t, t, classes));
}

torch::Tensor UNetImpl::run(const torch::Tensor& x, const torch::Tensor& embedding) {
  torch::Tensor h = first_->forward(in_layout(x, first_->weight.suggest_memory_format()));
  std::vector<torch::Tensor> skips = {h};
  for (std::size_t level = 0; level < down_.size(); ++level) {
    for (ResidualBlock& block : down_[level]) skips.push_back(h = block->forward(h, embedding));
    if (level < shrink_.size()) skips.push_back(h = shrink_[level]->forward(h));
  }
  h = middle_->forward(h, embedding);
  for (std::size_t i = 0; i < up_.size(); ++i) {
    for (ResidualBlock& block : up_[i]) {
      h = block->forward(torch::cat({h, skips.back()}, 1), embedding);
      skips.pop_back();
    }
    if (i < grow_.size())
      h = grow_[i]->forward(torch::upsample_nearest2d(h, {2 * h.size(2), 2 * h.size(3)}));
  }
  return last_->forward(h);
}

void UNetImpl::fit_times(UNetImpl& other) {
  const flowmatch::EvalScope eval(other);
  constexpr int steps = 3000;
  constexpr double rate = 1e-2;
  torch::optim::Adam adam(parameters(), torch::optim::AdamOptions(rate));  // others get no gradient
  for (int i = 0; i < steps; ++i) {
    adam.param_groups().front().options().set_lr(rate * (steps - i) / steps);
    const torch::Tensor t = torch::rand({512}, time1_->weight.options().dtype(torch::kFloat));
    const torch::Tensor apart = embed_time(t) - other.embed_time(t).detach();
    adam.zero_grad();
    apart.square().mean().backward();
    adam.step();
  }
}

void UNetImpl::hold_batch_norm() {
  holds_batch_norm_ = true;
  train(is_training());
}

void UNetImpl::train(bool on) {
  Module::train(on);
  if (!holds_batch_norm_) return;
  for (const auto& each : modules(false)) {
    if (auto* norm = each->as<nn::BatchNorm1d>()) norm->eval();
    if (auto* norm = each->as<nn::BatchNorm2d>()) norm->eval();
  }
}

double UNetImpl::gflop(std::int64_t size) const {
  double products = 0;
  const auto add = [&](const nn::Module& layer, std::int64_t side) {
    for (const torch::Tensor& p : layer.parameters()) {
      // A convolution's weights serve every pixel, a linear layer's the whole image.
      if (p.dim() == 4) products += static_cast<double>(p.numel() * side * side);
      if (p.dim() == 2) products += static_cast<double>(p.numel());
    }
  };
  add(*time1_, 1);
  add(*time2_, 1);
  if (!span1_.is_empty()) {
    add(*span1_, 1);
    add(*span2_, 1);
  }
  add(*first_, size);
  add(*last_, size);
  std::int64_t side = size;
  for (std::size_t level = 0; level < down_.size(); ++level) {
    for (const ResidualBlock& block : down_[level]) add(*block, side);
    if (level < shrink_.size()) add(*shrink_[level], side /= 2);
  }
  add(*middle_, side);
  for (std::size_t i = 0; i < up_.size(); ++i) {
    for (const ResidualBlock& block : up_[i]) add(*block, side);
    if (i < grow_.size()) add(*grow_[i], side *= 2);
  }
  return 2e-9 * products;
}

}  // namespace fashion_mnist
