#pragma once

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <ios>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "flowmatch/core/error.hpp"
#include "flowmatch/io/write_file.hpp"
#include "flowmatch/monitor/hooks.hpp"

namespace flowmatch { inline namespace v0 {

/// A table that grows by a row a step (or an epoch), as text: the first column is `step`, the
/// others are given. A name that ends in `.jsonl` makes it JSON lines, any other CSV with a head:
///
///     step,loss,learning_rate              {"step": 1, "loss": 0.5, "learning_rate": 0.01}
///     1,0.5,0.01                           {"step": 2, "loss": null, "learning_rate": 0.01}
///     2,nan,0.01
///
/// Numbers have nine digits, enough for float32. A value that is missing is an empty field, in JSON
/// no member. NaN and infinity are `nan` and `inf` in CSV and null in JSON, which knows neither.
///
/// Steps ascend. A file that exists is gone on with: rows up to step `steps_done` stay, later ones
/// (of steps that a run which resumes repeats) and a last row that was cut go. Likewise a row whose
/// step is not beyond the last one, as after a roll-back, replaces those from its step on. Where no
/// steps are done, rows that are there are another run's: their file stays beside the new one,
/// `loss.csv` as `loss.1.csv`. So does, at any step, one with lines that are no such rows.
///
/// The first row opens the file, in a folder that has to be there by then: a run's folder is, which
/// `fit` makes. Before it nothing changes there: a run that is refused, and ranks that call no
/// hooks, leave another's table as it is.
///
/// Rows are handed to the operating system each `flush_every` rows and by `flush()`; what was not
/// is lost where the program is killed.
///
/// Throws OptionError for `flush_every` below 1, no columns, or a column's name with a comma, a
/// quote, a backslash or a line break; DataError where the file can't be written or is a CSV of
/// other columns.
class MetricsFile {
 public:
  /// Of the file at `path`.
  MetricsFile(const std::filesystem::path& path, std::vector<std::string> columns,
              std::int64_t steps_done = 0, std::int64_t flush_every = 1)
      : path_(absolute_path(path)),
        columns_(std::move(columns)),
        json_(path_.extension() == ".jsonl"),
        steps_done_(steps_done),
        flush_every_(flush_every),
        head_("step") {
    if (flush_every < 1) throw OptionError("flush_every is below 1; choose at least 1 row");
    if (columns_.empty()) throw OptionError("a metrics file without columns; name at least one");
    for (const std::string& name : columns_) {
      if (name.empty() || name.find_first_of(",\"\\\n\r") != std::string::npos) {
        throw OptionError(
            "'" + name +
            "' can't be a column's name; use one without commas, quotes and line breaks");
      }
      head_ += "," + name;
    }
    lines();
  }

  /// A row: a value, or none, for each column. Throws OptionError for another number of values.
  void write(std::int64_t step, const std::vector<std::optional<double>>& values) {
    if (values.size() != columns_.size()) {
      throw OptionError(text_of(values.size(), " values for the ", columns_.size(), " columns of ",
                                path_.string(), "; give one for each"));
    }
    if (!file_.is_open()) {
      open(std::min(steps_done_, step - 1));
    } else if (step <= last_step_) {
      keep_rows(path_, step - 1);
    }
    last_step_ = step;
    file_ << (json_ ? text_of("{\"step\": ", step) : text_of(step));
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (!json_) {
        file_ << ',' << (values[i] ? number(*values[i]) : "");
      } else if (values[i]) {
        file_ << ", \"" << columns_[i] << "\": " << number(*values[i]);
      }
    }
    file_ << (json_ ? "}\n" : "\n");
    if (++rows_ % flush_every_ == 0) flush();
  }

  /// Hands all rows to the operating system.
  void flush() {
    if (file_.is_open() && !file_.flush()) fail();
  }

 private:
  [[noreturn]] void fail() const {
    throw DataError("cannot write " + path_.string() +
                    "; check the folder's permissions and the free space");
  }

  struct Lines {
    bool any = false;     // but for the head
    bool others = false;  // whole ones that are no rows of such a file
  };
  Lines lines() const {
    Lines found;
    std::ifstream file(path_, std::ios::binary);
    std::error_code error;
    if (!file.is_open() && std::filesystem::exists(path_, error)) fail();
    bool first = !json_;
    for (std::string line; std::getline(file, line);) {
      if (std::exchange(first, false)) {
        if (line == head_ || (file.eof() && head_.rfind(line, 0) == 0)) continue;
        throw DataError(path_.string() + " has the columns '" + line + "', not '" + head_ +
                        "'; choose another name");
      }
      if (line.empty()) continue;
      found.any = true;
      if (!file.eof() && !step_of(line)) found.others = true;
    }
    return found;
  }

