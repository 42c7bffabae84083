#pragma once

#include <ATen/Functions.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/InferenceMode.h>
#include <torch/nn/module.h>

#include <cstdint>
#include <exception>
#include <iterator>
#include <map>
#include <mutex>
#include <unordered_map>
#include <utility>
#include <vector>

namespace flowmatch { inline namespace v0 { namespace detail {

/// While it lives, operations record no gradients and make tensors that training can change later,
/// also under the caller's InferenceMode.
struct PlainTensors {
  c10::InferenceMode off{false};
  at::NoGradGuard no_grad{};
};

/// A tensor of a module and its average.
struct Average {
  at::Tensor live;     // the module's tensor
  at::Tensor average;  // never its storage, but while lent
  bool buffer = false;
  at::Tensor lent{};  // what the module's tensor was given, while the average is in it

  bool same_dtype() const { return live.scalar_type() == average.scalar_type(); }
  at::Tensor value() const { return as_average(live.detach()); }
  at::Tensor lendable() const { return same_dtype() ? average : average.to(live.scalar_type()); }
  // The average with what has been written into the module since it was lent.
  at::Tensor current() const { return lent.defined() ? merged(live.detach(), lent) : average; }
  // The same of what was in the module, and had been given `loan` before.
  at::Tensor merged(const at::Tensor& found, const at::Tensor& loan) const {
    if (found.scalar_type() != loan.scalar_type() || found.sizes() != loan.sizes() ||
        found.device() != loan.device()) {
      return average;
    }
    if (found.scalar_type() == average.scalar_type()) return found;
    return at::where(found.eq(average.to(found.scalar_type())), average, as_average(found));
  }

 private:
  at::Tensor as_average(const at::Tensor& t) const {
    return t.scalar_type() == average.scalar_type() ? t : t.to(average.scalar_type());
  }
};

/// Whose averages lie in which tensors. One table for the whole program, since several Emas may
/// average the same tensor, each without knowing of the others. It holds what living scopes ask
/// for, and nothing else: of each tensor, the youngest scope that lives says what is in it.
class Lendings {
 public:
  /// What a scope asks for: an average in the tensor, or, where that is null, its own value.
  using Wishes = std::vector<std::pair<at::Tensor, Average*>>;

  static Lendings& all() {
    static Lendings one;
    return one;
  }

  /// Whether an average is in the tensor, whoever's it is.
  bool lent(const at::Tensor& tensor) const {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (places_.empty()) return false;
    const auto found = places_.find(tensor.unsafeGetTensorImpl());
    return found != places_.end() && found->second.lender != nullptr;
  }

  /// The scope's number. The averages stay where they are until its end.
  std::int64_t begin(const Wishes& wishes) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const std::int64_t scope = next_scope_++;
    try {
      for (const auto& [tensor, average] : wishes) {
        Place& place = places_[tensor.unsafeGetTensorImpl()];
        place.live = tensor;
        place.wishes[scope] = average;
        follow(place);
      }
    } catch (...) {
      withdraw(scope);
      throw;
    }
    return scope;
  }
  /// Whatever has become of the module.
  void end(std::int64_t scope) noexcept {
    const std::lock_guard<std::mutex> lock(mutex_);
    withdraw(scope);
  }

 private:
  struct Place {
    at::Tensor live{};
    at::Tensor own{};           // the module's own value, while an average is lent
    Average* lender = nullptr;  // whose average is in it
    std::map<std::int64_t, Average*> wishes{};
  };

  void withdraw(std::int64_t scope) noexcept {
    for (auto it = places_.begin(); it != places_.end();) {
      Place& place = it->second;
      if (place.wishes.erase(scope) != 0) {
        try {
          follow(place);
        } catch (const std::exception&) {  // nowhere to say it
        }
      }
      it = place.wishes.empty() ? places_.erase(it) : std::next(it);
    }
  }

  static void follow(Place& place) {
    Average* const wanted = place.wishes.empty() ? nullptr : place.wishes.rbegin()->second;
    if (wanted == place.lender) return;
    const PlainTensors plain;
    if (place.lender != nullptr) {
      Average& lender = *std::exchange(place.lender, nullptr);
      const at::Tensor found = place.live.detach();
      const at::Tensor loan = std::exchange(lender.lent, {});
      place.live.set_data(std::exchange(place.own, {}));
      lender.average = lender.merged(found, loan);
    }
    if (wanted != nullptr) {
      const at::Tensor loan = wanted->lendable();
      place.own = place.live.detach();
      place.live.set_data(loan);
      wanted->lent = loan;
      place.lender = wanted;
    }
  }

  mutable std::mutex mutex_{};
  std::unordered_map<const c10::TensorImpl*, Place> places_{};
  std::int64_t next_scope_ = 0;
};

/// While it lives, the module has its own weights, whatever averages are in it.
class OwnWeights {
 public:
  explicit OwnWeights(const torch::nn::Module& module) {
    Lendings::Wishes wishes;
    for (const at::Tensor& p : module.parameters()) wishes.emplace_back(p, nullptr);
    for (const at::Tensor& b : module.buffers()) wishes.emplace_back(b, nullptr);
    scope_ = Lendings::all().begin(wishes);
  }
  ~OwnWeights() { Lendings::all().end(scope_); }
  OwnWeights(const OwnWeights&) = delete;
  OwnWeights& operator=(const OwnWeights&) = delete;

 private:
  std::int64_t scope_ = 0;
};

}  // namespace detail

}}  // namespace flowmatch
