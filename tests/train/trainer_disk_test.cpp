// Disks that are full and folders that may not be written to: a clear error, the training state
// and older checkpoints as they were.

#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "flowmatch/train/trainer.hpp"
#include "tests/train/training.hpp"

using namespace training;
namespace fs = std::filesystem;

namespace {

/// While it lives, no file can grow beyond `bytes`, as on a disk that is full.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    getrlimit(RLIMIT_FSIZE, &before_);
    handler_ = std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{bytes, before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  rlimit before_{};
  void (*handler_)(int);
};

/// A file system of `kilobytes` in memory. Needs root: elsewhere it is not `there`.
class SmallDisk {
 public:
  SmallDisk(fs::path folder, int kilobytes) : folder_(std::move(folder)) {
    fs::create_directories(folder_);
    const std::string size = "size=" + std::to_string(kilobytes) + "k";
    there_ = ::mount("none", folder_.c_str(), "tmpfs", 0, size.c_str()) == 0;
  }
  ~SmallDisk() {
    if (there_) ::umount2(folder_.c_str(), MNT_DETACH);
  }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;
  bool there() const { return there_; }

 private:
  fs::path folder_;
  bool there_ = false;
};

/// Root may do everything: while it lives, the program has nobody's rights.
class Unprivileged {
 public:
  Unprivileged() {
    if (root_) root_ = ::seteuid(65534) == 0;
  }
  ~Unprivileged() {
    if (root_ && ::seteuid(0) != 0) std::abort();
  }
  Unprivileged(const Unprivileged&) = delete;
  Unprivileged& operator=(const Unprivileged&) = delete;

 private:
  bool root_ = ::geteuid() == 0;
};

std::vector<std::string> entries(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder))
    names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

fm::TrainOptions saving(const fs::path& folder) {
  fm::TrainOptions options{.epochs = 2, .schedule = fm::one_cycle(), .ema_decay = 0.9};
  options.checkpoints = folder;
  options.checkpoint_every = 1;
  options.keep_checkpoints = 100;
  return options;
}

networks::Mlp undisturbed() {
  networks::Mlp net = mlp();
  fm::TrainOptions options = saving({});
  fm::Trainer(net, noisifier(), options).fit(batches());
  return net;
}

}  // namespace

TEST_CASE("trainer: a disk that fills up stops training and with room again it goes on") {
  const TemporaryFolder folder;
  const fs::path disk = folder.path() / "disk";
  const SmallDisk small(disk, 200);
  if (!small.there()) {
    WARN("skipped: a small file system can be mounted by root only");
    return;
  }
  networks::Mlp net = mlp();
  fm::Trainer trainer(net, noisifier(), saving(disk));
  require_error<fm::CheckpointError>([&] { trainer.fit(batches()); }, "cannot write");
  const std::int64_t steps = trainer.steps();
  REQUIRE(steps > 1);
  REQUIRE(steps < 12);
  const std::vector<fs::path> whole = fm::list_checkpoints(disk);
  REQUIRE(static_cast<std::int64_t>(whole.size()) == steps - 1);
  REQUIRE(entries(disk).size() == whole.size());  // nothing half-written is left
  for (const fs::path& path : whole) fm::open_checkpoint(path);

  require_error<fm::CheckpointError>([&] { trainer.save(); }, "; check");  // still full
  REQUIRE(entries(disk).size() == whole.size());

  networks::Mlp resumed = mlp(2);
  fm::TrainOptions elsewhere = saving(folder.path() / "larger");
  fs::copy(disk, elsewhere.checkpoints, fs::copy_options::recursive);
  fm::Trainer second(resumed, noisifier(), elsewhere);
  REQUIRE(second.resume());
  second.fit(batches());
  REQUIRE(same_bits(*resumed, *undisturbed()));

  // The first one lost nothing either: with room again it goes on.
  const auto make_room = [&](const fm::StepReport&) {
    for (const fs::path& path : fm::list_checkpoints(disk)) fs::remove_all(path);
  };
  make_room({});
  trainer.save();
  trainer.fit(batches(), make_room);
  REQUIRE(same_bits(*net, *undisturbed()));
}

