#include "flowmatch/monitor/hooks.hpp"

#include <optional>
#include <string>
#include <type_traits>

#include "tests/support/test.hpp"

namespace {

using fm::EpochReport;
using fm::Next;
using fm::StepReport;
using fm::detail::call_hook;

struct Both {
  void on_step(const StepReport& r) { text += "step " + std::to_string(r.step) + ";"; }
  Next on_epoch(const EpochReport& r) {
    text += "epoch " + std::to_string(r.epoch) + ";";
    return Next::stop;
  }
  std::string text{};
};

struct OnlyEpochs {
  void on_epoch(const EpochReport&) { ++epochs; }
  int epochs = 0;
};

struct MembersAndCall {
  void on_step(const StepReport&) { ++members; }
  void operator()(const StepReport&) { ++calls; }
  void operator()(const EpochReport&) { ++calls; }
  int members = 0;
  int calls = 0;
};

struct Nothing {};
struct WrongReport {
  void on_step(int*) {}
};

StepReport step_report() {
  StepReport report;
  report.step = 3;
  return report;
}
EpochReport epoch_report() {
  EpochReport report;
  report.epoch = 1;
  return report;
}

}  // namespace

TEST_CASE("hooks: members are called for their report and may stop the run") {
  Both both;
  REQUIRE(call_hook(both, step_report()) == Next::proceed);
  REQUIRE(call_hook(both, epoch_report()) == Next::stop);
  REQUIRE(both.text == "step 3;epoch 1;");
}

TEST_CASE("hooks: a report that a hook has nothing for passes it by") {
  OnlyEpochs hook;
  REQUIRE(call_hook(hook, step_report()) == Next::proceed);
  REQUIRE(hook.epochs == 0);
  REQUIRE(call_hook(hook, epoch_report()) == Next::proceed);
  REQUIRE(hook.epochs == 1);
}

TEST_CASE("hooks: callables are called for the reports that they take") {
  int steps = 0;
  const auto on_step = [&](const StepReport& r) {
    ++steps;
    return r.step == 3 ? Next::stop : Next::proceed;
  };
  REQUIRE(call_hook(on_step, step_report()) == Next::stop);
  REQUIRE(call_hook(on_step, StepReport{}) == Next::proceed);
  REQUIRE(call_hook(on_step, epoch_report()) == Next::proceed);
  REQUIRE(steps == 2);

  int any = 0;
  auto on_any = [&](const auto&) { ++any; };  // returns nothing: the run goes on
  REQUIRE(call_hook(on_any, step_report()) == Next::proceed);
  REQUIRE(call_hook(on_any, epoch_report()) == Next::proceed);
  REQUIRE(any == 2);
}

TEST_CASE("hooks: a member goes before the call operator and only for its own report") {
  MembersAndCall hook;
  call_hook(hook, step_report());
  REQUIRE(hook.members == 1);
  REQUIRE(hook.calls == 0);
  call_hook(hook, epoch_report());
  REQUIRE(hook.calls == 1);
}

TEST_CASE("hooks: the concept takes what can watch and nothing else") {
  const auto on_step = [](const StepReport&) { return Next::proceed; };
  const auto on_epoch = [](const EpochReport&) {};
  const auto on_number = [](int) {};
  static_assert(fm::Hook<Both>);
  static_assert(fm::Hook<OnlyEpochs>);
  static_assert(fm::Hook<MembersAndCall>);
  static_assert(fm::Hook<decltype(on_step)>);
  static_assert(fm::Hook<decltype(on_epoch)>);
  static_assert(fm::Hook<void (*)(const StepReport&)>);
  static_assert(!fm::Hook<Nothing>);
  static_assert(!fm::Hook<WrongReport>);
  static_assert(!fm::Hook<decltype(on_number)>);
  static_assert(!fm::Hook<int>);
  SUCCEED();
}

TEST_CASE("hooks: they may take the trainer, and before a checkpoint give its score") {
  struct Trainer {
    int touched = 0;
  } trainer;
  const auto on_step = [](const StepReport&, auto& t) {
    ++t.touched;
    return Next::stop;
  };
  const auto on_epoch = [](const EpochReport&, Trainer& t) { ++t.touched; };
  static_assert(!fm::Hook<decltype(on_epoch)>);
  static_assert(fm::HookOf<decltype(on_epoch), Trainer>);
  static_assert(fm::HookOf<decltype(on_step), Trainer>);
  static_assert(!fm::HookOf<decltype(on_epoch), std::string>);
  static_assert(!fm::HookOf<Nothing, Trainer>);
  REQUIRE(call_hook(on_step, step_report(), trainer) == Next::stop);
  REQUIRE(call_hook(on_epoch, epoch_report(), trainer) == Next::proceed);
  REQUIRE(call_hook(on_epoch, step_report(), trainer) == Next::proceed);
  REQUIRE(trainer.touched == 2);
  Both both;
  REQUIRE(call_hook(both, epoch_report(), trainer) == Next::stop);

  using fm::detail::score_of_hook;
  fm::BeforeCheckpoint one([](const EpochReport& r) { return static_cast<double>(r.epoch); });
  fm::BeforeCheckpoint two([](const EpochReport&, Trainer& t) { ++t.touched; });
  fm::BeforeCheckpoint none([](const EpochReport&) { return std::optional<double>(); });
  static_assert(fm::Hook<decltype(one)>);
  static_assert(!fm::Hook<decltype(two)>);
  static_assert(fm::HookOf<decltype(two), Trainer>);
  REQUIRE(score_of_hook(one, epoch_report(), trainer) == 1);
  REQUIRE(!score_of_hook(two, epoch_report(), trainer));
  REQUIRE(trainer.touched == 3);
  REQUIRE(!score_of_hook(both, epoch_report(), trainer));
  REQUIRE(call_hook(one, epoch_report(), trainer) == Next::proceed);
  REQUIRE(fm::detail::score_of_hooks(epoch_report(), trainer, one, two, none, both) == 1);
  REQUIRE(!fm::detail::score_of_hooks(epoch_report(), trainer));
  REQUIRE(fm::detail::call_hooks(step_report(), trainer, both, on_step, both) == Next::stop);
  REQUIRE(fm::detail::call_hooks(step_report(), trainer) == Next::proceed);
}

TEST_CASE("hooks: reports begin at nothing done") {
  const StepReport step;
  CHECK(step.step + step.total_steps + step.epoch + step.epochs + step.samples == 0);
  CHECK(step.skipped + step.rollbacks == 0);
  CHECK(step.seconds == 0);
  const EpochReport epoch;
  CHECK(epoch.epoch + epoch.epochs + epoch.step + epoch.total_steps == 0);
}
