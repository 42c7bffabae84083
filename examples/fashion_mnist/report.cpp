// One page of a training run, to look at and to mail: curves, samples, figures, options, machine.
//   fashion_mnist_report --run runs/flow --evaluation figures.json
// The page holds its pictures itself, loads nothing and runs no script.

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <iostream>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "examples/fashion_mnist/evaluation_report.hpp"
#include "examples/fashion_mnist/run_folder.hpp"
#include "examples/support/environment.hpp"
#include "examples/support/html.hpp"
#include "examples/support/run_main.hpp"
#include "examples/support/svg_plot.hpp"
#include "flowmatch/checkpoint/checkpoint.hpp"
#include "flowmatch/io/read_file.hpp"
#include "flowmatch/io/write_file.hpp"

namespace fs = std::filesystem;
namespace fm = flowmatch;
using namespace fashion_mnist;
using Rows = std::vector<std::vector<std::string>>;

struct Options {
  fs::path run, out;
  std::vector<fs::path> evaluations, pictures;
};

std::string heading(const std::string& text) {
  return "<h2>" + support::html_escape(text) + "</h2>\n";
}

std::string paragraph(const std::string& text) {
  return "<p class=\"quiet\">" + support::html_escape(text) + "</p>\n";
}

std::string folded(const std::string& summary, const std::string& content) {
  return "<details><summary>" + support::html_escape(summary) + "</summary>\n" + content +
         "</details>\n";
}

std::string picture(const fs::path& file, const std::string& caption, const std::string& alt) {
  return "<figure>" + support::html_image(fm::read_file<fm::DataError>(file), alt, file.string()) +
         "<figcaption>" + support::html_escape(caption) + "</figcaption></figure>\n";
}

/// The few numbers that one asks for first.
std::string at_a_glance(const fm::Manifest& manifest, const std::optional<fm::Checkpoint>& end,
                        const std::vector<support::Series>& losses,
                        const std::vector<EvaluationReport>& evaluations) {
  Rows rows = {{"steps", manifest.get("step")}, {"epochs completed", manifest.get("epoch")}};
  if (end) rows.push_back({"steps of the end", end->manifest.get("step")});
  const support::Series& mean = losses[1];
  if (!mean.y.empty())
    rows.push_back({"training loss, running mean", fmt::format("{:.4f}", mean.y.back())});
  if (losses.size() > 2) {
    const support::Series& validation = losses[2];
    const auto lowest = std::min_element(validation.y.begin(), validation.y.end());
    rows.push_back(
        {"validation loss",
         fmt::format("{:.4f}, lowest {:.4f} at step {}", validation.y.back(), *lowest,
                     validation.x[static_cast<std::size_t>(lowest - validation.y.begin())])});
  }
  const EvaluationReport* best = nullptr;
  for (const EvaluationReport& e : evaluations) {
    if (e.fid && (best == nullptr || *e.fid < *best->fid)) best = &e;
  }
  if (best != nullptr)
    rows.push_back({"lowest FID", fmt::format("{:.3f} ({})", *best->fid, best->name)});
  return support::html_table({}, rows);
}

std::string curves(const std::vector<support::Series>& losses) {
  if (losses[0].x.empty()) return paragraph("The run's folder holds no metrics.csv.");
  return support::svg_plot(
      {losses,
       fmt::format("Loss over {} steps, ending at {:.4f}", losses[0].x.back(), losses[1].y.back()),
       "step (loss on a logarithmic scale)", support::Scale::logarithmic});
}

/// The newest picture of samples large, and at most five earlier ones, evenly spaced from the
/// first, small: a long run's would make the page heavy.
std::string samples(const std::vector<SamplesPicture>& pictures) {
  if (pictures.empty()) return paragraph("The run's folder holds no pictures of samples yet.");
  const auto show = [](const SamplesPicture& p) {
    const std::string after = "after " + p.after;
    return picture(p.file, after, "Samples " + after + ": a grid of clothes, a column a class");
  };
  std::string out = show(pictures.back());
  const std::size_t earlier = pictures.size() - 1;
  const std::size_t shown = std::min<std::size_t>(earlier, 5);
  if (shown > 0) out += "<div class=\"small\">\n";
  for (std::size_t i = 0; i < shown; ++i) out += show(pictures[i * earlier / shown]);
  if (shown > 0) out += "</div>\n";
  return out;
}

std::string figures(const std::vector<EvaluationReport>& evaluations) {
  if (evaluations.empty()) {
    return paragraph(
        "None were given: fashion_mnist_evaluate --checkpoint RUN --json FILE makes them, "
        "--evaluation FILE shows them.");
  }
  // Evaluations of equally many samples share their floor.
  Rows rows, floors, nearest, usual;
  std::string notes, origins;
  const auto once = [](Rows& all, const std::vector<std::string>& row) {
    if (!row.empty() && std::find(all.begin(), all.end(), row) == all.end()) all.push_back(row);
  };
  for (const EvaluationReport& e : evaluations) {
    rows.push_back(e.row);
    nearest.push_back(e.nearest);
    once(floors, e.floor);
    once(usual, e.usual);
    for (const std::string& warning : e.warnings) notes += paragraph(e.name + ": " + warning);
    origins += paragraph(e.name) + support::html_table({}, e.origin);
  }
  rows.insert(rows.end(), floors.begin(), floors.end());
  nearest.insert(nearest.end(), usual.begin(), usual.end());
  return support::html_table(figure_heads(), rows) + notes +
         paragraph(
             "By the judge that comes with the project; the scale is its own, to be read beside "
             "the floor.") +
         support::html_table(nearest_heads(), nearest) + folded("Where they come from", origins);
}

