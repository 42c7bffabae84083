#include "flowmatch/monitor/metrics_log.hpp"

#include <clocale>
#include <cmath>
#include <limits>
#include <locale>
#include <optional>
#include <string>

#include "flowmatch/io/read_file.hpp"
#include "tests/support/test.hpp"
#include "tests/train/training.hpp"

namespace fs = std::filesystem;

namespace {

std::string read(const fs::path& path) { return fm::read_file<fm::DataError>(path); }
void put(const fs::path& path, const std::string& text) { std::ofstream(path) << text; }

}  // namespace

TEST_CASE("metrics_log: rows are CSV or JSON lines by the file's name") {
  const TemporaryFolder folder;
  for (const std::string name : {"m.csv", "m.jsonl"}) {
    fm::MetricsFile file(folder.path() / name, {"loss", "rate"});
    file.write(1, {0.1F, 1e-20});
    file.write(2, {std::nullopt, -2.0});
    file.write(3, {nan_value, infinity});
    file.write(4, {-nan_value, -infinity});
  }
  CHECK(read(folder.path() / "m.csv") ==
        "step,loss,rate\n1,0.100000001,1e-20\n2,,-2\n3,nan,inf\n4,nan,-inf\n");
  CHECK(read(folder.path() / "m.jsonl") ==
        "{\"step\": 1, \"loss\": 0.100000001, \"rate\": 1e-20}\n"
        "{\"step\": 2, \"rate\": -2}\n"
        "{\"step\": 3, \"loss\": null, \"rate\": null}\n"
        "{\"step\": 4, \"loss\": null, \"rate\": null}\n");
}

TEST_CASE("metrics_log: a run that resumes keeps the rows of the steps before and no others") {
  const TemporaryFolder folder;
  for (const std::string name : {"m.csv", "m.jsonl"}) {
    const fs::path path = folder.path() / name;
    const auto write = [&](std::int64_t done, std::int64_t first, std::int64_t last, double value) {
      fm::MetricsFile file(path, {"loss"}, done);
      for (std::int64_t step = first; step <= last; ++step) file.write(step, {value});
    };
    write(0, 1, 12, 1);
    write(10, 11, 13, 2);
    const std::string resumed = read(path);
    write(0, 1, 10, 1);  // another run begins: nothing of the old one stays
    const std::string begun = read(path);
    CHECK(resumed.substr(0, begun.size()) == begun);
    const std::string rest = resumed.substr(begun.size());
    CHECK(rest == (name == "m.csv" ? "11,2\n12,2\n13,2\n"
                                   : "{\"step\": 11, \"loss\": 2}\n{\"step\": 12, \"loss\": 2}\n"
                                     "{\"step\": 13, \"loss\": 2}\n"));
    CHECK_FALSE(fs::exists(path.string() + ".writing"));
  }
}

TEST_CASE("metrics_log: a run that rolls back replaces the rows of the steps that it repeats") {
  const TemporaryFolder folder;
  const fs::path path = folder.path() / "m.csv";
  fm::MetricsFile file(path, {"loss"}, 0, 100);
  for (const int step : {1, 2, 3, 4}) file.write(step, {1});
  for (const int step : {3, 4, 5}) file.write(step, {2});
  file.write(5, {3});
  file.flush();
  CHECK(read(path) == "step,loss\n1,1\n2,1\n3,2\n4,2\n5,3\n");
}

TEST_CASE("metrics_log: a last row that was cut and lines that are none go on resuming") {
  const TemporaryFolder folder;
  const fs::path csv = folder.path() / "m.csv";
  put(csv, "step,loss\n1,0.5\njunk\n2,0.4\n3,0.");
  fm::MetricsFile(csv, {"loss"}, 3).write(4, {1});
  CHECK(read(csv) == "step,loss\n1,0.5\n2,0.4\n4,1\n");
  CHECK(read(folder.path() / "m.1.csv") == "step,loss\n1,0.5\njunk\n2,0.4\n3,0.");  // not lost
  const fs::path json = folder.path() / "m.jsonl";
  put(json, "{\"step\": 1, \"loss\": 0.5}\n\n{\"step\": 2, \"lo");
  fm::MetricsFile(json, {"loss"}, 3).write(4, {1});
  CHECK(read(json) == "{\"step\": 1, \"loss\": 0.5}\n{\"step\": 4, \"loss\": 1}\n");
  CHECK_FALSE(fs::exists(folder.path() / "m.1.jsonl"));
  put(csv, "step,lo");  // a head that was cut
  fm::MetricsFile(csv, {"loss"}, 3).write(4, {1});
  CHECK(read(csv) == "step,loss\n4,1\n");
}

TEST_CASE("metrics_log: rows reach the file each few rows and on a flush") {
  const TemporaryFolder folder;
  const fs::path path = folder.path() / "m.csv";
  fm::MetricsFile file(path, {"loss"}, 0, 2);
  file.write(1, {1});
  CHECK(read(path) == "step,loss\n");
  file.write(2, {1});
  CHECK(read(path) == "step,loss\n1,1\n2,1\n");
  file.write(3, {1});
  file.flush();
  CHECK(read(path) == "step,loss\n1,1\n2,1\n3,1\n");
}

