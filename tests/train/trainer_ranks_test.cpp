// Several ranks, here threads of one process, train as one process does. On the CPU: all backward
// passes of a process on one GPU are the work of one thread, in which a rank waits for the others.

#include <cstdint>
#include <exception>
#include <limits>
#include <stop_token>
#include <string>
#include <vector>

#include "flowmatch/loss/mean_flow.hpp"
#include "flowmatch/noisify/two_times.hpp"
#include "flowmatch/path/affine.hpp"
#include "flowmatch/train/trainer.hpp"
#include "tests/support/ranks.hpp"
#include "tests/train/training.hpp"

using namespace training;

namespace {

networks::Mlp network(std::uint64_t seed = 1) {
  networks::Mlp net = mlp(seed);
  net->to(torch::kDouble);
  return net;
}

/// 47 points in batches of 9, the last of 2: they divide by no number of ranks.
fm::TensorBatches<> uneven() { return fm::TensorBatches(points(47).to(torch::kDouble), 9); }

fm::TrainOptions options() {
  return {.epochs = 3, .learning_rate = 1e-2, .clip_norm = 0.8, .ema_decay = 0.9, .seed = 5};
}

/// What a rank, or one process, ended with.
struct End {
  networks::Mlp net{nullptr};
  std::vector<at::Tensor> averages{};
  std::vector<double> losses{};
  std::vector<std::int64_t> samples{};
  fm::TrainResult result{};
};

template <class C, class... Hooks>
void train(End& end, const C& communicator, const fm::TrainOptions& options, Hooks&&... hooks) {
  fm::Trainer trainer(end.net, noisifier(), options, fm::PredictionLoss<>{}, communicator);
  if (!options.checkpoints.empty()) trainer.resume();
  const auto record = [&](const fm::StepReport& r) {
    end.losses.push_back(*r.loss);
    end.samples.push_back(r.samples);
  };
  end.result = trainer.fit(uneven(), record, hooks...);
  for (const auto& entry : trainer.ema()->state()) end.averages.push_back(entry.value().clone());
}

/// Each with initial weights of its own.
std::vector<End> ends(std::int64_t size) {
  std::vector<End> made(static_cast<std::size_t>(size));
  for (std::size_t r = 0; r < made.size(); ++r) made[r].net = network(r + 1);
  return made;
}

End alone(const fm::TrainOptions& options) {
  End one = ends(1).front();
  train(one, fm::SingleProcess{}, options);
  return one;
}

std::vector<End> together(std::int64_t size, const fm::TrainOptions& options) {
  std::vector<End> all = ends(size);
  ranks::run_well(size, [&](const ranks::ThreadRank& rank) {
    train(all[static_cast<std::size_t>(rank.rank())], rank, options);
  });
  return all;
}

void require_close(const std::vector<at::Tensor>& a, const std::vector<at::Tensor>& b) {
  REQUIRE(a.size() == b.size());
  for (std::size_t i = 0; i < a.size(); ++i) REQUIRE(close(a[i], b[i], 0, 1e-12));
}

/// The noisifier, with NaN in the last sample of one batch's target.
struct NanNoisifier {
  fm::Noised<> operator()(const fm::Batch<>& batch, fm::Rng& rng) const {
    fm::Noised<> noised = noisifier()(batch, rng);
    if (rng.seed() == fm::Rng(5).fork("noise of a batch", 7).seed())
      noised.target.select(0, -1).fill_(std::numeric_limits<double>::quiet_NaN());
    return noised;
  }
};

}  // namespace

TEST_CASE("trainer ranks: several end where one with the same global batch does", "[cpu]") {
  for (const std::int64_t accumulate : {1, 4}) {
    fm::TrainOptions o = options();
    o.accumulate = accumulate;
    const End one = alone(o);
    for (const std::int64_t size : {2, 3}) {  // the third rank gets nothing of the last batch
      INFO(size << " ranks, " << accumulate << " batches a step");
      const auto all = together(size, o);
      require_close(values(*all[0].net), values(*one.net));
      require_close(all[0].averages, one.averages);
      for (const End& other : all) {
        REQUIRE(same_bits(*other.net, *all[0].net));
        REQUIRE(same_bits(other.averages, all[0].averages));
        REQUIRE(other.result.loss == all[0].result.loss);
        REQUIRE(other.result.steps == one.result.steps);
      }
      REQUIRE(all[0].samples == one.samples);
      for (std::size_t i = 0; i < one.losses.size(); ++i)
        REQUIRE(all[0].losses[i] == Approx(one.losses[i]).epsilon(1e-12));
      REQUIRE(all[1].losses.empty());  // hooks are rank 0's
    }
  }
}