/// All of the manifest, by the beginnings of its keys.
std::string options(const fm::Manifest& manifest) {
  std::map<std::string, Rows> groups;
  for (const auto& [key, value] : manifest.entries()) {
    const std::size_t dot = key.find('.');
    const std::string group = dot == std::string::npos ? "" : key.substr(0, dot);
    if (group == "note" || group == "option" || group == "file") {
      groups[group].push_back({key.substr(dot + 1), value});
    } else {
      groups[""].push_back({key, value});
    }
  }
  return support::html_table({}, groups["note"]) + heading("Options") +
         support::html_table({}, groups["option"]) +
         folded("Position and files of the checkpoint",
                support::html_table({}, groups[""]) + support::html_table({}, groups["file"]));
}

std::string environment(const std::vector<support::Entries>& starts) {
  if (starts.empty()) return paragraph("The run's folder holds no environment.txt.");
  const auto table = [](const support::Entries& entries) {
    Rows rows;
    for (const auto& [name, value] : entries) rows.push_back({name, value});
    return support::html_table({}, rows);
  };
  std::string out = table(starts.back());
  if (starts.size() == 1) return out;
  std::string earlier;
  constexpr std::size_t most = 20;  // a run that is resumed all the time would fill the page
  for (std::size_t i = starts.size() - 1; i > 0 && starts.size() - i <= most; --i)
    earlier += table(starts[i - 1]) + "<br>\n";
  return out +
         folded(fmt::format("The run was started {} times; the earlier starts", starts.size()),
                earlier);
}

int report(Options o) {
  const auto note = [](const std::string& damaged) { std::cerr << "note: " << damaged << '\n'; };
  const std::optional<fm::Checkpoint> checkpoint = fm::latest_checkpoint(o.run, note);
  const std::optional<fm::Checkpoint> end = fm::latest_checkpoint(o.run / end_name, note);
  if (!checkpoint) {
    throw fm::CheckpointError("there is no run in " + o.run.string() +
                              "; give the --out folder of fashion_mnist_train");
  }
  if (o.out.empty()) o.out = o.run / "report.html";
  std::vector<EvaluationReport> evaluations;
  for (const fs::path& file : o.evaluations) evaluations.push_back(read_evaluation(file));
  const std::vector<support::Series> losses = loss_series(o.run);
  const fm::Manifest& manifest = checkpoint->manifest;

  const std::string name =
      fs::absolute(o.run / "").lexically_normal().parent_path().filename().string();
  std::string subtitle = "Fashion-MNIST";
  for (const char* key : {"note.method", "note.widths"}) {
    if (manifest.contains(key)) subtitle += ", " + manifest.get(key);
  }
  subtitle += "; by its newest checkpoint, " + checkpoint->path.filename().string();
  std::string body = "<h1>" + support::html_escape("Run " + name) + "</h1>\n" +
                     paragraph(subtitle) + at_a_glance(manifest, end, losses, evaluations) +
                     heading("Loss") + curves(losses) + heading("Samples") +
                     samples(samples_pictures(o.run));
  for (const fs::path& file : o.pictures)
    body += picture(file, file.filename().string(), "Picture " + file.filename().string());
  body += heading("Figures") + figures(evaluations) + heading("Recipe") + options(manifest) +
          (end ? folded("The end", options(end->manifest)) : "") + heading("Environment") +
          environment(support::read_entries(o.run / environment_name));

  const std::string page = support::html_page("Run " + name, body);
  std::error_code ignored;  // write_file reports a folder that is not there
  if (o.out.has_parent_path()) fs::create_directories(o.out.parent_path(), ignored);
  fm::write_file<fm::DataError>(o.out, [&](std::ostream& out) { out << page; });
  std::cerr << fmt::format("wrote {}, {} kB\n", o.out.string(), (page.size() + 999) / 1000);
  return support::success;
}

int main(int argc, char** argv) {
  CLI::App app("Show a training run on one HTML page", "fashion_mnist_report");
  Options o;
  app.add_option("--run", o.run, "the --out folder of fashion_mnist_train")->required();
  app.add_option("--evaluation", o.evaluations, "FILE.json ... of fashion_mnist_evaluate --json");
  app.add_option("--picture", o.pictures,
                 "FILE.png ... to show too: trajectories, animations, pairs");
  app.add_option("--out", o.out, "the page (default: report.html in the run's folder)");
  return support::run_main(app, argc, argv, [&] { return report(o); });
}