TEST_CASE("metrics_log: the hook writes a row a step and resumes with the trainer") {
  const TemporaryFolder folder;
  const fs::path path = folder.path() / "metrics.csv";
  const auto train = [&](const char* run, std::int64_t killed) {
    const fm::TrainOptions options{
        .epochs = 2, .checkpoints = folder.path() / run, .checkpoint_every = 4};
    auto net = training::mlp();
    fm::Trainer trainer(net, training::noisifier(), options);
    trainer.resume();
    fm::MetricsLog log(path, trainer.steps());
    if (killed > 0) {
      training::train_until_killed(trainer, training::batches(), killed, log);
    } else {
      trainer.fit(training::batches(), log);
    }
  };
  train("whole", 0);
  const std::vector<fm::MetricsRow> whole = fm::read_metrics(path, "loss");
  REQUIRE(whole.size() == 12);
  train("cut", 7);
  CHECK(fm::read_metrics(path, "loss").size() == 7);
  train("cut", 0);
  const std::vector<fm::MetricsRow> cut = fm::read_metrics(path, "loss");
  REQUIRE(cut.size() == 12);
  for (std::size_t i = 0; i < 12; ++i) {
    CHECK(cut[i].step == static_cast<std::int64_t>(i) + 1);
    CHECK(cut[i].value == whole[i].value);
  }
  CHECK(read(path).rfind("step,loss,learning_rate,samples_per_second\n1,", 0) == 0);
}

TEST_CASE("metrics_log: a column is read back") {
  const TemporaryFolder folder;
  const fs::path path = folder.path() / "m.csv";
  {
    fm::MetricsFile file(path, {"a", "b"});
    file.write(1, {1.5, std::nullopt});
    file.write(2, {std::nullopt, -infinity});
    file.write(3, {2.5, nan_value});
  }
  const auto b = fm::read_metrics(path, "b");
  REQUIRE(b.size() == 2);
  CHECK(b[0].step == 2);
  CHECK(b[0].value == -infinity);
  CHECK(std::isnan(b[1].value));
  CHECK(fm::read_metrics(path, "a").size() == 2);
  CHECK(fm::read_metrics(path, "c").empty());
  CHECK(fm::read_metrics(folder.path() / "none.csv", "a").empty());
}

TEST_CASE("metrics_log: what cannot be is refused and an older file stays") {
  const TemporaryFolder folder;
  const fs::path path = folder.path() / "m.csv";
  put(path, "step,accuracy\n1,1\n");
  require_error<fm::DataError>([&] { fm::MetricsFile(path, {"loss"}, 1); },
                               "'step,accuracy', not 'step,loss'");
  CHECK(read(path) == "step,accuracy\n1,1\n");
  CHECK_FALSE(fs::exists(path.string() + ".writing"));
  fm::MetricsFile later(folder.path() / "later" / "m.csv", {"loss"});
  require_error<fm::DataError>([&] { later.write(1, {1}); }, "cannot write");
  fs::create_directory(folder.path() / "later");
  later.write(1, {1});
  CHECK(read(folder.path() / "later" / "m.csv") == "step,loss\n1,1\n");
  require_error<fm::OptionError>([&] { fm::MetricsFile(path, {}); }, "without columns");
  for (const char* name : {"", "a,b", "a\"", "a\nb"}) {
    require_error<fm::OptionError>([&] { fm::MetricsFile(path, {name}); }, "column's name");
  }
  require_error<fm::OptionError>([&] { fm::MetricsFile(path, {"loss"}, 0, 0); }, "flush_every");
  fm::MetricsFile file(folder.path() / "n.csv", {"loss"});
  require_error<fm::OptionError>([&] { file.write(1, {}); }, "0 values for the 1 columns");
  fs::create_symlink("/dev/full", folder.path() / "full.csv.writing");
  require_error<fm::DataError>(
      [&] { fm::MetricsFile(folder.path() / "full.csv", {"loss"}).write(1, {1}); }, "has room");
}

TEST_CASE("metrics_log: another run's rows stay beside those of a run that begins") {
  const TemporaryFolder folder;
  const fs::path path = folder.path() / "m.csv";
  for (int run = 1; run <= 3; ++run) {
    fm::MetricsFile file(path, {"loss"});
    file.write(1, {run * 0.5});
  }
  CHECK(read(path) == "step,loss\n1,1.5\n");
  CHECK(read(folder.path() / "m.1.csv") == "step,loss\n1,0.5\n");
  CHECK(read(folder.path() / "m.2.csv") == "step,loss\n1,1\n");
  put(folder.path() / "empty.csv", "step,loss\n");
  fm::MetricsFile(folder.path() / "empty.csv", {"loss"}).write(1, {1});
  CHECK(read(folder.path() / "empty.csv") == "step,loss\n1,1\n");
  CHECK_FALSE(fs::exists(folder.path() / "empty.1.csv"));
}

