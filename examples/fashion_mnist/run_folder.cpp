#include "examples/fashion_mnist/run_folder.hpp"

#include <algorithm>
#include <charconv>
#include <optional>
#include <string_view>
#include <system_error>

#include "flowmatch/train/metrics_log.hpp"

namespace fashion_mnist {

namespace fs = std::filesystem;
namespace fm = flowmatch;

namespace {

constexpr std::string_view samples_begin = "samples-epoch-", samples_end = ".png";

}  // namespace

std::vector<support::Series> loss_series(const fs::path& run) {
  std::vector<support::Series> series = {{"loss of a step", support::pale, {}, {}},
                                         {"running mean", support::blue, {}, {}}};
  std::optional<double> smooth;
  for (const auto& [step, loss] : fm::read_metrics(run / metrics_name, "loss")) {
    smooth = smooth ? *smooth + 0.05 * (loss - *smooth) : loss;
    for (const std::size_t i : {0U, 1U}) {
      series[i].x.push_back(static_cast<double>(step));
      series[i].y.push_back(i == 0 ? loss : *smooth);
    }
  }
  support::Series validation{"validation", support::orange, {}, {}};
  for (const auto& [step, loss] : fm::read_metrics(run / validation_name, "loss")) {
    validation.x.push_back(static_cast<double>(step));
    validation.y.push_back(loss);
  }
  if (!validation.x.empty()) series.push_back(validation);
  return series;
}

std::string samples_name(std::int64_t epoch) {
  return std::string(samples_begin) + std::to_string(epoch) + std::string(samples_end);
}

std::vector<SamplesPicture> samples_pictures(const fs::path& run) {
  std::vector<SamplesPicture> found;
  std::error_code ignored;  // a folder that can't be read holds none
  for (const auto& entry : fs::directory_iterator(run, ignored)) {
    const std::string name = entry.path().filename().string();
    if (name.size() <= samples_begin.size()) continue;
    SamplesPicture picture{0, entry.path()};
    std::from_chars(name.data() + samples_begin.size(), name.data() + name.size(), picture.epoch);
    if (picture.epoch > 0 && name == samples_name(picture.epoch)) found.push_back(picture);
  }
  std::sort(found.begin(), found.end(),
            [](const auto& a, const auto& b) { return a.epoch < b.epoch; });
  return found;
}

}  // namespace fashion_mnist
