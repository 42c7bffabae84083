#!/bin/sh
# Everything that is to be known of a GPU, in one command, within minutes:
#   tests/gpu/check.sh --out DIR [--device cuda] [--carried .gpu] [--stages "build tests train …"]
# Builds with the Python that has torch and with what tests/gpu/pack.sh has put into the carried folder, as such a machine may
# have no network. Each stage has a time limit, writes DIR/STAGE.log, and lines of JSON into DIR/results.jsonl; one that fails
# does not stop the others. docs/gpu.md says what came of it.
set -u
cd -- "$(dirname -- "$0")/../.."
out='' device=cuda carried=.gpu build=build-gpu run=''
stages='build agree train sample waits resume epochs build_tests tests sanitizer peers'
while [ $# -gt 0 ]; do
  case $1 in
    --out) out=$2 ;;
    --device) device=$2 ;;
    --carried) carried=$2 ;;
    --build) build=$2 ;;
    --stages) stages=$2 ;;
    --run) run=$2 ;; # a stage, from within
    *) echo "usage: $0 --out DIR [--device cuda|cpu] [--carried DIR] [--build DIR] [--stages \"build tests …\"]" >&2; exit 2 ;;
  esac
  shift 2
done
: "${out:?say where the results go: --out DIR}"
mkdir -p "$out"
export FLOWMATCH_TEST_DEVICE="$device"
check="$build/tests/gpu_check --device $device"
graph=--graph trial=''
if [ "$device" = cpu ]; then # to try this script
  graph='' trial='--images 64 --batch 8 --steps 1 --n 2,1'
  export OMP_NUM_THREADS=1
fi

# The rooms whose tests make their tensors on the tests' device.
rooms() { grep -l on_device -r tests --include='*_test.cpp' | cut -d/ -f2 | sort -u; }

stage_build() {
  python3 -c 'import torch; print(torch.__version__, torch.cuda.is_available() and torch.cuda.get_device_name())'
  cmake --preset default -B "$build" -DCMAKE_PREFIX_PATH="$PWD/$carried/root/usr" -DFLOWMATCH_INSTALL=OFF &&
    cmake --build "$build" -j "$(nproc)" --target gpu_check fashion_mnist_train fashion_mnist_evaluate
}
stage_build_tests() { cmake --build "$build" -j "$(nproc)" --target $(rooms | sed 's/^/test_/') -- -k 0; }
stage_agree() { [ -z "$graph" ] || for model in small paper; do $check agree --model $model --precision float32 $trial || failed=1; done; }
both() { # COMMAND MODEL…: by graphs and plainly
  command=$1
  shift
  for model in "$@"; do
    [ -z "$graph" ] || $check "$command" --model "$model" $graph $trial || failed=1
    $check "$command" --model "$model" $trial || failed=1
  done
}
stage_train() { both train paper small; }
stage_sample() { both sample paper; }
stage_waits() { both waits small; }
stage_resume() { CUBLAS_WORKSPACE_CONFIG=:4096:8 both resume small; }
# Those marked [cpu] mean something on the CPU only.
stage_tests() {
  rooms | xargs -P 6 -I ROOM sh -c '
    OMP_NUM_THREADS=2 timeout 60 "$1/tests/test_ROOM" "~[cpu]" >"$2/test-ROOM.log" 2>&1 && ok=true || ok=false
    last=$(grep -a -e "test cases" -e "All tests" "$2/test-ROOM.log" | tail -n 1 | tr -s " ")
    echo "{\"name\": \"tests\", \"room\": \"ROOM\", \"device\": \"$3\", \"ok\": $ok, \"last\": \"$last\"}"
    $ok' - "$build" "$out" "$device"
}
# The blog post's five epochs by the example program, and how good their pictures are; where they fail, with less of what may
# be the cause.
epochs() { # OPTIONS of the training
  rm -rf "$out/paper"
  began=$(date +%s%N)
  "$build/examples/fashion_mnist_train" --data "$carried/fashion-mnist" --model paper --device "$device" "$@" --out "$out/paper" && ok=true || ok=false
  echo "{\"name\": \"epochs\", \"model\": \"paper\", \"options\": \"$*\", \"ok\": $ok, \"milliseconds\": $((($(date +%s%N) - began) / 1000000))}"
  $ok
}
stage_epochs() {
  n=2048
  if [ "$device" = cpu ]; then
    n=100
    epochs --limit 64 --batch 32 --epochs 1 || return
  else
    epochs --precision bfloat16 --cuda-graph || { failed=1; epochs --precision bfloat16; } || epochs --cuda-graph || return
  fi
  "$build/examples/fashion_mnist_evaluate" --data "$carried/fashion-mnist" --checkpoint "$out/paper" --device "$device" \
    --n $n --steps 100 --solver euler || failed=1
  rm -r "$out/paper"
}
stage_sanitizer() {
  if ! command -v compute-sanitizer >/dev/null; then
    echo '{"name": "sanitizer", "ok": null, "why": "not available"}'
    return
  fi
  compute-sanitizer --error-exitcode 9 $check train --model small $graph --batch 8 --steps 1 --images 128
}
# The default recipe, flow and DDIM, and the first table of docs/results.md for three seeds: of tests/gpu/results.sh. A training
# goes on where it was.
stage_results() {
  cmake --build "$build" --target fashion_mnist_train fashion_mnist_benchmark || return
  recording=''
  [ "$device" = cpu ] || recording=--cuda-graph
  for method in flow ddim; do
    began=$(date +%s)
    "$build/examples/fashion_mnist_train" --data "$carried/fashion-mnist" --device "$device" $recording --method $method --resume \
      --out "$out/$method" || return
    echo "$method: $(($(date +%s) - began)) s"
  done
  for only in dpm_solver_2 'euler,heun2,ddim dpm_solver_2'; do
    "$build/examples/fashion_mnist_benchmark" --data "$carried/fashion-mnist" --device "$device" --flow "$out/flow" \
      --ddim "$out/ddim" --n 2048 --seeds 1,2,3 --only "$only" --evaluations 10,20,50,100 --out "$out/seeds" || return
  done
}
stage_peers() {
  python3 tests/gpu/unet.py all --budget "${FLOWMATCH_PEERS_SECONDS:-240}" --data "$carried/fashion-mnist" --device "$device"
}

if [ -n "$run" ]; then
  failed=0
  "stage_$run" || failed=1
  exit $failed
fi
all=0
for stage in $stages; do
  case $stage in build*) limit=270 ;; results) limit=86400 ;; peers) limit=300 ;; tests) limit=100 ;; epochs) limit=120 ;; *) limit=75 ;; esac
  began=$(date +%s)
  timeout -k 5 $limit sh tests/gpu/check.sh --out "$out" --device "$device" --carried "$carried" --build "$build" --run "$stage" \
    >"$out/$stage.log" 2>&1
  code=$?
  grep -a '^{' "$out/$stage.log" | tee -a "$out/results.jsonl"
  echo "== $stage: exit $code after $(($(date +%s) - began)) s"
  [ $code -eq 0 ] && continue
  all=1
  grep -a -v '^{' "$out/$stage.log" | tail -n 20 | cut -c1-300
done
exit $all
