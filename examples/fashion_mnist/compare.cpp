// The blog post's comparison: the same network trained for flow matching and as a DDIM noise
// predictor, sampled side by side.
//   fashion_mnist_compare --flow runs/flow --ddim runs/ddim --out compare.png
// Draws the same classes with both at 10 and at --steps evaluations, and prints seconds,
// evaluations and the lines of sampling code. The rule for lines: those between the marks "sampling
// code begins" and "ends" in bare_euler.hpp and ddim.hpp (less what lies between "pauses" and "goes
// on") that are neither blank nor comments.

#include <CLI/CLI.hpp>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

#include "examples/fashion_mnist/dataset.hpp"
#include "examples/fashion_mnist/sampling.hpp"
#include "examples/support/machine.hpp"
#include "examples/support/picture.hpp"
#include "examples/support/progress.hpp"
#include "examples/support/run_main.hpp"

namespace fs = std::filesystem;
using namespace fashion_mnist;

int lines_of_sampling_code(const char* file) {
  std::ifstream source(fs::path(FLOWMATCH_SOURCE_DIR) / "examples" / "fashion_mnist" / file);
  int lines = 0;
  bool counting = false;
  for (std::string line; std::getline(source, line);) {
    const std::size_t first = line.find_first_not_of(' ');
    const bool comment = first == std::string::npos || line.compare(first, 2, "//") == 0;
    if (comment && line.find("sampling code") != std::string::npos) {
      counting =
          line.find("begins") != std::string::npos || line.find("goes on") != std::string::npos;
    } else if (counting && !comment) {
      ++lines;
    }
  }
  return lines;
}

struct Options {
  fs::path flow, ddim, out = "compare.png";
  std::int64_t n = 40;
  std::int64_t steps = 100;
  std::uint64_t seed = 42;
  support::MachineOptions machine;
};

int compare(const Options& o) {
  const c10::Device device = o.machine.set_up();
  if (o.n < 10 || o.n > 10000)
    throw fm::OptionError("--n is " + std::to_string(o.n) + "; choose 10 to 10000");
  Pair pair = load_pair(o.flow, o.ddim, device);
  TrainedModel& flow = pair.flow;
  TrainedModel& ddim = pair.ddim;
  const at::Tensor labels = classes_in_turn(o.n).to(device);
  fm::Rng rng(o.seed);
  const at::Tensor x_0 = starts(flow.recipe, o.n, rng).to(device);
  const int flow_lines = lines_of_sampling_code("bare_euler.hpp");
  const int ddim_lines = lines_of_sampling_code("ddim.hpp");

  struct Row {
    TrainedModel* model;
    const char* name;
    const char* solver;
    double eta;
    int lines;
  };
  const std::vector<Row> rows = {{&flow, "flow, Euler", "euler", 0, flow_lines},
                                 {&ddim, "DDIM, notebook, eta 1", "ddim", 1, ddim_lines},
                                 {&ddim, "DDIM, fair, eta 0", "ddim_fair", 0, ddim_lines}};
  std::vector<std::vector<support::Captioned>> pictures;  // a row for each number of steps
  std::cout << fmt::format("{:<24} {:>11} {:>10} {:>6}\n", "method", "evaluations", "seconds",
                           "lines");
  for (const std::int64_t steps : {std::int64_t{10}, o.steps}) {
    pictures.emplace_back();
    for (const Row& row : rows) {
      support::StepProgress progress(row.name);
      SamplingOptions options;
      options.solver = row.solver;
      options.steps = steps;
      options.eta = row.eta;
      options.seed = o.seed;
      options.observer = [&](const at::Tensor&, std::int64_t step, std::int64_t all) {
        progress.show(step, all);
        return true;
      };
      const auto began = std::chrono::steady_clock::now();
      const Samples samples = sample_images(*row.model, x_0, labels, options);
      const double seconds =
          std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
      std::cout << fmt::format("{:<24} {:>11} {:>10.2f} {:>6}\n", row.name, samples.evaluations,
                               seconds, row.lines);
      pictures.back().push_back(
          {fmt::format("{}, {} steps", row.name, steps), support::image_grid(samples.images, 10)});
    }
  }
  support::write_png(o.out, support::sheet(pictures));
  std::cout << fmt::format("lines of sampling code: flow {} against DDIM {}, {:.0f} % less\n",
                           flow_lines, ddim_lines, 100.0 * (ddim_lines - flow_lines) / ddim_lines);
  std::cerr << "wrote " << o.out.string() << '\n';
  return support::success;
}

int main(int argc, char** argv) {
  CLI::App app("Compare flow matching and DDIM with the same network", "fashion_mnist_compare");
  Options o;
  app.add_option("--flow", o.flow, "run of --method flow")->required();
  app.add_option("--ddim", o.ddim, "run of --method ddim")->required();
  app.add_option("--out", o.out, "picture");
  app.add_option("--n", o.n, "samples of each");
  app.add_option("--steps", o.steps, "evaluations beside 10");
  app.add_option("--seed", o.seed, "of the noise");
  o.machine.add_to(app);
  return support::run_main(app, argc, argv, [&] { return compare(o); });
}
