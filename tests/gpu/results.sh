#!/bin/sh
# The default recipe trained on a GPU, flow and DDIM, and docs/results.md's first table of three seeds:
#   tests/gpu/results.sh --out DIR [--device cuda] [--carried .gpu] [--build build-gpu]
# For a chance of its own, after tests/gpu/check.sh has built the programs. A training goes on where it was.
set -eu
cd -- "$(dirname -- "$0")/../.."
out='' device=cuda carried=.gpu build=build-gpu
while [ $# -gt 0 ]; do
  case $1 in
    --out) out=$2 ;;
    --device) device=$2 ;;
    --carried) carried=$2 ;;
    --build) build=$2 ;;
    *) echo "usage: $0 --out DIR [--device cuda|cpu] [--carried DIR] [--build DIR]" >&2; exit 2 ;;
  esac
  shift 2
done
: "${out:?say where the results go: --out DIR}"
cmake --build "$build" --target fashion_mnist_train fashion_mnist_benchmark
graph=''
[ "$device" = cpu ] || graph=--cuda-graph
for method in flow ddim; do
  began=$(date +%s)
  "$build/examples/fashion_mnist_train" --data "$carried/fashion-mnist" --device "$device" $graph --method $method --resume \
    --out "$out/$method"
  echo "$method: $(($(date +%s) - began)) s"
done
for only in dpm_solver_2 'euler,heun2,ddim dpm_solver_2'; do
  "$build/examples/fashion_mnist_benchmark" --data "$carried/fashion-mnist" --device "$device" --flow "$out/flow" \
    --ddim "$out/ddim" --n 2048 --seeds 1,2,3 --only "$only" --evaluations 10,20,50,100 --out "$out/seeds"
done
