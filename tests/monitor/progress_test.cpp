#include "flowmatch/monitor/progress.hpp"

#include <fcntl.h>
#include <pty.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <iostream>
#include <limits>
#include <sstream>
#include <string>

#include "tests/support/test.hpp"

namespace {

fm::StepReport at_step(std::int64_t step, double seconds, double loss = 0.5) {
  fm::StepReport report;
  report.step = step;
  report.total_steps = 100;
  report.epoch = step / 50;
  report.epochs = 2;
  report.loss = loss;
  report.learning_rate = 1e-3;
  report.samples = 32;
  report.seconds = seconds;
  report.samples_per_second = 640.4;
  return report;
}

fm::EpochReport first_epoch() {
  fm::EpochReport report;
  report.epochs = 2;
  report.step = 50;
  report.total_steps = 100;
  report.loss = 0.25;
  report.seconds = 75;
  report.samples_per_second = 640.4;
  return report;
}

}  // namespace

TEST_CASE("progress: durations read as people write them") {
  REQUIRE(fm::duration_text(0) == "0:00");
  REQUIRE(fm::duration_text(7.4) == "0:07");
  REQUIRE(fm::duration_text(59.6) == "1:00");
  REQUIRE(fm::duration_text(760) == "12:40");
  REQUIRE(fm::duration_text(3599) == "59:59");
  REQUIRE(fm::duration_text(3600) == "1:00:00");
  REQUIRE(fm::duration_text(7505) == "2:05:05");
}

TEST_CASE("progress: plain lines come now and then with the time that is left") {
  std::ostringstream out;
  fm::ProgressBar bar(out);
  bar.on_step(at_step(1, 1));
  REQUIRE(out.str() == "epoch 1/2  step 1/100  loss 0.5000  640 samples/s  ? left\n");
  out.str("");
  bar.on_step(at_step(2, 2));
  bar.on_step(at_step(10, 10.9));
  REQUIRE(out.str().empty());
  bar.on_step(at_step(11, 11, 0.125));  // ten steps took ten seconds: 89 more
  REQUIRE(out.str() == "epoch 1/2  step 11/100  loss 0.1250  640 samples/s  1:29 left\n");
}

TEST_CASE("progress: the last step is always shown") {
  std::ostringstream out;
  fm::ProgressBar bar(out);
  bar.on_step(at_step(98, 50));
  out.str("");
  bar.on_step(at_step(99, 50.1));
  REQUIRE(out.str().empty());
  bar.on_step(at_step(100, 50.2));
  REQUIRE(out.str() == "epoch 3/2  step 100/100  loss 0.5000  640 samples/s  0:00 left\n");
}

TEST_CASE("progress: an epoch ends with a line of its own") {
  std::ostringstream out;
  fm::ProgressBar bar(out);
  bar.on_epoch(first_epoch());
  REQUIRE(out.str() == "epoch 1/2 done: mean loss 0.2500, 640 samples/s, 1:15 so far\n");
}

TEST_CASE("progress: a bar redraws one line five times a second") {
  std::ostringstream out;
  fm::ProgressBar bar(out, true);
  bar.on_step(at_step(1, 0.1));
  REQUIRE(out.str() ==
          "\r[........................] epoch 1/2  step 1/100  loss 0.5000  640 samples/s  "
          "? left\x1b[K");
  out.str("");
  bar.on_step(at_step(2, 0.25));
  REQUIRE(out.str().empty());
  bar.on_step(at_step(25, 24.1));
  REQUIRE(out.str() ==
          "\r[######..................] epoch 1/2  step 25/100  loss 0.5000  640 samples/s  "
          "1:15 left\x1b[K");
  REQUIRE(out.str().find('\n') == std::string::npos);
  out.str("");
  bar.on_step(at_step(100, 100));
  REQUIRE(out.str().find("[########################]") == 1);
  out.str("");
  bar.on_epoch(first_epoch());
  REQUIRE(out.str() == "\r\x1b[Kepoch 1/2 done: mean loss 0.2500, 640 samples/s, 1:15 so far\n");
}

