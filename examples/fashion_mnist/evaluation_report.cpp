#include "examples/fashion_mnist/evaluation_report.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "examples/fashion_mnist/evaluation.hpp"
#include "examples/support/gzip.hpp"

namespace fashion_mnist {

namespace {

using Json = nlohmann::ordered_json;

constexpr const char* missing = "–";

// NaN and infinity stand in JSON as null.
std::optional<double> number(const Json& of, const char* key) {
  const Json& value = of.at(key);
  return value.is_null() ? std::nullopt : std::optional(value.get<double>());
}

std::string text(const Json& of, const char* key, double scale, int digits) {
  const std::optional<double> value = number(of, key);
  return value ? fmt::format("{:.{}f}", scale * *value, digits) : missing;
}

// A text as it is, anything else as JSON has it.
std::string plain(const Json& value) {
  return value.is_string() ? value.get<std::string>()
                           : value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

// The standard error of the kernel distance stands behind it.
bool is_error(const FigureLine& line) { return std::string_view(line.key) == "kid_standard_error"; }

std::vector<std::string> figures(const std::string& name, const Json& of) {
  std::vector<std::string> row = {name, std::to_string(of.at("images").get<std::int64_t>())};
  for (const FigureLine& line : figure_lines) {
    const std::string value = text(of, line.key, line.scale, line.digits);
    if (is_error(line)) {
      row.back() += " ± " + value;
    } else {
      row.push_back(value);
    }
  }
  return row;
}

std::vector<std::string> distances(const std::string& name, const Json& of) {
  std::vector<std::string> row = {name};
  for (const char* key : {"minimum", "p01", "median"}) row.push_back(text(of, key, 1, 2));
  return row;
}

std::string name_of(const Json& origin) {
  if (!origin.contains("solver")) return plain(origin.value("file", Json("samples")));
  const auto entry = [&](const char* key) { return plain(origin.value(key, Json("?"))); };
  return fmt::format("{}, {} evaluations, grid {}", entry("solver"), entry("evaluations"),
                     entry("grid"));
}

// All that a value holds, one row a leaf.
void list(std::vector<std::vector<std::string>>& rows, const std::string& name, const Json& value) {
  if (!value.is_object()) {
    rows.push_back({name, plain(value)});
    return;
  }
  for (const auto& [key, part] : value.items()) list(rows, name + ", " + key, part);
}

EvaluationReport from_json(const Json& json) {
  EvaluationReport e;
  const std::string against = plain(json.value("against", Json("test")));
  e.name = name_of(json.at("origin"));
  if (against != "test") e.name += ", against " + against + " images";
  const Json& samples = json.at("samples");
  e.fid = number(samples, "fid");
  e.row = figures(e.name, samples);
  const Json& floor = json.at("floor");
  if (!floor.is_null()) e.floor = figures("floor: real images", floor);
  const Json& nearest = json.at("nearest_image");
  const std::string among = plain(nearest.at("among"));
  e.nearest = distances(e.name + ", to " + among + " images", nearest.at("samples"));
  if (nearest.contains("test_images"))
    e.usual = distances(against + " images, to " + among + " images", nearest.at("test_images"));
  for (const char* key : {"origin", "judge", "trained_on", "against"}) {
    if (json.contains(key)) list(e.origin, key, json.at(key));
  }
  for (const Json& warning : json.at("warnings")) e.warnings.push_back(plain(warning));
  return e;
}

}  // namespace

std::vector<std::string> figure_heads() {
  std::vector<std::string> heads = {"samples of", "images"};
  for (const FigureLine& line : figure_lines) {
    if (!is_error(line)) heads.emplace_back(line.name);
  }
  return heads;
}

std::vector<std::string> nearest_heads() {
  return {"distance to the nearest image", "minimum", "1 % below", "median"};
}

EvaluationReport read_evaluation(const std::filesystem::path& file) {
  constexpr std::size_t largest = std::size_t{1} << 26U;
  const std::vector<std::byte> bytes = support::read_bytes(file, largest);
  const auto* begin = reinterpret_cast<const char*>(bytes.data());
  const auto shallow = [&](int depth, Json::parse_event_t, const Json&) {
    if (depth <= 32) return true;  // deeper would be a danger to the stack
    throw fm::DataError(file.string() + " is nested deeper than any evaluation; give a file that " +
                        evaluation_program + " --json wrote");
  };
  try {
    const Json json = Json::parse(begin, begin + bytes.size(), shallow);
    if (json.at("program") == evaluation_program) return from_json(json);
    throw fm::DataError(file.string() + " is of another program; give a file that " +
                        evaluation_program + " --json wrote");
  } catch (const Json::exception& error) {
    throw fm::DataError(file.string() + " holds no evaluation: " + error.what() +
                        "; make it again with " + evaluation_program + " --json");
  }
}

}  // namespace fashion_mnist
