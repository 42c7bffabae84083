// The post's claim, tested: flow matching beside DDIM, the same network, data, seed and numbers of
// evaluations, judged.
//   fashion_mnist_benchmark --out benchmark
//   fashion_mnist_benchmark --seeds 1,2,3 --n 2048 --only euler --evaluations 10,100 --out seeds
// Writes the samples of each row (uint8 .npy), rows.jsonl, table.md and quality.svg. Called again
// it goes on where it was.

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "examples/fashion_mnist/dataset.hpp"
#include "examples/fashion_mnist/evaluation.hpp"
#include "examples/fashion_mnist/sampling.hpp"
#include "examples/support/machine.hpp"
#include "examples/support/progress.hpp"
#include "examples/support/run_main.hpp"
#include "examples/support/signals.hpp"
#include "examples/support/svg_plot.hpp"
#include "flowmatch/io/npy.hpp"

namespace fs = std::filesystem;
using namespace fashion_mnist;
using Json = nlohmann::ordered_json;

const fs::path project = FLOWMATCH_SOURCE_DIR;
const fs::path models = project / "examples" / "models";

struct Options {
  fs::path flow = models / "fashion-mnist-flow";
  fs::path ddim = models / "fashion-mnist-ddim";
  fs::path out = "benchmark";
  fs::path judge = models / "fashion-mnist-judge";
  std::vector<std::int64_t> evaluations = {5, 10, 20, 50, 100};
  std::vector<double> tolerances = {0.3, 0.1, 0.03, 0.01, 0.001};
  std::vector<std::string> only;
  double last_step = 0.1;
  std::int64_t n = 1024;
  std::vector<std::uint64_t> seeds = {42};
  support::MachineOptions machine;
};

/// A way to sample at one cost.
struct Row {
  std::string method;   // as tables and pictures name it
  std::int64_t budget;  // evaluations that it may take; 0 where a tolerance decides
  SamplingOptions sampling;
  bool ddim = false;  // of DDIM's network, not the flow's

  std::string name() const {
    std::string name = fmt::format(
        "{} {} seed {}", method,
        budget > 0 ? std::to_string(budget) : fm::number_text(sampling.rtol), sampling.seed);
    std::replace(name.begin(), name.end(), ' ', '-');
    return name;
  }
};

std::vector<Row> all_rows(const Options& o) {
  struct Method {
    const char* name;
    const char* solver;
    std::int64_t stages = 1;  // evaluations a step
    double last_step = 0;
    std::string grid = "uniform";
    double eta = 0;
    bool fresh_noise = false;
    bool ddim = false;
  };
  const Method methods[] = {
      {.name = "euler", .solver = "euler"},
      {.name = "euler post grid", .solver = "euler", .grid = "post"},
      {.name = "midpoint", .solver = "midpoint", .stages = 2},
      {.name = "heun2", .solver = "heun2", .stages = 2},
      {.name = "heun2 last step", .solver = "heun2", .stages = 2, .last_step = o.last_step},
      {.name = "rk4", .solver = "rk4", .stages = 4},
      {.name = "rk4 last step", .solver = "rk4", .stages = 4, .last_step = o.last_step},
      {.name = "explicit_adams", .solver = "explicit_adams"},
      {.name = "dpm_solver_1", .solver = "dpm_solver_1", .fresh_noise = true},
      {.name = "dpm_solver_2", .solver = "dpm_solver_2", .fresh_noise = true},
      {.name = "dpm_solver_3", .solver = "dpm_solver_3", .fresh_noise = true},
      {.name = "ancestral_euler", .solver = "ancestral_euler", .fresh_noise = true},
      {.name = "euler_maruyama", .solver = "euler_maruyama", .fresh_noise = true},
      {.name = "sde_heun", .solver = "sde_heun", .stages = 2, .fresh_noise = true},
      {.name = "dpm_solver_2 eta 0", .solver = "dpm_solver_2", .last_step = o.last_step},
      {.name = "dpm_solver_2s", .solver = "dpm_solver_2s", .stages = 2, .last_step = o.last_step},
      {.name = "unipc_2", .solver = "unipc_2", .last_step = o.last_step},
      {.name = "unipc_3", .solver = "unipc_3", .last_step = o.last_step},
      {.name = "dpm_solver_2 karras",
       .solver = "dpm_solver_2",
       .grid = "karras",
       .fresh_noise = true},
      {.name = "dpm_solver_2 exponential",
       .solver = "dpm_solver_2",
       .grid = "exponential",
       .fresh_noise = true},
      {.name = "dpm_solver_2 beta", .solver = "dpm_solver_2", .grid = "beta", .fresh_noise = true},
      {.name = "ddim notebook eta 0", .solver = "ddim", .ddim = true},
      {.name = "ddim notebook eta 1", .solver = "ddim", .eta = 1, .ddim = true},
      {.name = "ddim fair eta 0", .solver = "ddim_fair", .ddim = true},
      {.name = "ddim fair eta 1", .solver = "ddim_fair", .eta = 1, .ddim = true},
      {.name = "ddim dpm_solver_2", .solver = "dpm_solver_2", .fresh_noise = true, .ddim = true},
  };
  std::vector<Row> rows;
  const auto add = [&](Row row) {
    if (!o.only.empty() && std::find(o.only.begin(), o.only.end(), row.method) == o.only.end())
      return;
    for (const std::uint64_t seed : o.seeds) {
      row.sampling.seed = seed;
      rows.push_back(row);
    }
  };
  for (const Method& m : methods) {
    for (const std::int64_t budget : o.evaluations) {
      SamplingOptions s;
      s.solver = m.solver;
      s.last_step = m.last_step;
      s.grid = m.grid;
      s.eta = m.eta;
      if (m.fresh_noise) {
        s.eta = 1;
        // Steps shrink towards the data, and the last evaluation lies where the network can still
        // tell noise from data.
        if (s.grid == "uniform") s.shift = std::max(1.5, static_cast<double>(budget) / 10);
        s.last_step = 0.03;
      }
      s.steps = (budget - (s.last_step > 0 ? 1 : 0)) / m.stages;
      if (s.steps > 0) add({m.name, budget, s, m.ddim});
    }
  }
  for (const double last_step : {0.0, o.last_step}) {
    for (const double tolerance : o.tolerances) {
      SamplingOptions s;
      s.solver = "dopri5";
      s.last_step = last_step;
      s.rtol = s.atol = tolerance;
      add({last_step > 0 ? "dopri5 last step" : "dopri5", 0, s});
    }
  }
  if (rows.empty()) throw fm::OptionError("--only names no method; look into table.md for them");
  return rows;
}

