#!/bin/sh
# The default recipe trained on a GPU, flow and DDIM, and docs/results.md's first table of three seeds, for a chance of its own:
#   tests/gpu/results.sh --out DIR [the other options of tests/gpu/check.sh]
exec sh "$(dirname -- "$0")/check.sh" --stages "build results" "$@"
