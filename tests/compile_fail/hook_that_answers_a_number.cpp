// expect: a hook returns nothing or flowmatch::Next
#include "flowmatch/monitor/hooks.hpp"

namespace fm = flowmatch;

void wrong() {
  const auto hook = [](const fm::StepReport&) { return 1; };
  fm::detail::call_hook(hook, fm::StepReport());
}