TEST_CASE("trainer ranks: a loss that is NaN on one rank stops all at the same step", "[cpu]") {
  auto all = ends(2);
  const auto errors = ranks::run(2, [&](const ranks::ThreadRank& rank) {
    fm::Trainer trainer(all[static_cast<std::size_t>(rank.rank())].net, NanNoisifier{}, options(),
                        fm::PredictionLoss<>{}, rank);
    trainer.fit(uneven());
  });
  for (const auto& error : errors) {
    REQUIRE(error);
    try {
      std::rethrow_exception(error);
    } catch (const fm::TrainingError& nan) {
      REQUIRE(nan.step() == 7);
    }
  }
  REQUIRE(same_bits(*all[0].net, *all[1].net));
}

TEST_CASE("trainer ranks: a stop that one rank is asked for stops all at the same step", "[cpu]") {
  std::vector<End> all = ends(2);
  ranks::run_well(2, [&](const ranks::ThreadRank& rank) {
    train(all[static_cast<std::size_t>(rank.rank())], rank, options(), stop_after(4));
  });
  std::stop_source source;
  std::vector<End> others = ends(2);
  ranks::run_well(2, [&](const ranks::ThreadRank& rank) {
    fm::TrainOptions o = options();
    if (rank.rank() == 1) o.stop = source.get_token();  // of which rank 0 knows nothing
    train(others[static_cast<std::size_t>(rank.rank())], rank, o, [&](const fm::StepReport& r) {
      if (r.step == 4) source.request_stop();
    });
  });
  for (const auto* pair : {&all, &others}) {
    for (const End& end : *pair) REQUIRE(end.result.stopped);
    REQUIRE((*pair)[0].result.steps == (*pair)[1].result.steps);
    REQUIRE((*pair)[0].result.steps >= 4);
    REQUIRE((*pair)[0].result.steps <= 5);  // rank 1 may have asked just before
  }
  REQUIRE(all[0].result.steps == 4);
}

TEST_CASE("trainer ranks: rank 0 alone writes and another number of ranks resumes", "[cpu]") {
  const End through = alone(options());
  const TemporaryFolder folder;
  fm::TrainOptions o = options();
  o.checkpoints = folder.path() / "shared";
  o.checkpoint_every = 2;
  std::vector<End> two = ends(2);
  ranks::run_well(2, [&](const ranks::ThreadRank& rank) {
    fm::TrainOptions mine = o;
    if (rank.rank() == 1) mine.checkpoints = folder.path() / "other";
    train(two[static_cast<std::size_t>(rank.rank())], rank, mine, stop_after(7));
  });
  REQUIRE(!std::filesystem::exists(folder.path() / "other"));
  REQUIRE(fm::latest_checkpoint(o.checkpoints)->manifest.get_int("step") == 7);
  const auto copy = folder.path() / "copy";
  std::filesystem::copy(o.checkpoints, copy, std::filesystem::copy_options::recursive);
  const auto three = together(3, o);
  for (const End& end : three) REQUIRE(end.result.steps == 18);
  require_close(values(*three[2].net), values(*through.net));
  o.checkpoints = copy;
  require_close(values(*alone(o).net), values(*through.net));
}

TEST_CASE("trainer ranks: data or options or networks that differ are refused on every rank") {
  const auto refused = [](const std::string& part, const auto& body) {
    auto nets = ends(2);
    const auto errors = ranks::run(2, [&](const ranks::ThreadRank& rank) {
      body(rank, nets[static_cast<std::size_t>(rank.rank())].net);
    });
    for (const auto& error : errors) {
      REQUIRE(error);
      require_error<fm::OptionError>([&] { std::rethrow_exception(error); }, part);
    }
  };
  using Rank = ranks::ThreadRank;
  const auto trainer = [](const Rank& rank, networks::Mlp net, const fm::TrainOptions& o) {
    return fm::Trainer(net, noisifier(), o, fm::PredictionLoss<>{}, rank);
  };
  refused("the data of 1 of 2 ranks", [&](const Rank& rank, const networks::Mlp& net) {
    trainer(rank, net, options())
        .fit(
            fm::TensorBatches(points(47).to(torch::kDouble) + static_cast<double>(rank.rank()), 9));
  });
  refused("the options of 1 of 2 ranks", [&](const Rank& rank, const networks::Mlp& net) {
    fm::TrainOptions o = options();
    o.seed += static_cast<std::uint64_t>(rank.rank());
    trainer(rank, net, o).fit(uneven());
  });
  refused("the network of 1 of 2 ranks", [&](const Rank& rank, const networks::Mlp& net) {
    networks::Mlp wider(2, 17);
    wider->to(torch::kDouble);
    trainer(rank, rank.rank() == 0 ? net : wider, options()).fit(uneven());
  });
}

