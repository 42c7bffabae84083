// expect: this path begins at standard normal noise
#include "flowmatch/flowmatch.hpp"

namespace fm = flowmatch;

void wrong() {
  fm::VelocityNoisifier noisifier(fm::TargetPath(fm::TargetScheduler(0.1)),
                                  fm::IndependentCoupling(fm::ConstantSource(1)));
}