TEST_CASE("metrics_log: numbers do not depend on the program's locale and others are left out") {
  struct German : std::numpunct<char> {
    char do_thousands_sep() const override { return '.'; }
    std::string do_grouping() const override { return "\3"; }
    char do_decimal_point() const override { return ','; }
  };
  const TemporaryFolder folder;
  const fs::path path = folder.path() / "m.csv";
  const std::locale before = std::locale::global(std::locale(std::locale(), new German));
  std::setlocale(LC_ALL, "de_DE.UTF-8");  // where it is installed
  {
    fm::MetricsFile file(path, {"loss"});
    file.write(1234567, {0.75});
    file.write(1234568, {1234.5});
  }
  const auto rows = fm::read_metrics(path, "loss");
  const std::string shape = fm::shape_text(at::zeros({2048, 1000}));
  const std::string data = fm::TensorBatches(at::zeros({2048, 1}), 1024).fingerprint();
  const std::string options = fm::TrainOptions{.learning_rate = 1234.5}.text();
  std::setlocale(LC_ALL, "C");
  std::locale::global(before);
  CHECK(read(path) == "step,loss\n1234567,0.75\n1234568,1234.5\n");
  REQUIRE(rows.size() == 2);
  CHECK(rows[0].step == 1234567);
  CHECK(rows[0].value == 0.75);
  CHECK(rows[1].value == 1234.5);
  CHECK(shape == "[2048, 1000]");
  CHECK(data.find("x_1 [2048, 1] Float crc ") == 0);
  CHECK(data.find("batch 1024,") != std::string::npos);
  CHECK(options.find("learning_rate 1234.5,") != std::string::npos);
  put(path, "step,loss\n1,0.5\n2,abc\n3,0,5\nx,1\n4,nan\n5,0.5x\n6,-inf\n");
  const auto read_back = fm::read_metrics(path, "loss");
  REQUIRE(read_back.size() == 3);
  CHECK(std::isnan(read_back[1].value));
  CHECK(read_back[2].value == -infinity);
}

TEST_CASE("metrics_log: a row of what was before the first step stays when a run goes on") {
  const TemporaryFolder folder;
  const fs::path path = folder.path() / "m.csv";
  put(path, "step,loss\n0,2.5\n1,0.5\n2,0.4\n");
  fm::MetricsFile(path, {"loss"}, 1).write(2, {0.25});
  CHECK(read(path) == "step,loss\n0,2.5\n1,0.5\n2,0.25\n");
}

TEST_CASE("metrics_log: before its first row it changes nothing") {
  const TemporaryFolder folder;
  const fs::path path = folder.path() / "m.csv";
  {
    // A rank that calls no hooks, and a program that was started twice, make one, too.
    fm::MetricsLog first(path);
    fm::MetricsLog second(path);
    second.on_epoch({});
    CHECK_FALSE(fs::exists(path));
    first.on_step({.step = 1, .loss = 0.5, .learning_rate = 1});
    fm::MetricsLog third(path, 1), fourth(path, 0);
    first.on_step({.step = 2, .loss = 0.25, .learning_rate = 1});
  }
  const auto rows = fm::read_metrics(path, "loss");
  REQUIRE(rows.size() == 2);
  CHECK(rows[1].value == 0.25);
  CHECK_FALSE(fs::exists(folder.path() / "m.1.csv"));

  // Where the program has gone to another folder, or the run back, before its first row.
  const fs::path before = fs::current_path();
  fs::current_path(folder.path());
  fm::MetricsFile file("n.csv", {"loss"}, 6);
  fs::current_path(before);
  put(folder.path() / "n.csv", "step,loss\n3,1\n5,1\n6,1\n");
  file.write(5, {2});
  CHECK(read(folder.path() / "n.csv") == "step,loss\n3,1\n5,2\n");
}

TEST_CASE("metrics_log: JSON lines of others are set aside whole") {
  const TemporaryFolder folder;
  for (const std::string others :
       {"{\"epoch\": 1, \"loss\": 0.5}\n", "{\"step\":1,\"loss\":0.5}\n", "[{\"step\": 1}]\n",
        "{\"step\": -1, \"loss\": 1}\n", "{\"step\": 1x, \"loss\": 1}\n", "{\"step\": 1", "text"}) {
    for (const std::int64_t done : {0, 1}) {
      INFO(others << ", " << done);
      if (done > 0 && others.back() != '\n') continue;  // a row that was cut
      const fs::path path = folder.path() / "m.jsonl";
      const std::string own = "{\"step\": 1, \"loss\": 0.25}\n";
      put(path, own + others);
      fm::MetricsFile(path, {"loss"}, done).write(2, {1});
      CHECK(read(path) == (done > 0 ? own : "") + "{\"step\": 2, \"loss\": 1}\n");
      CHECK(read(folder.path() / "m.1.jsonl") == own + others);
      fs::remove(folder.path() / "m.1.jsonl");
    }
  }
}
