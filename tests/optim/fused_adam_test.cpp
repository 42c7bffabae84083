#include "flowmatch/optim/fused_adam.hpp"

#include <cmath>
#include <limits>
#include <sstream>
#include <vector>

#include "tests/support/test.hpp"

namespace {

using torch::optim::Adam;
using torch::optim::AdamOptions;
using torch::optim::AdamW;
using torch::optim::AdamWOptions;

/// 31 and 6 elements: with and without whole vector registers.
std::vector<at::Tensor> fresh(at::ScalarType type) {
  const auto options = torch::TensorOptions(type);
  return {on_device::linspace(-1, 1, 31, options).requires_grad_(),
          on_device::linspace(0.5, 2, 6, options).view({2, 3}).requires_grad_()};
}

/// A gradient that depends on the step and the values, a different one for each parameter.
void set_gradients(const std::vector<at::Tensor>& parameters, int step) {
  const at::NoGradGuard no_grad;
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    at::Tensor p = parameters[i];
    const double phase = 0.3 * step + static_cast<double>(i);
    p.mutable_grad() = (p * (1 + 0.1 * std::sin(phase)) + std::cos(phase)).clone();
  }
}

template <class Optimizer>
void steps(Optimizer& optimizer, const std::vector<at::Tensor>& parameters, int from, int to) {
  for (int step = from; step < to; ++step) {
    set_gradients(parameters, step);
    optimizer.step();
  }
}

template <class Fused, class Reference, class Options>
void require_same_path(const Options& options) {
  const auto mine = fresh(torch::kDouble);
  const auto theirs = fresh(torch::kDouble);
  Fused fused(mine, options);
  Reference reference(theirs, options);
  for (int step = 0; step < 20; ++step) {
    steps(fused, mine, step, step + 1);
    steps(reference, theirs, step, step + 1);
    for (std::size_t i = 0; i < mine.size(); ++i) {
      INFO("step " << step << ", parameter " << i);
      REQUIRE(close(mine[i], theirs[i], 1e-12, 1e-14));
    }
  }
  REQUIRE(!close(mine[0], fresh(torch::kDouble)[0], 0, 1e-2));  // it went somewhere
}

template <class Optimizer>
std::string saved(const Optimizer& optimizer) {
  torch::serialize::OutputArchive archive;
  optimizer.save(archive);
  std::ostringstream out;
  archive.save_to(out);
  return out.str();
}

template <class Optimizer>
void load(Optimizer& optimizer, const std::string& bytes) {
  std::istringstream in(bytes);
  torch::serialize::InputArchive archive;
  archive.load_from(in);
  optimizer.load(archive);
}

std::vector<at::Tensor> copies(const std::vector<at::Tensor>& tensors) {
  std::vector<at::Tensor> all;
  for (const auto& each : tensors) all.push_back(each.detach().clone().requires_grad_());
  return all;
}

}  // namespace

TEST_CASE("fused_adam: FusedAdam follows torch::optim::Adam over 20 steps") {
  SECTION("plain") { require_same_path<fm::FusedAdam, Adam>(AdamOptions(0.05)); }
  SECTION("weight decay and other settings") {
    require_same_path<fm::FusedAdam, Adam>(
        AdamOptions(0.02).weight_decay(0.1).betas({0.8, 0.95}).eps(1e-5));
  }
  SECTION("amsgrad") {
    require_same_path<fm::FusedAdam, Adam>(AdamOptions(0.05).betas({0.9, 0.7}).amsgrad(true));
  }
}

TEST_CASE("fused_adam: FusedAdamW follows torch::optim::AdamW over 20 steps") {
  SECTION("plain") { require_same_path<fm::FusedAdamW, AdamW>(AdamWOptions(0.05)); }
  SECTION("weight decay and other settings") {
    require_same_path<fm::FusedAdamW, AdamW>(
        AdamWOptions(0.02).weight_decay(0.5).betas({0.8, 0.95}).eps(1e-5));
  }
  SECTION("amsgrad") {
    require_same_path<fm::FusedAdamW, AdamW>(AdamWOptions(0.05).betas({0.9, 0.7}).amsgrad(true));
  }
}