/// What a row is of: where all of this agrees, it need not be measured again.
Json description_of(const Row& row, const Options& o) {
  return {{"row", row.name()},
          {"method", row.method},
          {"network", row.ddim ? "ddim" : "flow"},
          {"run", fs::weakly_canonical(row.ddim ? o.ddim : o.flow).string()},
          {"samples", o.n},
          {"seed", row.sampling.seed},
          {"last_step", row.sampling.last_step},
          {"shift", row.sampling.shift}};
}

/// The test images as the judge sees them.
struct Reference {
  Classifier judge_net;
  at::Tensor labels;
  Judgement judgement;
};

Json measure(const Row& row, TrainedModel& model, const Options& o, Reference& reference,
             const support::StopOnSignal& signals) {
  const c10::Device device = model.net->parameters().front().device();
  support::StepProgress progress(row.name());
  SamplingOptions sampling = row.sampling;
  sampling.observer = [&](const at::Tensor&, std::int64_t step, std::int64_t steps) {
    progress.show(step, steps);
    return !signals.token().stop_requested();
  };
  const at::Tensor labels = classes_in_turn(o.n);
  fm::Rng rng(sampling.seed);
  const at::Tensor x_0 = starts(model.recipe, o.n, rng).to(device);
  const auto began = std::chrono::steady_clock::now();
  const Samples samples = sample_images(model, x_0, labels.to(device), sampling);
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  if (signals.token().stop_requested()) return {};
  const at::Tensor images = to_bytes(samples.images);
  fm::save_npy(o.out / (row.name() + ".npy"), images);
  const Figures f =
      figures_of(judge(reference.judge_net, images), labels, reference.judgement, reference.labels);
  Json json = description_of(row, o);
  json["evaluations"] = samples.evaluations;
  json["seconds"] = seconds;
  for (const FigureLine& line : figure_lines) json[line.key] = line.value(f);
  return json;
}

/// Rows of one method and budget, of several seeds, stand together.
void write_table(const fs::path& file, const std::vector<Json>& rows, std::size_t seeds) {
  std::ofstream table(file);
  table << "| method | evaluations | seconds |";
  for (const FigureLine& line : figure_lines) table << fmt::format(" {} |", line.name);
  table << "\n|---|---|---|";
  for (std::size_t i = 0; i < std::size(figure_lines); ++i) table << "---|";
  table << '\n';
  for (std::size_t first = 0; first < rows.size(); first += seeds) {
    /// The mean, and the standard deviation over seeds.
    const auto cell = [&](const char* key, double scale, int digits) {
      at::Tensor values = at::empty({static_cast<std::int64_t>(seeds)}, at::kDouble);
      for (std::size_t i = 0; i < seeds; ++i)
        values[static_cast<std::int64_t>(i)] = scale * rows[first + i][key].get<double>();
      std::string text = fmt::format(" {:.{}f}", values.mean().item<double>(), digits);
      if (seeds > 1) text += fmt::format(" ± {:.{}f}", values.std().item<double>(), digits);
      return text + " |";
    };
    table << fmt::format("| {} |", rows[first]["method"].get<std::string>())
          << cell("evaluations", 1, 0) << cell("seconds", 1, 1);
    for (const FigureLine& line : figure_lines) table << cell(line.key, line.scale, line.digits);
    table << '\n';
  }
  if (!table.flush())
    throw fm::DataError("cannot write " + file.string() + "; check the folder and its space");
}

