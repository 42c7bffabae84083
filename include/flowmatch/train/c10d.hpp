#pragma once

// Deprecated: it is flowmatch/parallel/c10d.hpp now. This one goes with the next version.
#include "flowmatch/parallel/c10d.hpp"  // IWYU pragma: export