TEST_CASE("fused_adam: a float32 step is the reference's up to rounding") {
  const auto mine = fresh(torch::kFloat);
  const auto theirs = fresh(torch::kFloat);
  fm::FusedAdam fused(mine, AdamOptions(0.05).weight_decay(0.01));
  Adam reference(theirs, AdamOptions(0.05).weight_decay(0.01));
  steps(fused, mine, 0, 1);
  steps(reference, theirs, 0, 1);
  for (std::size_t i = 0; i < mine.size(); ++i) REQUIRE(close(mine[i], theirs[i], 1e-6, 1e-7));
}

TEST_CASE("fused_adam: a learning rate and beta1 that change are followed") {
  const auto mine = fresh(torch::kDouble);
  const auto theirs = fresh(torch::kDouble);
  fm::FusedAdam fused(mine, AdamOptions(0.05));
  Adam reference(theirs, AdamOptions(0.05));
  const auto change = [](torch::optim::Optimizer& optimizer, int step) {
    auto& options = static_cast<AdamOptions&>(optimizer.param_groups().front().options());
    options.lr(0.01 * (1 + step)).betas({0.95 - 0.01 * step, 0.999});
  };
  for (int step = 0; step < 10; ++step) {
    change(fused, step);
    change(reference, step);
    steps(fused, mine, step, step + 1);
    steps(reference, theirs, step, step + 1);
  }
  REQUIRE(close(mine[0], theirs[0], 1e-12, 1e-14));
  REQUIRE(close(mine[1], theirs[1], 1e-12, 1e-14));
}

TEST_CASE("fused_adam: a parameter without a gradient rests and keeps its own count of steps") {
  const auto mine = fresh(torch::kDouble);
  const auto theirs = fresh(torch::kDouble);
  fm::FusedAdam fused(mine, AdamOptions(0.05).weight_decay(0.1));
  Adam reference(theirs, AdamOptions(0.05).weight_decay(0.1));
  for (int step = 0; step < 8; ++step) {
    set_gradients(mine, step);
    set_gradients(theirs, step);
    if (step % 3 != 1) {  // so that the two parameters' counts differ
      at::Tensor(mine[1]).mutable_grad().reset();
      at::Tensor(theirs[1]).mutable_grad().reset();
    }
    const at::Tensor before = mine[1].detach().clone();
    fused.step();
    reference.step();
    if (step % 3 != 1) REQUIRE(torch::equal(mine[1], before));
    REQUIRE(close(mine[0], theirs[0], 1e-12, 1e-14));
    REQUIRE(close(mine[1], theirs[1], 1e-12, 1e-14));
  }
  fused.zero_grad();
  fused.step();  // none at all
  REQUIRE(close(mine[0], theirs[0], 1e-12, 1e-14));
}

TEST_CASE("fused_adam: parameters of several dtypes fall back on the reference's step") {
  const auto make = [] {
    return std::vector<at::Tensor>{fresh(torch::kDouble)[0], fresh(torch::kFloat)[1]};
  };
  const auto mine = make();
  const auto theirs = make();
  fm::FusedAdamW fused(mine, AdamWOptions(0.05));
  AdamW reference(theirs, AdamWOptions(0.05));
  steps(fused, mine, 0, 5);
  steps(reference, theirs, 0, 5);
  REQUIRE(torch::equal(mine[0], theirs[0]));
  REQUIRE(torch::equal(mine[1], theirs[1]));
}

TEST_CASE("fused_adam: a gradient or state that lies in memory otherwise is not misread") {
  const auto make = [] {
    return on_device::linspace(-1, 1, 24, torch::kDouble).view({2, 3, 2, 2}).clone();
  };
  const auto grad = [](int step) {
    return (on_device::arange(24, torch::kDouble) * 0.1 + step).sin().view({2, 3, 2, 2});
  };
  at::Tensor theirs = make().requires_grad_();
  Adam reference({theirs}, AdamOptions(0.05));
  at::Tensor mine;
  SECTION("channels-last parameter and contiguous gradient") {
    mine = make().contiguous(torch::MemoryFormat::ChannelsLast).requires_grad_();
  }
  SECTION("a parameter with gaps") {
    mine = on_device::zeros({2, 3, 2, 4}, torch::kDouble).slice(3, 0, 4, 2);
    mine.copy_(make());
    mine.requires_grad_();
  }
  SECTION("a parameter that changes its layout after the first step") {
    mine = make().requires_grad_();
  }
  fm::FusedAdam fused({mine}, AdamOptions(0.05));
  for (int step = 0; step < 6; ++step) {
    mine.mutable_grad() = grad(step);
    theirs.mutable_grad() = grad(step);
    if (step >= 2 && mine.is_contiguous()) {
      mine.set_data(mine.detach().contiguous(torch::MemoryFormat::ChannelsLast));
      mine.mutable_grad() = grad(step).contiguous(torch::MemoryFormat::ChannelsLast);
    }
    fused.step();
    reference.step();
    INFO("step " << step);
    REQUIRE(close(mine, theirs, 1e-12, 1e-14));
  }
}