TEST_CASE("progress: a step without a loss keeps the last one that was known") {
  std::ostringstream out;
  fm::ProgressBar bar(out);
  bar.on_step(at_step(1, 1, 0.75));
  out.str("");
  fm::StepReport report = at_step(21, 21);
  report.loss.reset();
  bar.on_step(report);
  REQUIRE(out.str().find("loss 0.7500") != std::string::npos);
}

TEST_CASE("progress: what is not known is a dash and never a zero") {
  std::ostringstream out;
  fm::ProgressBar bar(out, false);
  fm::StepReport step = at_step(1, 0);
  step.loss.reset();
  step.samples_per_second = std::numeric_limits<double>::quiet_NaN();
  bar.on_step(step);
  REQUIRE(out.str() == "epoch 1/2  step 1/100  loss -  - samples/s  ? left\n");
  out.str("");
  bar.on_epoch(fm::EpochReport{.epochs = 2});
  REQUIRE(out.str() == "epoch 1/2 done: mean loss -, - samples/s, 0:00 so far\n");
  REQUIRE(fm::duration_text(std::numeric_limits<double>::quiet_NaN()) == "?");
  REQUIRE(fm::duration_text(infinity) == "?");
  fm::ProgressBar drawn(out, true);
  out.str("");
  drawn.on_step(fm::StepReport{});  // a run of no steps
  REQUIRE(out.str().find("[........................]") == 1);
}

TEST_CASE("progress: by itself it draws a bar on a terminal and plain lines elsewhere") {
  int terminal = -1;
  int shown = -1;
  REQUIRE(openpty(&terminal, &shown, nullptr, nullptr, nullptr) == 0);
  const int before = dup(STDERR_FILENO);
  std::ostringstream text;
  std::ofstream file("/dev/null");
  dup2(shown, STDERR_FILENO);
  const bool log = fm::on_terminal(std::clog);
  const bool error = fm::on_terminal(std::cerr);
  const bool string = fm::on_terminal(text);
  const bool other = fm::on_terminal(file);
  std::streambuf* const buffer = std::clog.rdbuf(text.rdbuf());  // led elsewhere
  const bool led_away = fm::on_terminal(std::clog);
  std::clog.rdbuf(buffer);
  fm::ProgressBar().on_step(at_step(1, 1));
  char drawn[300] = {};
  const auto length = read(terminal, drawn, sizeof drawn - 1);
  const int null = ::open("/dev/null", O_WRONLY);
  dup2(null, STDERR_FILENO);
  const bool nowhere = fm::on_terminal(std::clog);
  dup2(before, STDERR_FILENO);
  for (const int fd : {before, null, terminal, shown}) ::close(fd);
  REQUIRE(log);
  REQUIRE(error);
  REQUIRE_FALSE(string);
  REQUIRE_FALSE(other);
  REQUIRE_FALSE(led_away);
  REQUIRE_FALSE(nowhere);
  REQUIRE(length > 0);
  REQUIRE(std::string(drawn).find("\r[........................] epoch 1/2") == 0);
}

TEST_CASE("progress: the bar is a hook") {
  static_assert(fm::Hook<fm::ProgressBar>);
  SUCCEED();
}

TEST_CASE("progress: a run of one step has no time left after it") {
  std::ostringstream out;
  fm::ProgressBar bar(out);
  fm::StepReport report = at_step(1, 1);
  report.total_steps = 1;
  bar.on_step(report);
  REQUIRE(out.str().find("step 1/1  loss 0.5000  640 samples/s  0:00 left") != std::string::npos);
}

TEST_CASE("progress: in another call to fit it begins anew") {
  std::ostringstream out;
  fm::ProgressBar bar(out);
  bar.on_step(at_step(1, 1));
  bar.on_step(at_step(90, 3600));
  out.str("");
  fm::StepReport report = at_step(1, 0.5);
  report.loss.reset();
  bar.on_step(report);
  bar.on_step(at_step(11, 20.5, 0.125));
  REQUIRE(out.str() ==
          "epoch 1/2  step 1/100  loss -  640 samples/s  ? left\n"
          "epoch 1/2  step 11/100  loss 0.1250  640 samples/s  2:58 left\n");
}
