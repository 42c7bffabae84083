// Training by processes that talk through Gloo. Each test case starts itself again as two ranks.

#include "flowmatch/parallel/c10d.hpp"

#ifdef USE_C10D_GLOO

#include <chrono>
#include <csignal>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <string>
#include <thread>
#include <vector>

#include "flowmatch/parallel/agree.hpp"
#include "tests/support/process.hpp"
#include "tests/support/ranks.hpp"
#include "tests/train/training.hpp"

using namespace training;
namespace fs = std::filesystem;

static_assert(fm::Communicator<fm::C10dCommunicator>);

namespace {

fm::C10dCommunicator communicator(std::chrono::seconds timeout) {
  return fm::connect<c10d::ProcessGroupGloo>(fm::Rendezvous::from_environment(timeout));
}

networks::Mlp seeded_network(std::uint64_t seed = 1) {
  networks::Mlp net = mlp(seed);
  net->to(torch::kDouble);
  return net;
}

// Batches of 9, 9, 9, 9, 9 and 3: neither divides by two.
fm::TensorBatches<> uneven_batches() { return fm::TensorBatches(points().to(torch::kDouble), 9); }

/// 204 steps.
fm::TrainOptions options_in(const fs::path& folder) {
  return {.epochs = 34,
          .learning_rate = 1e-2,
          .schedule = fm::one_cycle(),
          .clip_norm = 0.8,
          .ema_decay = 0.9,
          .seed = 5,
          .checkpoints = folder,
          .checkpoint_every = 40};
}

/// Trains, resuming where it can, and leaves the weights in a file.
template <class C, class... Hooks>
void train(const fs::path& folder, const C& ranks, Hooks&&... hooks) {
  networks::Mlp net = seeded_network(static_cast<std::uint64_t>(ranks.rank()) + 1);
  fm::Trainer trainer(net, noisifier(), options_in(folder), fm::PredictionLoss<>{}, ranks);
  trainer.resume();
  trainer.fit(uneven_batches(), hooks...);
  const std::string name = std::to_string(ranks.rank());
  fm::save_state_dict(folder / (name + ".pt"), fm::state_dict(*net));
  fm::save_state_dict(folder / (name + "-ema.pt"), trainer.ema()->state());
}

/// The largest difference between any two weights.
double distance(const fm::StateDict& a, const fm::StateDict& b) {
  double largest = 0;
  for (const auto& entry : a)
    largest = std::max(largest, (entry.value() - b.at(entry.key())).abs().max().item<double>());
  return largest;
}

/// Waits until training by others has come so far that rank 0 has told of it.
void await(const fs::path& file) {
  for (int i = 0; i < 2000 && !fs::exists(file); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  REQUIRE(fs::exists(file));
}

/// A rank's part in the tests of lost ranks: trains, slowly at first so that there is time to lose
/// one, and fails with a message where another is lost.
void train_until_lost(std::chrono::seconds timeout) {
  const fs::path folder = Process::phase();
  const bool slowly = !fs::exists(folder / "began");
  try {
    train(folder, communicator(timeout), [&](const fm::StepReport& r) {
      if (r.step == 45) std::ofstream(folder / "began") << r.step;
      if (slowly && r.step >= 45) std::this_thread::sleep_for(std::chrono::milliseconds(50));
    });
  } catch (const fm::CommunicationError& error) {
    std::cout << error.what() << std::endl;  // in one line, unlike Catch2's report
    throw;
  }
}

}  // namespace

TEST_CASE("c10d: sums and broadcasts reach every process") {
  if (!Process::is_child()) {
    ranks::Processes two(2, "run");
    for (std::size_t r = 0; r < 2; ++r) {
      const int code = two.wait(r);
      INFO(two.output(r));
      REQUIRE(code == 0);
    }
    return;
  }
  const fm::C10dCommunicator ranks = communicator(std::chrono::seconds(30));
  REQUIRE(ranks.size() == 2);
  const auto rank = static_cast<double>(ranks.rank());
  for (const auto type : {torch::kDouble, torch::kFloat, torch::kLong, torch::kBFloat16}) {
    for (const std::vector<std::int64_t>& shape : {std::vector<std::int64_t>{}, {1}, {1000, 3}}) {
      const at::Tensor sum = torch::full(shape, rank + 1, torch::TensorOptions(type));
      ranks.all_reduce(sum).wait();
      REQUIRE(sum.eq(3).all().item<bool>());
      const at::Tensor first = torch::full(shape, rank + 4, torch::TensorOptions(type));
      ranks.broadcast(first);
      REQUIRE(first.eq(4).all().item<bool>());
    }
  }
  const at::Tensor one = torch::full({100000}, rank);  // two sums under way at a time
  const at::Tensor two = torch::full({7}, rank, torch::kDouble);
  auto one_pending = ranks.all_reduce(one);
  auto two_pending = ranks.all_reduce(two);
  two_pending.wait();
  one_pending.wait();
  REQUIRE(one.eq(1).all().item<bool>());
  REQUIRE(two.eq(1).all().item<bool>());
  ranks.barrier();
}

TEST_CASE("c10d: two processes end where one with the same global batch does") {
  if (Process::is_child()) {
    train(Process::phase(), communicator(std::chrono::seconds(30)));
    return;
  }
  const TemporaryFolder alone, both;
  train(alone.path(), fm::SingleProcess{});
  ranks::Processes two(2, both.path());
  for (std::size_t r = 0; r < 2; ++r) {
    const int code = two.wait(r);
    INFO(two.output(r));
    REQUIRE(code == 0);
  }
  for (const std::string name : {".pt", "-ema.pt"}) {
    const auto first = fm::read_state_dict(both.path() / ("0" + name));
    REQUIRE(same_bits(first, fm::read_state_dict(both.path() / ("1" + name))));
    REQUIRE(distance(first, fm::read_state_dict(alone.path() / ("0" + name))) < 1e-10);
  }
}

TEST_CASE("c10d: where a rank is killed the other says so and one or two ranks go on") {
  if (Process::is_child()) {
    train_until_lost(std::chrono::seconds(30));
    return;
  }
  const TemporaryFolder alone;
  train(alone.path(), fm::SingleProcess{});
  const auto expected = fm::read_state_dict(alone.path() / "0.pt");
  for (const std::size_t killed : {std::size_t{0}, std::size_t{1}}) {
    const TemporaryFolder both;
    {
      ranks::Processes two(2, both.path());
      await(both.path() / "began");
      two.send(killed, SIGKILL);
      const auto begin = std::chrono::steady_clock::now();
      const std::size_t other = 1 - killed;
      const int code = two.wait(other);
      INFO(two.output(other));
      REQUIRE(code > 0);
      REQUIRE(two.output(other).find("rank " + std::to_string(other) + " lost the others") !=
              std::string::npos);
      REQUIRE(std::chrono::steady_clock::now() - begin < std::chrono::seconds(10));
    }
    REQUIRE(fm::latest_checkpoint(both.path())->manifest.get_int("step") < 204);
    if (killed == 0) {
      train(both.path(), fm::SingleProcess{});
    } else {
      ranks::Processes two(2, both.path());
      REQUIRE(two.wait(0) == 0);
      REQUIRE(two.wait(1) == 0);
    }
    REQUIRE(distance(fm::read_state_dict(both.path() / "0.pt"), expected) < 1e-10);
  }
}

TEST_CASE("c10d: a rank that does not answer ends the other within the limit") {
  if (Process::is_child()) {
    train_until_lost(std::chrono::seconds(4));
    return;
  }
  const TemporaryFolder both;
  ranks::Processes two(2, both.path());
  await(both.path() / "began");
  two.send(1, SIGSTOP);
  const auto begin = std::chrono::steady_clock::now();
  REQUIRE(two.wait(0) > 0);
  REQUIRE(std::chrono::steady_clock::now() - begin < std::chrono::seconds(12));
  REQUIRE(two.output(0).find("rank 0 lost the others") != std::string::npos);
}

TEST_CASE("c10d: a rank whose others do not come gives up in time") {
  fm::Rendezvous r;
  r.size = 2;
  r.timeout = std::chrono::seconds(1);
  r.port = static_cast<std::uint16_t>(ranks::free_port());
  const auto begin = std::chrono::steady_clock::now();
  require_error<fm::CommunicationError>([&] { fm::connect<c10d::ProcessGroupGloo>(r); },
                                        "did not meet the others at 127.0.0.1 port");
  REQUIRE(std::chrono::steady_clock::now() - begin < std::chrono::seconds(5));
  r.rank = 2;
  require_error<fm::OptionError>([&] { fm::connect<c10d::ProcessGroupGloo>(r); }, "rank is 2");
}

TEST_CASE("c10d: a rank alone opens nothing and is a single process") {
  const fm::C10dCommunicator alone = fm::connect<c10d::ProcessGroupGloo>({.port = 1});
  REQUIRE(alone.rank() == 0);
  REQUIRE(alone.size() == 1);
  const at::Tensor t = torch::arange(3);
  alone.all_reduce(t).wait();
  alone.broadcast(t);
  alone.barrier();
  REQUIRE(torch::equal(t, torch::arange(3)));
}

#endif  // USE_C10D_GLOO
