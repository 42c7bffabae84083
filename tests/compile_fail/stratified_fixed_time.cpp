// expect: StratifiedTime needs times with a `quantile
#include "flowmatch/flowmatch.hpp"

void wrong() { flowmatch::StratifiedTime time(flowmatch::FixedTime(0.5)); }