TEST_CASE("fused_adam: channels-last parameters with gradients alike take the same path") {
  at::Tensor mine = on_device::linspace(-1, 1, 24, torch::kDouble)
                        .view({2, 3, 2, 2})
                        .contiguous(torch::MemoryFormat::ChannelsLast)
                        .requires_grad_();
  at::Tensor theirs = mine.detach().contiguous().requires_grad_();
  fm::FusedAdam fused({mine}, AdamOptions(0.05));
  Adam reference({theirs}, AdamOptions(0.05));
  for (int step = 0; step < 5; ++step) {
    (mine.sin() * (step + 1)).sum().backward();
    (theirs.sin() * (step + 1)).sum().backward();
    fused.step();
    reference.step();
    fused.zero_grad();
    reference.zero_grad();
  }
  REQUIRE(close(mine, theirs, 1e-12, 1e-14));
}

TEST_CASE("fused_adam: its saved state goes on alike in itself and in torch::optim::Adam") {
  const auto options = AdamOptions(0.05).amsgrad(true).betas({0.9, 0.8});
  const auto straight = fresh(torch::kDouble);
  fm::FusedAdam whole(straight, options);
  steps(whole, straight, 0, 7);
  const std::string bytes = saved(whole);
  const auto again = copies(straight);
  const auto with_torch = copies(straight);
  steps(whole, straight, 7, 12);

  fm::FusedAdam second(again, AdamOptions(1.0));  // options come with the state
  load(second, bytes);
  steps(second, again, 7, 12);
  Adam third(with_torch, AdamOptions(1.0));
  load(third, bytes);
  steps(third, with_torch, 7, 12);
  for (std::size_t i = 0; i < straight.size(); ++i) {
    REQUIRE(torch::equal(straight[i], again[i]));
    REQUIRE(close(straight[i], with_torch[i], 1e-12, 1e-14));
  }
}

TEST_CASE("fused_adam: it reads a state that torch::optim::AdamW saved") {
  const auto theirs = fresh(torch::kDouble);
  AdamW reference(theirs, AdamWOptions(0.05));
  steps(reference, theirs, 0, 7);
  const auto mine = copies(theirs);
  fm::FusedAdamW fused(mine, AdamWOptions(1.0));
  load(fused, saved(reference));
  steps(reference, theirs, 7, 12);
  steps(fused, mine, 7, 12);
  for (std::size_t i = 0; i < mine.size(); ++i) REQUIRE(close(mine[i], theirs[i], 1e-12, 1e-14));
}

TEST_CASE("fused_adam: a masked step never happened") {
  const auto mine = fresh(torch::kDouble);
  const auto theirs = fresh(torch::kDouble);
  fm::FusedAdam fused(mine, AdamOptions(0.05).weight_decay(0.1));
  Adam reference(theirs, AdamOptions(0.05).weight_decay(0.1));
  const auto flag = [](float bad) { return on_device::tensor(bad); };
  int good = 0;
  for (const int bad : {1, 0, 0, 1, 1, 0, 0}) {
    const at::Tensor before = mine[0].detach().clone();
    fused.mask(flag(static_cast<float>(bad)));
    set_gradients(mine, good);
    if (bad == 1) mine[0].grad().fill_(std::numeric_limits<double>::quiet_NaN());
    fused.step();
    REQUIRE(torch::equal(mine[0], before) == (bad == 1));
    if (bad == 0) steps(reference, theirs, good, good + 1), ++good;
  }
  const auto count = [&](std::size_t i) {
    const auto& state = *fused.state().at(mine[i].unsafeGetTensorImpl());
    return static_cast<const torch::optim::AdamParamState&>(state).step();
  };
  for (std::size_t i = 0; i < mine.size(); ++i) {
    REQUIRE(close(mine[i], theirs[i], 1e-12, 1e-14));
    REQUIRE(count(i) == 7);
  }
  fused.settle();
  fused.settle();
  REQUIRE(count(0) == 4);
  REQUIRE(count(1) == 4);
  fused.mask(flag(0));
  steps(fused, mine, 4, 6);
  steps(reference, theirs, 4, 6);
  REQUIRE(close(mine[0], theirs[0], 1e-12, 1e-14));
}

