#include "flowmatch/monitor/tensorboard_log.hpp"

#include <string>

#include "flowmatch/io/read_file.hpp"
#include "tests/support/test.hpp"
#include "tests/train/training.hpp"

namespace {

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t n = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
  return n;
}
std::string read(fm::TensorBoardLog& log) {
  return fm::read_file<fm::DataError>(log.writer().path());
}

}  // namespace

TEST_CASE("tensorboard_log: steps and epochs of a training become scalars") {
  const TemporaryFolder folder;
  fm::TensorBoardLog log(folder.path());
  auto net = training::mlp();
  fm::Trainer(net, training::noisifier(), {.epochs = 2}).fit(training::batches(), log);
  const std::string bytes = read(log);
  CHECK(count(bytes, "train/loss") == 12);
  CHECK(count(bytes, "train/learning_rate") == 12);
  CHECK(count(bytes, "train/samples_per_second") == 12);
  CHECK(count(bytes, "train/epoch_loss") == 2);
}

TEST_CASE("tensorboard_log: a step without a look at the loss has no loss") {
  const TemporaryFolder folder;
  fm::TensorBoardLog log(folder.path());
  log.on_step({.step = 1, .loss = {}, .learning_rate = 0.1});
  CHECK(count(read(log), "train/loss") == 0);
  CHECK(count(read(log), "train/learning_rate") == 1);
}

TEST_CASE("tensorboard_log: it is flushed each few steps and at an epoch's end") {
  const TemporaryFolder folder;
  fm::TensorBoardLog log(folder.path(), 0, 3);
  const auto seen = [&] { return count(read(log), "train/learning_rate"); };
  log.on_step({.step = 1});
  log.on_step({.step = 2});
  CHECK(seen() == 0);
  log.on_step({.step = 3});
  CHECK(seen() == 3);
  log.on_step({.step = 4});
  log.on_epoch({.step = 4});
  CHECK(seen() == 4);
  require_error<fm::OptionError>([&] { fm::TensorBoardLog(folder.path(), 0, 0); }, "flush_every");
}

TEST_CASE("tensorboard_log: steps that a roll-back repeats are taken back first") {
  const TemporaryFolder folder;
  fm::TensorBoardLog log(folder.path());
  const std::string start = fm::detail::tensorboard::start();
  for (const std::int64_t step : {1, 2, 3}) log.on_step({.step = step});
  CHECK(count(read(log), start) == 0);
  for (const std::int64_t step : {2, 3, 4}) log.on_step({.step = step});
  CHECK(count(read(log), std::string("\x10\x02", 2) + start) == 1);  // with step = 2 before it
  CHECK(count(read(log), start) == 1);
}

TEST_CASE(
    "tensorboard_log: another run's curves are forgotten with the first point and not before") {
  const TemporaryFolder folder;
  const std::string start = std::string("\x10\x01", 2) + fm::detail::tensorboard::start();
  const auto files = [&] {
    const std::filesystem::directory_iterator all(folder.path());
    return std::distance(begin(all), end(all));
  };
  fm::TensorBoardLog first(folder.path());
  CHECK(files() == 0);
  first.on_step({.step = 1});
  CHECK(count(read(first), start) == 0);
  fm::TensorBoardLog refused(folder.path());
  fm::TensorBoardLog second(folder.path());
  refused.on_epoch({.step = 0});
  CHECK(files() == 1);
  second.writer().scalar("validation/loss", 0.5, 1);
  second.on_step({.step = 1});
  CHECK(count(read(second), start) == 1);
  CHECK(read(second).find(start) < read(second).find("validation/loss"));
  CHECK(files() == 2);
}