TEST_CASE("trainer ranks: a hook that throws ends the other ranks too and leaves a checkpoint",
          "[cpu]") {
  const TemporaryFolder folder;
  std::vector<End> all = ends(2);
  fm::TrainOptions o = options();
  o.checkpoints = folder.path();
  const auto errors = ranks::run(2, [&](const ranks::ThreadRank& rank) {
    train(all[static_cast<std::size_t>(rank.rank())], rank, o, break_after(3));
  });
  REQUIRE_THROWS_AS(std::rethrow_exception(errors[0]), Broken);
  REQUIRE_THROWS_AS(std::rethrow_exception(errors[1]), fm::CommunicationError);
  REQUIRE(fm::latest_checkpoint(folder.path())->manifest.get_int("step") == 3);
}

TEST_CASE("trainer ranks: a hook saves alone only where no other rank has to look with it",
          "[cpu]") {
  const TemporaryFolder folder;
  const auto train = [&](std::int64_t saved_at, bool asynchronous) {
    std::vector<End> all = ends(2);
    fm::TrainOptions o = options();
    o.checkpoints = folder.path() / (std::to_string(saved_at) + (asynchronous ? " later" : ""));
    o.asynchronous = asynchronous;
    o.log_every = 4;
    o.on_nonfinite = fm::OnNonfinite::roll_back;
    std::vector<std::int64_t> rollbacks(2);
    const auto errors = ranks::run(2, [&](const ranks::ThreadRank& rank) {
      const auto r = static_cast<std::size_t>(rank.rank());
      fm::Trainer trainer(all[r].net, NanNoisifier{}, o, fm::PredictionLoss<>{}, rank);
      const auto result = trainer.fit(uneven(), [&](const fm::StepReport& s, auto& t) {
        if (s.step == saved_at) t.save();
      });
      rollbacks[r] = result.rollbacks;
    });
    for (const auto& error : errors) {
      if (error) std::rethrow_exception(error);
    }
    CHECK(rollbacks == std::vector<std::int64_t>{1, 1});
    CHECK(same_bits(*all[0].net, *all[1].net));
    return values(*all[0].net);
  };
  require_error<fm::OptionError>([&] { train(5, true); }, "after each log_every steps");
  CHECK(same_bits(train(4, true), train(5, false)));
}

TEST_CASE("trainer ranks: when to look and when to save is the same on all", "[cpu]") {
  for (const bool saving : {false, true}) {
    const TemporaryFolder folder;
    auto nets = ends(2);
    const auto errors = ranks::run(2, [&](const ranks::ThreadRank& rank) {
      fm::TrainOptions o = options();
      o.checkpoints = folder.path();
      (saving ? o.checkpoint_every : o.log_every) = rank.rank() + 3;
      fm::Trainer trainer(nets[static_cast<std::size_t>(rank.rank())].net, noisifier(), o,
                          fm::PredictionLoss<>{}, rank);
      trainer.fit(uneven());
    });
    for (const auto& error : errors) {
      REQUIRE(error);
      require_error<fm::OptionError>([&] { std::rethrow_exception(error); },
                                     "the options of 1 of 2 ranks");
    }
  }
}

namespace {

/// An average velocity u(x, t, r).
struct TwoTimeNetImpl : torch::nn::Module {
  explicit TwoTimeNetImpl(std::uint64_t seed) {
    torch::manual_seed(seed);
    layers =
        register_module("layers", torch::nn::Sequential(torch::nn::Linear(4, 16), torch::nn::Tanh(),
                                                        torch::nn::Linear(16, 2)));
    to(test_device(), torch::kDouble);
  }
  at::Tensor forward(const at::Tensor& x, const at::Tensor& t, const at::Tensor& r) {
    return layers->forward(at::cat({x, t.unsqueeze(1), r.unsqueeze(1)}, 1));
  }
  torch::nn::Sequential layers{nullptr};
};
TORCH_MODULE(TwoTimeNet);

}  // namespace

TEST_CASE("trainer ranks: the derivative of a mean flow does not bypass the exchange of gradients",
          "[cpu]") {
  for (const auto derivative : {fm::Derivative::forward, fm::Derivative::double_backward}) {
    const auto run = [&](TwoTimeNet& net, const auto& communicator) {
      fm::Trainer trainer(net, fm::TwoTimeNoisifier(fm::LinearPath{}, 0.25), options(),
                          fm::MeanFlowLoss({.derivative = derivative}), communicator);
      trainer.fit(uneven());
    };
    TwoTimeNet one(1);
    run(one, fm::SingleProcess{});
    std::vector<TwoTimeNet> all{TwoTimeNet(1), TwoTimeNet(2)};
    ranks::run_well(2, [&](const ranks::ThreadRank& rank) {
      run(all[static_cast<std::size_t>(rank.rank())], rank);
    });
    require_close(values(*all[0]), values(*one));
    REQUIRE(same_bits(*all[1], *all[0]));
  }
}
