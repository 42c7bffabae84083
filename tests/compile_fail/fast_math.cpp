// expect: flowmatch cannot be compiled with -ffast-math
#include "flowmatch/ode/integrate.hpp"
