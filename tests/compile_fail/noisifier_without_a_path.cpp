// expect: a noisifier needs a path with
#include "flowmatch/flowmatch.hpp"

namespace fm = flowmatch;

struct NoPath {};

void wrong() { fm::VelocityNoisifier noisifier(NoPath{}); }
