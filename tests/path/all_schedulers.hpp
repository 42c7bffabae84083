#pragma once

#include <string>

#include "flowmatch/path/schedulers.hpp"
#include "tests/support/test.hpp"

/// Calls f(scheduler) for every scheduler of the library, each in several settings.
template <class F>
void for_each_scheduler(F f) {
  const auto with = [&](const std::string& name, const auto& scheduler) {
    INFO("scheduler: " << name);
    f(scheduler);
  };
  with("CondOT", fm::CondOTScheduler{});
  with("polynomial 1", fm::PolynomialScheduler(1));
  with("polynomial 2", fm::PolynomialScheduler(2));
  with("polynomial 3.5", fm::PolynomialScheduler(3.5));
  with("VP", fm::VPScheduler());
  with("VP 0 to 12", fm::VPScheduler(0, 12));
  with("VP constant", fm::VPScheduler(4, 4));
  with("linear VP", fm::LinearVPScheduler{});
  with("cosine", fm::CosineScheduler{});
}
