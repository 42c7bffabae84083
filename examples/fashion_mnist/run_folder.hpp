#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "examples/support/svg_plot.hpp"

/// What a training run leaves in its folder beside its checkpoints, by name, and how it is read.

namespace fashion_mnist {

inline constexpr const char* metrics_name = "metrics.csv";
inline constexpr const char* validation_name = "validation.csv";
inline constexpr const char* environment_name = "environment.txt";
/// In it the run of the recipe's end (`Recipe::End`), which leaves the same.
inline constexpr const char* end_name = "end";
/// The note of a checkpoint that holds a generator and its critic (fashion_mnist_match).
inline constexpr const char* holds_pair_note = "generator_and_critic";

/// The run's losses over its steps: of each step, their running mean (of about the last 20), and
/// that on the images held out where there are some. Those of the end follow.
std::vector<support::Series> loss_series(const std::filesystem::path& run);

/// The name of the picture of samples after an epoch, counted from 1.
std::string samples_name(std::int64_t epoch);

/// Moves what another run has left in the folder (tables, pictures of samples, what it ran on, its
/// end) into a folder `set-aside-N` in it, so that it is not taken for that of the run which begins
/// there. Throws flowmatch::DataError where it can't be moved.
void set_aside_records(const std::filesystem::path& run);

struct SamplesPicture {
  std::string after;  ///< epoch 8, the end
  std::filesystem::path file;
};

/// The pictures of samples that are there, oldest first.
std::vector<SamplesPicture> samples_pictures(const std::filesystem::path& run);

}  // namespace fashion_mnist