  void open(std::int64_t steps_done) {
    const Lines found = lines();
    const bool aside = steps_done_ == 0 ? found.any : found.others;
    keep_rows(aside ? set_aside() : path_, steps_done_ == 0 ? -1 : steps_done);
  }

  // Gives its new name.
  std::filesystem::path set_aside() const {
    std::error_code error;
    std::filesystem::path target = path_;
    for (std::int64_t n = 1; std::filesystem::exists(target, error); ++n) {
      target.replace_filename(path_.stem().string() + "." + std::to_string(n) +
                              path_.extension().string());
    }
    std::filesystem::rename(path_, target, error);
    if (!error) return target;
    throw DataError("cannot move " + path_.string() + " to " + target.string() + ": " +
                    error.message() + "; check the folder's permissions");
  }

  // The file is replaced as a whole, by the rows of `from`: at no moment are they lost.
  void keep_rows(const std::filesystem::path& from, std::int64_t steps_done) {
    file_.close();
    std::ifstream old(from, std::ios::binary);
    write_file<DataError>(path_, [&](std::ostream& kept) {
      if (!json_) kept << head_ << '\n';
      for (std::string line; std::getline(old, line) && !old.eof();) {  // at the end: a cut row
        const std::optional<std::int64_t> step = step_of(line);
        if (step && *step <= steps_done) kept << line << '\n';
      }
    });
    file_.open(path_, std::ios::app | std::ios::binary);
    if (!file_.is_open()) fail();
  }

  std::string number(double value) const {
    if (json_ && !std::isfinite(value)) return "null";
    if (std::isnan(value)) return "nan";  // without its sign
    char text[32];
    return {text,
            std::to_chars(text, text + sizeof text, value, std::chars_format::general, 9).ptr};
  }

  // None where the line is no row.
  std::optional<std::int64_t> step_of(std::string_view line) const {
    const std::string_view begin = json_ ? "{\"step\": " : "";
    if (line.substr(0, begin.size()) != begin) return std::nullopt;
    line.remove_prefix(begin.size());
    std::int64_t step = -1;
    const char* const last = line.data() + line.size();
    const auto [end, error] = std::from_chars(line.data(), last, step);
    const bool whole =
        error == std::errc{} && end != last && (*end == ',' || (json_ && *end == '}'));
    return whole && step >= 0 ? std::optional(step) : std::nullopt;
  }

  std::filesystem::path path_;
  std::vector<std::string> columns_;
  bool json_;
  std::int64_t steps_done_;
  std::int64_t flush_every_;
  std::string head_;
  std::ofstream file_{};
  std::int64_t rows_ = 0;
  std::int64_t last_step_ = -1;
};

namespace detail {

/// The number that the whole text is, whatever the program's locale.
template <class T>
std::optional<T> number_in(std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace detail

/// A row of a CSV that MetricsFile wrote, as far as one column goes.
struct MetricsRow {
  std::int64_t step = 0;  ///< after which it was written
  double value = 0;       ///< of the column
};

/// A column of a CSV that MetricsFile wrote, without the rows that have no value there; none where
/// there is no such file or column.
inline std::vector<MetricsRow> read_metrics(const std::filesystem::path& path,
                                            const std::string& column) {
  const auto fields = [](const std::string& line) {
    std::vector<std::string> parts(1);
    for (const char c : line) {
      if (c == ',') {
        parts.emplace_back();
      } else {
        parts.back() += c;
      }
    }
    return parts;
  };
  std::vector<MetricsRow> rows;
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  const std::vector<std::string> head = fields(line);
  const auto at =
      static_cast<std::size_t>(std::find(head.begin(), head.end(), column) - head.begin());
  while (at < head.size() && std::getline(file, line)) {
    const std::vector<std::string> parts = fields(line);
    if (parts.size() != head.size() || parts[at].empty()) continue;
    const auto step = detail::number_in<std::int64_t>(parts[0]);
    const auto value = detail::number_in<double>(parts[at]);
    if (step && value) rows.push_back({*step, *value});
  }
  return rows;
}

/// A hook that writes a MetricsFile with a row a step: loss (where it was looked at), learning_rate
/// and samples_per_second. `steps_done` is `trainer.steps()` of a run that resumes.
class MetricsLog {
 public:
  /// As `MetricsFile`, `flush_every` too.
  explicit MetricsLog(const std::filesystem::path& path, std::int64_t steps_done = 0,
                      std::int64_t flush_every = 1)
      : file_(path, {"loss", "learning_rate", "samples_per_second"}, steps_done, flush_every) {}

  /// Writes a row.
  void on_step(const StepReport& r) {
    file_.write(r.step, {r.loss, r.learning_rate, r.samples_per_second});
  }
  /// Flushes.
  void on_epoch(const EpochReport&) { file_.flush(); }

 private:
  MetricsFile file_;
};

}}  // namespace flowmatch