TEST_CASE("fused_adam: where it falls back a masked step is left out too") {
  const std::vector<at::Tensor> mine{fresh(torch::kDouble)[0], fresh(torch::kFloat)[1]};
  fm::FusedAdam fused(mine, AdamOptions(0.05));
  const auto before = copies(mine);
  fused.mask(on_device::tensor(1.0F));
  steps(fused, mine, 0, 1);
  REQUIRE(torch::equal(mine[0], before[0]));
  REQUIRE(torch::equal(mine[1], before[1]));
  fused.mask(on_device::tensor(0.0F));
  steps(fused, mine, 0, 1);
  REQUIRE(!torch::equal(mine[1], before[1]));
}

TEST_CASE("fused_adam: the stride of a dimension of size 1 does not matter") {
  const auto weights = on_device::linspace(-1, 1, 12, torch::kDouble).view({4, 3, 1, 1});
  at::Tensor plain = weights.clone().requires_grad_();
  at::Tensor strided = weights.clone().requires_grad_();
  fm::FusedAdam a({plain}, AdamOptions(0.05));
  fm::FusedAdam b({strided}, AdamOptions(0.05));
  for (int step = 0; step < 5; ++step) {
    const at::Tensor grad = (weights * (step + 1)).sin();
    plain.mutable_grad() = grad.clone();
    strided.mutable_grad() = grad.clone().as_strided({4, 3, 1, 1}, {3, 1, 3, 3});
    a.step();
    b.step();
  }
  REQUIRE(torch::equal(plain, strided));
}

TEST_CASE("fused_adam: a closure is called as the reference calls it") {
  const auto mine = fresh(torch::kDouble);
  fm::FusedAdam fused(mine, AdamOptions(0.05));
  int calls = 0;
  const at::Tensor loss = fused.step([&] {
    ++calls;
    fused.zero_grad();
    at::Tensor value = mine[0].square().sum() + mine[1].square().sum();
    value.backward();
    return value;
  });
  REQUIRE(calls == 1);
  REQUIRE(loss.item<double>() > 0);
  REQUIRE(!torch::equal(mine[0], fresh(torch::kDouble)[0]));
}

namespace {

c10::complex<double> number(double re, double im) { return {re, im}; }

/// Complex parameters and the same as pairs of real ones, which the reference gets.
struct ComplexPair {
  std::vector<at::Tensor> mine{
      on_device::full({3, 2}, number(1, -1), torch::kComplexDouble).requires_grad_(),
      on_device::full({4}, 0.5, torch::kDouble).requires_grad_()};
  std::vector<at::Tensor> theirs{at::view_as_real(mine[0].detach()).clone().requires_grad_(),
                                 mine[1].detach().clone().requires_grad_()};

  void gradients(int step) {
    theirs[0].mutable_grad() = (on_device::arange(12, torch::kDouble).view({3, 2, 2}) + step).sin();
    mine[0].mutable_grad() = at::view_as_complex(theirs[0].grad()).clone();
    for (auto* p : {&mine[1], &theirs[1]})
      p->mutable_grad() = (on_device::arange(4, torch::kDouble) + step).cos();
  }
  void require_same() const {
    REQUIRE(close(at::view_as_real(mine[0].detach()), theirs[0], 1e-12, 1e-14));
    REQUIRE(close(mine[1], theirs[1], 1e-12, 1e-14));
  }
};

}  // namespace

