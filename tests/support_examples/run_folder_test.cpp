#include "examples/fashion_mnist/run_folder.hpp"

#include <fstream>

#include "tests/support/test.hpp"

using namespace fashion_mnist;

TEST_CASE("run folder: losses come with their running mean, validation where there is some") {
  const TemporaryFolder folder;
  REQUIRE(loss_series(folder.path()).size() == 2);
  REQUIRE(loss_series(folder.path())[0].x.empty());
  std::ofstream(folder.path() / "metrics.csv") << "step,loss,learning_rate\n1,2,0\n2,,0\n3,1,0\n";
  std::vector<support::Series> series = loss_series(folder.path());
  REQUIRE(series.size() == 2);
  REQUIRE(series[0].x == std::vector<double>{1, 3});
  REQUIRE(series[0].y == std::vector<double>{2, 1});
  REQUIRE(series[1].x == std::vector<double>{1, 3});
  REQUIRE(series[1].y[0] == 2);
  REQUIRE(series[1].y[1] == Approx(1.95));
  std::ofstream(folder.path() / "validation.csv") << "step,loss\n3,0.5\n";
  series = loss_series(folder.path());
  REQUIRE(series.size() == 3);
  REQUIRE(series[2].x == std::vector<double>{3});
  REQUIRE(series[2].y == std::vector<double>{0.5});
}

TEST_CASE("run folder: losses of the end follow") {
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder.path() / end_name);
  std::ofstream(folder.path() / metrics_name) << "step,loss\n1,2\n2,1\n";
  std::ofstream(folder.path() / end_name / metrics_name) << "step,loss\n1,0.5\n2,0.25\n";
  std::ofstream(folder.path() / end_name / validation_name) << "step,loss\n2,0.125\n";
  const std::vector<support::Series> series = loss_series(folder.path());
  REQUIRE(series[0].x == std::vector<double>{1, 2, 3, 4});
  REQUIRE(series[0].y == std::vector<double>{2, 1, 0.5, 0.25});
  REQUIRE(series[2].x == std::vector<double>{4});
}

TEST_CASE("run folder: another run's records are set aside, all and nothing else") {
  const TemporaryFolder folder;
  const auto& run = folder.path();
  set_aside_records(run);
  REQUIRE(std::filesystem::is_empty(run));
  std::filesystem::create_directory(run / "set-aside-1");
  std::filesystem::create_directory(run / end_name);
  const std::vector<std::string> theirs = {metrics_name, validation_name, environment_name,
                                           samples_name(3), samples_name(12)};
  for (const std::string& name : theirs) std::ofstream(run / name) << "of another run";
  std::ofstream(run / end_name / samples_name(1)) << "x";
  std::ofstream(run / "notes.txt") << "x";
  set_aside_records(run);
  for (const std::string& name : theirs) {
    INFO(name);
    REQUIRE_FALSE(std::filesystem::exists(run / name));
    REQUIRE(std::filesystem::exists(run / "set-aside-2" / name));
  }
  REQUIRE(std::filesystem::exists(run / "set-aside-2" / end_name / samples_name(1)));
  REQUIRE(std::filesystem::exists(run / "notes.txt"));
  REQUIRE(samples_pictures(run).empty());
}

TEST_CASE("run folder: pictures of samples are found in the order of their epochs") {
  const TemporaryFolder folder;
  for (const char* name :
       {"samples-epoch-10.png", "samples-epoch-2.png", "samples-epoch-1.png", "samples-epoch-.png",
        "samples-epoch-03.png", "samples-epoch-4.png.writing", "samples-epoch-5x.png", "loss.png"})
    std::ofstream(folder.path() / name) << "x";
  std::filesystem::create_directory(folder.path() / end_name);
  std::ofstream(folder.path() / end_name / samples_name(1)) << "x";
  std::vector<std::string> after;
  std::vector<std::filesystem::path> files;
  for (const SamplesPicture& p : samples_pictures(folder.path())) {
    after.push_back(p.after);
    files.push_back(p.file);
  }
  REQUIRE(after == std::vector<std::string>{"epoch 1", "epoch 2", "epoch 10", "the end"});
  REQUIRE(files == std::vector<std::filesystem::path>{folder.path() / samples_name(1),
                                                      folder.path() / samples_name(2),
                                                      folder.path() / samples_name(10),
                                                      folder.path() / end_name / samples_name(1)});
  REQUIRE(samples_pictures(folder.path() / "nowhere").empty());
}
