#include "examples/fashion_mnist/run_folder.hpp"

#include <charconv>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <system_error>

#include "flowmatch/core/error.hpp"
#include "flowmatch/monitor/metrics_log.hpp"

namespace fashion_mnist {

namespace fs = std::filesystem;
namespace fm = flowmatch;

namespace {

constexpr std::string_view samples_begin = "samples-epoch-", samples_end = ".png";

std::map<std::int64_t, fs::path> samples_by_epoch(const fs::path& run) {
  std::map<std::int64_t, fs::path> found;
  std::error_code ignored;  // a folder that can't be read holds none
  for (const auto& entry : fs::directory_iterator(run, ignored)) {
    const std::string name = entry.path().filename().string();
    if (name.size() <= samples_begin.size()) continue;
    std::int64_t epoch = 0;
    std::from_chars(name.data() + samples_begin.size(), name.data() + name.size(), epoch);
    if (epoch > 0 && name == samples_name(epoch)) found[epoch] = entry.path();
  }
  return found;
}

}  // namespace

std::vector<support::Series> loss_series(const fs::path& run) {
  std::vector<support::Series> series = {{"loss of a step", {}, {}}, {"running mean", {}, {}}};
  support::Series validation{"validation", {}, {}};
  std::optional<double> smooth;
  double before = 0;  // steps, of the runs that have been read
  for (const fs::path& folder : {run, run / end_name}) {
    double step = before;
    for (const auto& row : fm::read_metrics(folder / metrics_name, "loss")) {
      step = before + static_cast<double>(row.step);
      smooth = smooth ? *smooth + 0.05 * (row.value - *smooth) : row.value;
      for (const std::size_t i : {0U, 1U}) {
        series[i].x.push_back(step);
        series[i].y.push_back(i == 0 ? row.value : *smooth);
      }
    }
    for (const auto& row : fm::read_metrics(folder / validation_name, "loss")) {
      validation.x.push_back(before + static_cast<double>(row.step));
      validation.y.push_back(row.value);
    }
    before = step;
  }
  if (!validation.x.empty()) series.push_back(validation);
  return series;
}

std::string samples_name(std::int64_t epoch) {
  return std::string(samples_begin) + std::to_string(epoch) + std::string(samples_end);
}

void set_aside_records(const fs::path& run) {
  std::vector<fs::path> found;
  std::error_code error;
  for (const char* name : {metrics_name, validation_name, environment_name, end_name}) {
    if (fs::exists(run / name, error)) found.push_back(run / name);
  }
  for (const auto& [epoch, file] : samples_by_epoch(run)) found.push_back(file);
  if (found.empty()) return;
  fs::path target;
  for (std::int64_t n = 1; target.empty() || fs::exists(target, error); ++n)
    target = run / ("set-aside-" + std::to_string(n));
  fs::create_directory(target, error);
  for (const fs::path& path : found) {
    if (!error) fs::rename(path, target / path.filename(), error);
  }
  if (!error) return;
  throw fm::DataError("cannot move another run's records to " + target.string() + ": " +
                      error.message() + "; check the folder's permissions");
}

std::vector<SamplesPicture> samples_pictures(const fs::path& run) {
  std::vector<SamplesPicture> found;
  for (const auto& [epoch, file] : samples_by_epoch(run))
    found.push_back({"epoch " + std::to_string(epoch), file});
  std::error_code ignored;
  const fs::path of_end = run / end_name / samples_name(1);
  if (fs::exists(of_end, ignored)) found.push_back({"the end", of_end});
  return found;
}

}  // namespace fashion_mnist
