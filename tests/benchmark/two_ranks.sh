#!/bin/sh
# Samples/s of one process with two threads and of two ranks with one thread each, `small` on
# Fashion-MNIST, in turns:
#   tests/benchmark/two_ranks.sh [build folder] [rounds] [images] [batch]
set -eu
program=${1:-build}/examples/fashion_mnist_train
rounds=${2:-5}
images=${3:-1280}
batch=${4:-128}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
export MASTER_ADDR=127.0.0.1 MASTER_PORT="${MASTER_PORT:-29511}"

# train NAME THREADS [VARIABLE=VALUE…]
train() {
  folder=$out/$1
  threads=$2
  shift 2
  env "$@" "$program" --out "$folder" --model small --epochs 1 --limit "$images" --batch "$batch" --threads "$threads" \
    2>"$out/log" || { cat "$out/log"; exit 1; }
}
speed() { tail -n 1 "$out/$1/metrics.csv" | cut -d, -f4; }

i=1
while [ "$i" -le "$rounds" ]; do
  train "one-$i" 2
  train "two-$i" 1 WORLD_SIZE=2 RANK=1 &
  train "two-$i" 1 WORLD_SIZE=2 RANK=0
  wait
  echo "one process, two threads: $(speed "one-$i") samples/s; two ranks: $(speed "two-$i") samples/s"
  i=$((i + 1))
done
