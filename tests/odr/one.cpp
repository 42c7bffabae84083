#include "flowmatch/flowmatch.hpp"

int other();

int main() { return flowmatch::TimeGrid::uniform(3).steps().size() == 3 ? other() : 1; }
