#include "flowmatch/flowmatch.hpp"

int other() { return flowmatch::crc32("123456789") == 0xCBF43926U ? 0 : 1; }
