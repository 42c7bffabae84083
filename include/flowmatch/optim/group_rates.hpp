#pragma once

#include <torch/optim/optimizer.h>

#include <charconv>
#include <cstddef>
#include <limits>
#include <string>
#include <system_error>
#include <vector>

#include "flowmatch/core/error.hpp"
#include "flowmatch/optim/learning_rate.hpp"
#include "flowmatch/optim/optimizer.hpp"

namespace flowmatch { inline namespace v0 {

/// The learning rates that an optimizer's groups were made with, which a schedule multiplies. A
/// rate that somebody else sets between two calls becomes that group's from then on.
class GroupRates {
 public:
  /// Begins with the rates that the groups have.
  explicit GroupRates(torch::optim::Optimizer& optimizer) { scale(optimizer, Rates{}); }

  /// Sets each group's learning rate to its own times the factor, and every group's momentum if one
  /// is given (as PyTorch's OneCycleLR does).
  void scale(torch::optim::Optimizer& optimizer, const Rates& rates) {
    auto& groups = optimizer.param_groups();
    groups_.resize(groups.size());
    for (std::size_t i = 0; i < groups.size(); ++i) {
      auto& options = groups[i].options();
      auto& [own, set] = groups_[i];
      if (options.get_lr() != set) own = options.get_lr();
      set = own * rates.factor;
      options.set_lr(set);
      if (rates.momentum) detail::set_momentum(options, *rates.momentum);
    }
  }
  /// Each group's own rate, as text for a checkpoint.
  std::string text(torch::optim::Optimizer& optimizer) const {
    std::string text;
    for (std::size_t i = 0; i < optimizer.param_groups().size(); ++i) {
      const double now = optimizer.param_groups()[i].options().get_lr();
      const bool ours = i < groups_.size() && groups_[i].set == now;
      text += (i == 0 ? "" : " ") + number_text(ours ? groups_[i].own : now);
    }
    return text;
  }
  /// After a saved state has been loaded, which brings the rates of its last step; `text` is what
  /// the function of this name gave then, or empty where nobody kept it: the groups have the rates
  /// then that they were made with. Throws CheckpointError for the text of other groups.
  void keep(torch::optim::Optimizer& optimizer, const std::string& text = "") {
    auto& groups = optimizer.param_groups();
    groups_.resize(groups.size());
    const char* next = text.data();
    const char* const end = next + text.size();
    for (std::size_t i = 0; i < groups.size(); ++i) {
      groups_[i].set = groups[i].options().get_lr();
      if (text.empty()) continue;
      const auto [rest, error] = std::from_chars(next, end, groups_[i].own);
      if (error != std::errc{} || (rest == end) != (i + 1 == groups.size())) {
        throw CheckpointError("the learning rates '" + text + "' are not of the optimizer's " +
                              std::to_string(groups.size()) + " groups; give the one that it was " +
                              "made with");
      }
      next = rest + (rest == end ? 0 : 1);
    }
  }

 private:
  struct Group {
    double own = 0;
    double set = std::numeric_limits<double>::quiet_NaN();  // by us, at last
  };
  std::vector<Group> groups_{};
};

}}  // namespace flowmatch