TEST_CASE("fused_adam: a complex parameter is two real ones") {
  const auto options = AdamOptions(0.05).weight_decay(0.1);
  SECTION("beside real ones of its precision") {
    ComplexPair pair;
    fm::FusedAdam fused(pair.mine, options);
    Adam reference(pair.theirs, options);
    for (int step = 0; step < 8; ++step) {
      pair.gradients(step);
      fused.step();
      reference.step();
      pair.require_same();
    }
  }
  SECTION("with amsgrad, decoupled decay and gradients that lie otherwise") {
    ComplexPair pair;
    const auto all = AdamWOptions(0.05).weight_decay(0.1).amsgrad(true).betas({0.9, 0.7});
    fm::FusedAdamW fused(pair.mine, all);
    AdamW reference(pair.theirs, all);
    for (int step = 0; step < 8; ++step) {
      pair.gradients(step);
      pair.mine[0].mutable_grad() = pair.mine[0].grad().t().contiguous().t();
      if (step % 2 == 0) pair.mine[0].mutable_grad() = pair.mine[0].grad().conj_physical().conj();
      fused.step();
      reference.step();
      REQUIRE(pair.mine[0].grad().defined());
      pair.require_same();
    }
  }
  SECTION("beside parameters of another precision") {
    ComplexPair pair;
    at::Tensor single = on_device::ones({2}).requires_grad_();
    pair.mine.push_back(single);
    fm::FusedAdam fused(pair.mine, options);
    Adam reference(pair.theirs, options);
    for (int step = 0; step < 4; ++step) {
      pair.gradients(step);
      single.mutable_grad() = on_device::ones({2});
      fused.step();
      reference.step();
      pair.require_same();
    }
    REQUIRE(single[0].item<double>() == Approx(1 - 4 * 0.05).epsilon(0.01));
    fused.mask(on_device::tensor(1.0F));
    pair.gradients(4);
    fused.step();
    pair.require_same();
  }
}

TEST_CASE("fused_adam: a complex parameter converges where its real and imaginary part should") {
  const at::Tensor goal = on_device::tensor({0.5F, -0.25F}).view({1, 2});
  at::Tensor w = on_device::full({1}, number(1, 1), torch::kComplexFloat).requires_grad_();
  fm::FusedAdam optimizer({w}, AdamOptions(0.05));
  for (int i = 0; i < 400; ++i) {
    optimizer.zero_grad();
    (at::view_as_real(w) - goal).square().sum().backward();
    optimizer.step();
  }
  REQUIRE(close(at::view_as_real(w.detach()), goal, 0, 1e-3));
}

TEST_CASE("fused_adam: a saved state of complex and empty and frozen parameters goes on alike") {
  const auto make = [] {
    ComplexPair pair;
    pair.mine.push_back(on_device::empty({0, 3}, torch::kDouble).requires_grad_());
    pair.mine.push_back(on_device::full({}, 2, torch::kDouble).requires_grad_());
    pair.mine.push_back(on_device::tensor({1, 2}));  // integers
    return pair;
  };
  const auto step = [](auto& optimizer, ComplexPair& pair, int i) {
    pair.gradients(i);
    pair.mine[2].mutable_grad() = on_device::empty({0, 3}, torch::kDouble);
    pair.mine[3].mutable_grad() = on_device::full({}, i, torch::kDouble);
    optimizer.step();
  };
  for (const bool amsgrad : {false, true}) {
    const auto options = AdamOptions(0.05).amsgrad(amsgrad);
    ComplexPair first = make();
    fm::FusedAdam whole(first.mine, options);
    for (int i = 0; i < 4; ++i) step(whole, first, i);
    ComplexPair second = make();
    {
      const at::NoGradGuard no_grad;
      for (std::size_t i = 0; i < second.mine.size(); ++i) second.mine[i].copy_(first.mine[i]);
    }
    fm::FusedAdam resumed(second.mine, options);
    load(resumed, saved(whole));
    for (int i = 4; i < 8; ++i) {
      step(whole, first, i);
      step(resumed, second, i);
    }
    for (std::size_t i = 0; i < first.mine.size(); ++i)
      REQUIRE(torch::equal(first.mine[i], second.mine[i]));
    REQUIRE(!torch::equal(first.mine[0], make().mine[0]));
  }
}

