#include "flowmatch/monitor/hooks.hpp"

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
