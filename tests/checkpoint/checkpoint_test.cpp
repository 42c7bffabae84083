#include "flowmatch/checkpoint/checkpoint.hpp"

#include <fstream>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "flowmatch/optim/fused_adam.hpp"
#include "tests/support/kill_at_system_call.hpp"
#include "tests/support/networks.hpp"

namespace fs = std::filesystem;

namespace {

const std::vector<std::string> all_files{"manifest.txt", "model.pt", "ema.pt", "optimizer.pt",
                                         "generators.pt"};

/// A network and an optimizer that has stepped once.
struct Run {
  Run() : net(2, 4), optimizer(net->parameters(), torch::optim::AdamOptions(0.1)) {
    net->forward(on_device::ones({3, 2}), on_device::zeros({3})).sum().backward();
    optimizer.step();
  }
  fs::path write(const fs::path& folder, std::int64_t step, std::int64_t keep = 10,
                 const std::string& score = {}) {
    fm::Manifest manifest;
    manifest.set("step", step);
    if (!score.empty()) manifest.set("score", score);
    manifest.set("note.colour", "green");
    return fm::write_checkpoint(folder, manifest, *net, fm::state_dict(*net), optimizer,
                                test_device(), keep);
  }
  networks::Mlp net;
  fm::FusedAdam optimizer;
};

std::string bytes_of(const fs::path& path) { return fm::read_file<fm::CheckpointError>(path); }

void write_bytes(const fs::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

std::vector<std::string> names(const fs::path& folder) {
  std::vector<std::string> all;
  for (const auto& path : fm::list_checkpoints(folder)) all.push_back(path.filename().string());
  return all;
}

}  // namespace

TEST_CASE("checkpoint: what is written is whole and holds everything") {
  const TemporaryFolder folder;
  Run run;
  const fs::path path = run.write(folder.path() / "new" / "run", 585);
  REQUIRE(path == folder.path() / "new" / "run" / "step-000000585");
  for (const auto& name : all_files) REQUIRE(fs::is_regular_file(path / name));
  const fm::Checkpoint checkpoint = fm::open_checkpoint(path);
  REQUIRE(checkpoint.path == path);
  REQUIRE(checkpoint.manifest.get_int("step") == 585);
  REQUIRE(checkpoint.manifest.get("note.colour") == "green");
  REQUIRE(checkpoint.manifest.get("format") == "flowmatch checkpoint 1");
  const fm::StateDict weights = fm::read_state_dict(path / "model.pt");
  for (const auto& parameter : run.net->named_parameters())
    REQUIRE(torch::equal(weights.at(parameter.key()), parameter.value().cpu()));
  // Nothing temporary is left beside it.
  REQUIRE(std::distance(fs::directory_iterator(folder.path() / "new" / "run"),
                        fs::directory_iterator()) == 1);
}

TEST_CASE("checkpoint: without averages there is no ema file") {
  const TemporaryFolder folder;
  Run run;
  fm::Manifest manifest;
  manifest.set("step", 1);
  const fs::path path = fm::write_checkpoint(folder.path(), manifest, *run.net, std::nullopt,
                                             run.optimizer, test_device(), 1);
  REQUIRE(!fs::exists(path / "ema.pt"));
  REQUIRE(fm::open_checkpoint(path).manifest.get_int("step") == 1);
}

TEST_CASE("checkpoint: they are listed in the order of their steps and others are left out") {
  const TemporaryFolder folder;
  REQUIRE(fm::list_checkpoints(folder.path()).empty());
  REQUIRE(fm::list_checkpoints(folder.path() / "missing").empty());
  Run run;
  run.write(folder.path(), 100);
  run.write(folder.path(), 9);
  run.write(folder.path(), 20);
  write_bytes(folder.path() / "metrics.csv", "step\n");
  write_bytes(folder.path() / "step-1-notes.txt", "mine");
  fs::create_directory(folder.path() / "step-");
  fs::create_directory(folder.path() / ".writing-step-000000200");
  REQUIRE(names(folder.path()) ==
          std::vector<std::string>{"step-000000009", "step-000000020", "step-000000100"});
  REQUIRE(fm::latest_checkpoint(folder.path())->manifest.get_int("step") == 100);
}

TEST_CASE("checkpoint: steps of ten digits come after those of nine") {
  const TemporaryFolder folder;
  Run run;
  for (const std::int64_t step : {999999998, 999999999, 1000000000})
    run.write(folder.path(), step, 2);
  REQUIRE(names(folder.path()) == std::vector<std::string>{"step-999999999", "step-1000000000"});
  REQUIRE(fm::latest_checkpoint(folder.path())->manifest.get_int("step") == 1000000000);
}

TEST_CASE("checkpoint: only the newest are kept and files of others stay") {
  const TemporaryFolder folder;
  write_bytes(folder.path() / "step-1-notes.txt", "mine");
  Run run;
  for (std::int64_t step = 1; step <= 5; ++step) run.write(folder.path(), step, 2);
  REQUIRE(names(folder.path()) == std::vector<std::string>{"step-000000004", "step-000000005"});
  run.write(folder.path(), 6, 1);
  REQUIRE(names(folder.path()) == std::vector<std::string>{"step-000000006"});
  // What was just written is never removed, even where newer ones lie about.
  run.write(folder.path(), 2, 1);
  REQUIRE(names(folder.path()) == std::vector<std::string>{"step-000000002", "step-000000006"});
  REQUIRE(bytes_of(folder.path() / "step-1-notes.txt") == "mine");
}

TEST_CASE("checkpoint: the best scored one is kept beside the newest") {
  const TemporaryFolder folder;
  Run run;
  REQUIRE(!fm::best_checkpoint(folder.path()).has_value());
  run.write(folder.path(), 1, 2);
  REQUIRE(!fm::best_checkpoint(folder.path()).has_value());
  const std::vector<std::string> scores{"0.5", "0.25", "nan", "0.75", "0.3", "-inf"};
  for (std::size_t i = 0; i < scores.size(); ++i)
    run.write(folder.path(), static_cast<std::int64_t>(i) + 2, 2, scores[i]);
  REQUIRE(names(folder.path()) ==
          std::vector<std::string>{"step-000000003", "step-000000006", "step-000000007"});
  const auto best = fm::best_checkpoint(folder.path());
  REQUIRE(best->manifest.get_int("step") == 3);
  REQUIRE(best->manifest.get_double("score") == 0.25);
  REQUIRE(fm::latest_checkpoint(folder.path())->manifest.get_int("step") == 7);
  run.write(folder.path(), 8, 2, "-1e3");  // a better one takes its place
  run.write(folder.path(), 9, 2);
  run.write(folder.path(), 10, 1, "1");
  REQUIRE(names(folder.path()) == std::vector<std::string>{"step-000000008", "step-000000010"});
}

TEST_CASE("checkpoint: of equal scores the newest is best and a damaged one is passed over") {
  const TemporaryFolder folder;
  Run run;
  for (const std::int64_t step : {1, 2, 3}) run.write(folder.path(), step, 10, "2");
  run.write(folder.path(), 4, 10, "3");
  REQUIRE(fm::best_checkpoint(folder.path())->manifest.get_int("step") == 3);
  fs::resize_file(folder.path() / "step-000000003" / "model.pt", 10);
  fs::resize_file(folder.path() / "step-000000002" / "manifest.txt", 10);
  std::vector<std::string> heard;
  const auto best =
      fm::best_checkpoint(folder.path(), [&](const std::string& what) { heard.push_back(what); });
  REQUIRE(best->manifest.get_int("step") == 1);
  REQUIRE(heard.size() == 1);
  REQUIRE(heard[0].find("model.pt is damaged") != std::string::npos);
}

TEST_CASE("checkpoint: one of the same step is replaced") {
  const TemporaryFolder folder;
  Run run;
  const fs::path path = run.write(folder.path(), 3);
  {
    const torch::NoGradGuard no_grad;
    for (auto& p : run.net->parameters()) p.fill_(0.25);
  }
  run.write(folder.path(), 3);
  fm::open_checkpoint(path);
  const fm::StateDict weights = fm::read_state_dict(path / "model.pt");
  REQUIRE(weights.at("layers.0.bias")[0].item<double>() == 0.25);
}

TEST_CASE("checkpoint: cut anywhere in any file it is refused with the file's name") {
  const TemporaryFolder folder;
  Run run;
  const fs::path path = run.write(folder.path(), 7);
  for (const auto& name : all_files) {
    const std::string whole = bytes_of(path / name);
    REQUIRE(whole.size() > 50);
    for (std::size_t i = 0; i < 50; ++i) {
      // The first 49 are spread over the file; the last leaves out a single byte.
      const std::size_t length = i < 49 ? i * whole.size() / 49 : whole.size() - 1;
      write_bytes(path / name, whole.substr(0, length));
      INFO(name << " cut after " << length << " of " << whole.size() << " bytes");
      const auto open = [&] { fm::open_checkpoint(path); };
      require_error<fm::CheckpointError>(open, name == "manifest.txt" ? "manifest" : name);
      require_error<fm::CheckpointError>(open, "step-000000007 cannot be used");
      require_error<fm::CheckpointError>(open, "remove it to fall back on an older one");
    }
    write_bytes(path / name, whole);
  }
  fm::open_checkpoint(path);
}

TEST_CASE("checkpoint: a changed byte in any file is noticed") {
  const TemporaryFolder folder;
  Run run;
  const fs::path path = run.write(folder.path(), 7);
  for (const auto& name : all_files) {
    const std::string whole = bytes_of(path / name);
    for (std::size_t i = 0; i < 10; ++i) {
      std::string bytes = whole;
      bytes[i * whole.size() / 10] ^= 0x20;
      write_bytes(path / name, bytes);
      INFO(name << ", byte " << i * whole.size() / 10);
      require_error<fm::CheckpointError>([&] { fm::open_checkpoint(path); }, "cannot be used");
    }
    write_bytes(path / name, whole);
  }
}

TEST_CASE("checkpoint: of a thousand random damages none goes unnoticed") {
  const TemporaryFolder folder;
  Run run;
  const fs::path path = run.write(folder.path(), 7);
  std::mt19937 random(20);
  int unnoticed = 0;
  for (int i = 0; i < 1000; ++i) {
    const std::string& name = all_files[random() % all_files.size()];
    const std::string whole = bytes_of(path / name);
    std::string bytes = whole;
    const std::size_t place = random() % whole.size();
    if (i % 2 == 0) {
      bytes.resize(place);
    } else {
      bytes[place] = static_cast<char>(bytes[place] ^ static_cast<char>(1 + random() % 255));
    }
    write_bytes(path / name, bytes);
    try {
      fm::open_checkpoint(path);
      ++unnoticed;
    } catch (const fm::CheckpointError&) {
    }
    write_bytes(path / name, whole);
  }
  REQUIRE(unnoticed == 0);
  fm::open_checkpoint(path);
}

TEST_CASE("checkpoint: without any one of its files it is refused with the file's name") {
  const TemporaryFolder folder;
  Run run;
  const fs::path path = run.write(folder.path(), 7);
  for (const auto& name : all_files) {
    fs::rename(path / name, folder.path() / "aside");
    require_error<fm::CheckpointError>([&] { fm::open_checkpoint(path); }, name);
    fs::create_directory(path / name);  // a folder in the file's place
    require_error<fm::CheckpointError>([&] { fm::open_checkpoint(path); }, "cannot be used");
    fs::remove(path / name);
    fs::rename(folder.path() / "aside", path / name);
  }
  fm::open_checkpoint(path);
}

TEST_CASE("checkpoint: a damaged newest one is reported and an older one taken") {
  const TemporaryFolder folder;
  Run run;
  run.write(folder.path(), 1);
  run.write(folder.path(), 2);
  const fs::path third = run.write(folder.path(), 3);
  const fs::path second = folder.path() / "step-000000002";
  fs::resize_file(third / "model.pt", 10);
  fs::remove(second / "manifest.txt");
  std::vector<std::string> heard;
  const auto found =
      fm::latest_checkpoint(folder.path(), [&](const std::string& what) { heard.push_back(what); });
  REQUIRE(found.has_value());
  REQUIRE(found->manifest.get_int("step") == 1);
  REQUIRE(heard.size() == 2);
  REQUIRE(heard[0].find("step-000000003") != std::string::npos);
  REQUIRE(heard[0].find("model.pt is damaged") != std::string::npos);
  REQUIRE(heard[1].find("step-000000002") != std::string::npos);
  REQUIRE(fm::latest_checkpoint(folder.path())->manifest.get_int("step") == 1);  // unheard too
}

TEST_CASE("checkpoint: where all are damaged the newest's problem is thrown") {
  const TemporaryFolder folder;
  Run run;
  for (const std::int64_t step : {1, 2}) fs::remove(run.write(folder.path(), step) / "model.pt");
  require_error<fm::CheckpointError>([&] { fm::latest_checkpoint(folder.path()); },
                                     "step-000000002");
}

TEST_CASE("checkpoint: a name that leads round in a circle is a damaged one") {
  const TemporaryFolder folder;
  Run run;
  run.write(folder.path(), 5);
  fs::create_symlink(folder.path() / "step-000000006", folder.path() / "step-000000006");
  std::vector<std::string> damaged;
  const auto found =
      fm::latest_checkpoint(folder.path(), [&](const auto& d) { damaged.push_back(d); });
  REQUIRE(found->manifest.get_int("step") == 5);
  REQUIRE(damaged.size() == 1);
  require_error<fm::CheckpointError>([&] { fm::open_checkpoint(folder.path() / "step-000000006"); },
                                     "there is no such folder");
}

TEST_CASE("checkpoint: junk folders and other formats are refused") {
  const TemporaryFolder folder;
  REQUIRE(!fm::latest_checkpoint(folder.path()).has_value());
  REQUIRE(!fm::latest_checkpoint(folder.path() / "missing").has_value());
  require_error<fm::CheckpointError>([&] { fm::open_checkpoint(folder.path() / "missing"); },
                                     "there is no such folder");

  const fs::path junk = folder.path() / "step-000000001";
  fs::create_directory(junk);
  require_error<fm::CheckpointError>([&] { fm::latest_checkpoint(folder.path()); }, "cannot read");
  write_bytes(junk / "manifest.txt", std::string(4000, '\xff'));
  require_error<fm::CheckpointError>([&] { fm::latest_checkpoint(folder.path()); },
                                     "the manifest is damaged");
  fm::Manifest manifest;
  write_bytes(junk / "manifest.txt", manifest.to_text());
  require_error<fm::CheckpointError>([&] { fm::open_checkpoint(junk); }, "no entry 'format'");
  manifest.set("format", "flowmatch checkpoint 99");
  write_bytes(junk / "manifest.txt", manifest.to_text());
  require_error<fm::CheckpointError>([&] { fm::open_checkpoint(junk); },
                                     "its format is 'flowmatch checkpoint 99'");
  fs::remove_all(junk);
  write_bytes(junk, "a file in the place of a folder");
  require_error<fm::CheckpointError>([&] { fm::open_checkpoint(junk); }, "there is no such folder");
}

TEST_CASE("checkpoint: weights or statistics that are not finite are not written") {
  const TemporaryFolder folder;
  fm::Manifest manifest;
  manifest.set("step", 5);
  networks::Conditional net;
  fm::FusedAdam optimizer(net->parameters(), torch::optim::AdamOptions(0.1));
  const auto write = [&] {
    fm::write_checkpoint(folder.path(), manifest, *net, std::nullopt, optimizer, test_device(), 1);
  };
  const torch::NoGradGuard no_grad;
  net->norm->running_var.fill_(std::numeric_limits<float>::infinity());
  require_error<fm::TrainingError>(write, "hold NaN or infinity after 5 steps");
  net->norm->running_var.fill_(1);
  net->conv->weight[0][0][0][0] = std::numeric_limits<float>::quiet_NaN();
  require_error<fm::TrainingError>(write, "hold NaN or infinity after 5 steps");
  REQUIRE(fs::is_empty(folder.path()));
  net->conv->weight.fill_(1);
  REQUIRE_NOTHROW(write());
}

TEST_CASE("checkpoint: a folder that cannot be made is an error and nothing is left") {
  const TemporaryFolder folder;
  write_bytes(folder.path() / "file", "not a folder");
  Run run;
  require_error<fm::CheckpointError>([&] { run.write(folder.path() / "file" / "run", 1); },
                                     "cannot create");
  REQUIRE(bytes_of(folder.path() / "file") == "not a folder");
}

TEST_CASE("checkpoint: an optimizer's state is loaded back and one of another net refused") {
  const TemporaryFolder folder;
  Run run;
  const fs::path path = run.write(folder.path(), 1);
  Run other;
  fm::load_optimizer(path, other.optimizer, test_device());
  const auto average = [](Run& r, std::size_t i) {
    const auto& state = *r.optimizer.state().at(r.net->parameters()[i].unsafeGetTensorImpl());
    return static_cast<const torch::optim::AdamParamState&>(state).exp_avg();
  };
  for (std::size_t i = 0; i < run.net->parameters().size(); ++i)
    REQUIRE(torch::equal(average(other, i), average(run, i)));

  fm::FusedAdam foreign({on_device::zeros({2}).requires_grad_()}, torch::optim::AdamOptions(0.1));
  require_error<fm::CheckpointError>([&] { fm::load_optimizer(path, foreign, test_device()); },
                                     "of another optimizer");
  // What an optimizer's own load says is passed on.
  struct Refusing : torch::optim::SGD {
    using torch::optim::SGD::SGD;
    void load(torch::serialize::InputArchive&) override {
      throw fm::CheckpointError("it is not mine");
    }
  } refusing(run.net->parameters(), torch::optim::SGDOptions(0.1));
  require_error<fm::CheckpointError>([&] { fm::load_optimizer(path, refusing, test_device()); },
                                     "it is not mine");
}

TEST_CASE("checkpoint: one that was moved aside for a new one is found again") {
  const TemporaryFolder folder;
  Run run;
  const fs::path path = run.write(folder.path(), 7);
  fs::rename(path, folder.path() / ".replaced-step-000000007");
  REQUIRE(fm::latest_checkpoint(folder.path())->path == path);
}

TEST_CASE("checkpoint: killed at every system call of a second writing there is always a whole one",
          "[cpu]") {
  const TemporaryFolder folder;
  Run run;
  run.write(folder.path(), 7, 10, "0.5");
  int calls = 0, old = 0;
  for (Kill kill = Kill::killed; kill == Kill::killed; ++calls) {
    kill = kill_at_system_call(calls, [&] { run.write(folder.path(), 7, 10, "0.25"); });
    if (kill == Kill::impossible) {
      WARN("SKIPPED: processes can't be traced here");
      return;
    }
    REQUIRE(kill != Kill::failed);
    INFO("call " << calls);
    const auto found = fm::latest_checkpoint(folder.path());
    REQUIRE(found);
    const std::string score = found->manifest.get("score");
    REQUIRE((score == "0.5" || score == "0.25"));
    if (score == "0.5") ++old;
    REQUIRE(fm::read_state_dict(found->path / "model.pt").size() ==
            fm::state_dict(*run.net).size());
    if (score == "0.25" && kill == Kill::killed) run.write(folder.path(), 7, 10, "0.5");
  }
  CHECK(calls > 50);
  CHECK(old > 50);
  CHECK(fm::latest_checkpoint(folder.path())->manifest.get("score") == "0.25");
  CHECK(std::distance(fs::directory_iterator(folder.path()), fs::directory_iterator()) == 1);
}
