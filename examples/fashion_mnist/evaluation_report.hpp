#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace fashion_mnist {

/// A JSON file of fashion_mnist_evaluate, as a report shows it.
struct EvaluationReport {
  std::string name;                  ///< what was judged, in a few words
  std::optional<double> fid;         ///< none where it is not finite
  std::vector<std::string> row;      ///< its figures, under figure_heads()
  std::vector<std::string> floor;    ///< the same of real images; empty where there are none
  std::vector<std::string> nearest;  ///< distances to the nearest image, under nearest_heads()
  std::vector<std::string>
      usual;  ///< the same of the images that it is judged against; empty where there are none
  std::vector<std::vector<std::string>> origin;  ///< all that it says of the samples and the judge
  std::vector<std::string> warnings;
};

std::vector<std::string> figure_heads();
std::vector<std::string> nearest_heads();

/// Throws flowmatch::DataError for what is no such file.
EvaluationReport read_evaluation(const std::filesystem::path& file);

}  // namespace fashion_mnist