/// FID over evaluations, both logarithmic, a line a method; of the first seed.
void draw(const fs::path& file, const std::vector<Json>& rows, std::uint64_t seed) {
  std::vector<support::Plot> plots;
  for (const bool ddim : {false, true}) {
    std::vector<support::Series> series;
    for (const Json& r : rows) {
      const auto method = r["method"].get<std::string>();
      if (r["seed"] != seed) continue;
      // Each plot shows a line of the other network to compare with.
      const bool same = (r["network"] == "ddim") == ddim;
      if (!same && method != (ddim ? "dpm_solver_2" : "ddim notebook eta 1")) continue;
      if (series.empty() || series.back().name != method) series.push_back({method, {}, {}});
      series.back().x.push_back(r["evaluations"].get<double>());
      series.back().y.push_back(r["fid"].get<double>());
    }
    plots.push_back(
        {series, fmt::format("FID over evaluations, the {} network", ddim ? "DDIM" : "flow"),
         "evaluations of the network", support::Scale::logarithmic, support::Scale::logarithmic});
  }
  support::write_svg(file, plots);
}

int benchmark(const Options& o) {
  const c10::Device device = o.machine.set_up();
  if (o.n < 1000 || o.n > 10000)
    throw fm::OptionError(
        fmt::format("--n is {}; choose 1000 to 10000: FID of fewer samples means little", o.n));
  for (const std::int64_t n : o.evaluations) {
    if (n < 1 || n > 10000)
      throw fm::OptionError(fmt::format("{} evaluations; choose 1 to 10000", n));
  }
  Pair pair = load_pair(o.flow, o.ddim, device);
  TrainedModel& flow = pair.flow;
  TrainedModel& ddim = pair.ddim;
  const std::vector<Row> rows = all_rows(o);
  fs::create_directories(o.out);
  std::ostringstream quiet;
  const Dataset test = load_dataset(project / "examples" / "data" / "fashion-mnist", quiet);
  Reference reference{load_classifier(o.judge, device), test.labels, {}};
  reference.judgement = judge(reference.judge_net, test.images);

  const fs::path records = o.out / "rows.jsonl";
  std::map<std::string, Json> done;
  {
    std::ifstream file(records);
    for (std::string line; std::getline(file, line);) {
      const Json row = Json::parse(line, nullptr, /*allow_exceptions=*/false);
      if (row.is_discarded()) continue;  // cut by a kill
      done[row["row"]] = row;
    }
  }
  const support::StopOnSignal signals;
  std::vector<Json> table;
  for (const Row& row : rows) {
    if (done.contains(row.name())) {
      const Json description = description_of(row, o);
      for (const auto& [key, value] : description.items()) {
        if (done[row.name()].value(key, Json{}) != value)
          throw fm::OptionError(fmt::format("{} has {} with another {}; choose another --out",
                                            records.string(), row.name(), key));
      }
    } else {
      const Json measured = measure(row, row.ddim ? ddim : flow, o, reference, signals);
      if (measured.is_null()) {
        std::cerr << "stopped; call it again to go on\n";
        return support::interrupted;
      }
      std::ofstream(records, std::ios::app) << measured.dump() << std::endl;
      done[row.name()] = measured;
    }
    table.push_back(done[row.name()]);
    std::cout << fmt::format(
        "{:<28} {:>4} evaluations {:>8.1f} s   FID {:>8.3f}   {:>5.1f} %\n", row.name(),
        table.back()["evaluations"].get<std::int64_t>(), table.back()["seconds"].get<double>(),
        table.back()["fid"].get<double>(), 100 * table.back()["judged_as_asked"].get<double>());
  }
  write_table(o.out / "table.md", table, o.seeds.size());
  draw(o.out / "quality.svg", table, o.seeds.front());
  std::cerr << "wrote " << (o.out / "table.md").string() << " and quality.svg\n";
  return support::success;
}

int main(int argc, char** argv) {
  CLI::App app("Flow matching beside DDIM at equal evaluations, judged", "fashion_mnist_benchmark");
  Options o;
  app.add_option("--flow", o.flow, "run of --method flow (default: the one in the project)");
  app.add_option("--ddim", o.ddim,
                 "run of --method ddim, of the same network (default: the one in the project)");
  app.add_option("--out", o.out, "folder of the samples, the table and the picture");
  app.add_option("--n", o.n, "samples of each row");
  app.add_option("--evaluations", o.evaluations, "of the network, for one sample")->delimiter(',');
  app.add_option("--tolerances", o.tolerances, "of dopri5")->delimiter(',');
  app.add_option("--last-step", o.last_step, "of the rows that end with a step of Euler's")
      ->check(CLI::Range(1e-6, 0.5));
  app.add_option("--only", o.only, "methods, by the table's names: euler,midpoint")->delimiter(',');
  app.add_option("--seeds", o.seeds,
                 "of the noise; of several, the table has means and standard deviations")
      ->delimiter(',');
  app.add_option("--judge", o.judge, "folder of fashion_mnist_classifier");
  o.machine.add_to(app);
  return support::run_main(app, argc, argv, [&] { return benchmark(o); });
}