TEST_CASE("fused_adam: a state of parameters in another order or grouping is refused") {
  const auto mine = fresh(torch::kDouble);
  fm::FusedAdam fused(mine, AdamOptions(0.05));
  steps(fused, mine, 0, 1);
  const std::string bytes = saved(fused);
  fm::FusedAdam swapped({mine[1], mine[0]}, AdamOptions(0.05));
  require_error<fm::CheckpointError>([&] { load(swapped, bytes); },
                                     "[31] stored for one of [2, 3]");
  std::vector<torch::optim::OptimizerParamGroup> groups;
  groups.emplace_back(std::vector<at::Tensor>{mine[0]});
  groups.emplace_back(std::vector<at::Tensor>{mine[1]});
  fm::FusedAdam grouped(groups, AdamOptions(0.05));
  REQUIRE_THROWS_AS(load(grouped, bytes), c10::Error);
}

TEST_CASE("fused_adam: a sparse gradient is refused", "[sparse]") {
  const at::Tensor weight = on_device::zeros({5, 1}).requires_grad_();
  torch::embedding(weight, on_device::tensor({1, 3}), -1, false, /*sparse=*/true).sum().backward();
  fm::FusedAdamW fused({weight}, AdamWOptions(0.05));
  require_error<fm::OptionError>([&] { fused.step(); }, "sparse(false)");
}

TEST_CASE("fused_adam: parameters that step now and then count their own masked steps") {
  // Of a parameter that begins after masked steps, or misses some, no count may fall to 0 or below.
  const auto run = [](bool masking, bool strided) {
    std::vector<at::Tensor> all = fresh(torch::kDouble);
    all.push_back(on_device::full({2, 2}, 0.5, torch::kDouble).requires_grad_());
    fm::FusedAdam optimizer(all, AdamOptions(0.05).amsgrad(true));
    // The gradients that each step has, and which steps are bad.
    const std::vector<std::vector<bool>> has{
        {true, false, false}, {true, true, false}, {true, true, false}, {true, false, true},
        {true, true, true},   {false, true, true}, {true, true, true},  {true, false, true}};
    const std::vector<bool> bad{true, true, false, false, true, true, false, false};
    for (std::size_t step = 0; step < bad.size(); ++step) {
      set_gradients(all, static_cast<int>(step));
      for (std::size_t i = 0; i < all.size(); ++i) {
        if (!has[step][i]) all[i].mutable_grad().reset();
        if (bad[step] && has[step][i]) all[i].grad().fill_(nan_value);
      }
      // Once LibTorch's own step runs, which knows nothing of masks.
      if (strided && step == 6) all[2].mutable_grad() = all[2].grad().t().contiguous().t();
      if (masking) optimizer.mask(on_device::tensor(bad[step] ? 1.0F : 0.0F));
      if (masking || !bad[step]) optimizer.step();
    }
    optimizer.settle();
    std::vector<std::int64_t> counts;
    for (const at::Tensor& p : all) {
      const auto& state = *optimizer.state().at(p.unsafeGetTensorImpl());
      counts.push_back(static_cast<const torch::optim::AdamParamState&>(state).step());
    }
    return std::pair(all, counts);
  };
  for (const bool strided : {false, true}) {
    const auto [masked, masked_counts] = run(true, strided);
    const auto [plain, counts] = run(false, strided);
    CHECK(counts == std::vector<std::int64_t>{4, 2, 3});
    CHECK(masked_counts == counts);
    for (std::size_t i = 0; i < plain.size(); ++i) CHECK(torch::equal(masked[i], plain[i]));
  }
}

TEST_CASE("fused_adam: masked steps do not count for a state that is loaded later") {
  const auto mine = fresh(torch::kDouble);
  fm::FusedAdam fused(mine, AdamOptions(0.05));
  steps(fused, mine, 0, 3);
  const std::string bytes = saved(fused);
  const auto theirs = copies(mine);
  fused.mask(on_device::tensor(1.0F));
  steps(fused, mine, 3, 5);
  load(fused, bytes);
  fused.mask(on_device::tensor(0.0F));
  steps(fused, mine, 3, 5);
  fm::FusedAdam other(theirs, AdamOptions(0.05));
  load(other, bytes);
  steps(other, theirs, 3, 5);
  for (std::size_t i = 0; i < mine.size(); ++i) CHECK(torch::equal(mine[i], theirs[i]));
}