TEST_CASE("trainer: wherever in a checkpoint the room ends the older one stays the newest") {
  const TemporaryFolder folder;
  fm::TrainOptions options = saving(folder.path());
  options.keep_checkpoints = 1;
  networks::Mlp net = mlp();
  fm::Trainer trainer(net, noisifier(), options);
  trainer.fit(batches(), stop_after(3));
  const auto before = values(*net);
  fs::rename(folder.path() / "step-000000003", folder.path() / "step-000000001");
  std::vector<std::uintmax_t> sizes{0};
  for (const auto& file : fs::directory_iterator(folder.path() / "step-000000001"))
    sizes.push_back(fs::file_size(file.path()));
  std::sort(sizes.begin(), sizes.end());
  for (std::size_t i = 1; i < sizes.size(); ++i) {
    {
      const FileSizeLimit limit((sizes[i - 1] + sizes[i]) / 2);
      require_error<fm::CheckpointError>([&] { trainer.save(); }, "room");
    }
    REQUIRE(entries(folder.path()) == std::vector<std::string>{"step-000000001"});
    fm::open_checkpoint(folder.path() / "step-000000001");
    REQUIRE(same_bits(values(*net), before));
  }
  trainer.save();
  REQUIRE(entries(folder.path()) == std::vector<std::string>{"step-000000003"});
  trainer.fit(batches());
  REQUIRE(same_bits(*net, *undisturbed()));
}

TEST_CASE("trainer: a folder without permission is an error before and during training") {
  const TemporaryFolder folder;
  fs::permissions(folder.path(),
                  fs::perms::owner_all | fs::perms::others_read | fs::perms::others_exec);
  const fs::path run = folder.path() / "run";
  networks::Mlp net = mlp();
  fm::Trainer trainer(net, noisifier(), saving(run));
  trainer.fit(batches(), stop_after(2));
  for (const auto mode : {fs::perms::owner_read | fs::perms::owner_exec | fs::perms::others_read |
                              fs::perms::others_exec,  // read-only
                          fs::perms::none}) {
    fs::permissions(run, mode);
    {
      const Unprivileged rights;
      require_error<fm::CheckpointError>([&] { trainer.save(); }, "check the folder's permissions");
      require_error<fm::CheckpointError>([&] { trainer.fit(batches()); }, "cannot create");
    }
    fs::permissions(run, fs::perms::owner_all);
    REQUIRE(trainer.steps() == 2);
    REQUIRE(entries(run) == std::vector<std::string>{"step-000000001", "step-000000002"});
    fm::open_checkpoint(run / "step-000000002");
  }
  trainer.fit(batches());
  REQUIRE(same_bits(*net, *undisturbed()));
}

TEST_CASE("trainer: a score that a hook gives keeps the best checkpoint") {
  const TemporaryFolder folder;
  fm::TrainOptions options = saving(folder.path());
  options.checkpoint_every = 0;
  options.epochs = 6;
  options.keep_checkpoints = 1;
  networks::Mlp net = mlp();
  fm::Trainer trainer(net, noisifier(), options);
  const std::vector<double> scores{3, 1, 2, 1.5, 4, 2};
  trainer.fit(batches(), [&](const fm::EpochReport& r) {
    trainer.save(scores[static_cast<std::size_t>(r.epoch)]);
  });
  REQUIRE(entries(folder.path()) == std::vector<std::string>{"step-000000012", "step-000000036"});
  REQUIRE(fm::best_checkpoint(folder.path())->manifest.get_int("epoch") == 2);
  REQUIRE(fm::best_checkpoint(folder.path())->manifest.get_double("score") == 1);
  REQUIRE(fm::latest_checkpoint(folder.path())->manifest.get_int("epoch") == 6);
}

TEST_CASE("trainer: with checkpoints every few steps the newest stay and the best beside them") {
  const TemporaryFolder folder;
  fm::TrainOptions options = saving(folder.path());
  options.checkpoint_every = 2;
  options.epochs = 4;
  options.keep_checkpoints = 3;
  const std::vector<double> scores{2, 1, 3, 0.5};
  fm::Trainer trainer(mlp(), noisifier(), options);
  std::vector<std::vector<std::string>> left;  // after each epoch
  trainer.fit(batches(), [&](const fm::EpochReport& r) {
    trainer.save(scores[static_cast<std::size_t>(r.epoch)]);
    left.push_back(entries(folder.path()));
  });
  const auto steps = [](const std::vector<int>& numbers) {
    std::vector<std::string> names;
    for (const int n : numbers)
      names.push_back("step-0000000" + std::string(n < 10 ? "0" : "") + std::to_string(n));
    return names;
  };
  REQUIRE(left.at(0) == steps({2, 4, 6}));
  REQUIRE(left.at(1) == steps({8, 10, 12}));
  REQUIRE(left.at(2) == steps({12, 14, 16, 18}));  // 12 is the best
  REQUIRE(left.at(3) == steps({20, 22, 24}));      // 24 is better
  REQUIRE(fm::best_checkpoint(folder.path())->manifest.get_int("step") == 24);
  for (const fs::path& path : fm::list_checkpoints(folder.path())) fm::open_checkpoint(path);
}
