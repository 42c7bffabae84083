#!/bin/sh
# From a Debian or Ubuntu with nothing installed to generated clothes, or to passed tests.
set -eu

usage() {
  cat >&2 <<'USAGE'
usage: cmake/bootstrap.sh test                      build everything and run the tests
       cmake/bootstrap.sh demo [training options]   train a small network on Fashion-MNIST for some
                                                    minutes and draw out/demo/samples.png
Installs what is missing (apt packages, and LibTorch in .venv unless LibTorch_ROOT points at one),
builds in build/, and can be called again: it goes on where it was. Options of the training replace
the demo's (but --out, its run lies in out/demo/run); `build/examples/fashion_mnist_train --help` lists them.
USAGE
  exit 2
}

torch=2.13.0
packages="ca-certificates ninja-build python3 python3-venv catch2 libfmt-dev libcli11-dev \
libgloo-dev libpng-dev nlohmann-json3-dev zlib1g-dev"

say() { printf '\n== %s\n' "$*"; }

# fail CODE MESSAGE…
fail() {
  code=$1
  shift
  printf '\n== failed: %s\n' "$*" >&2
  exit "$code"
}

has() { command -v "$1" >/dev/null 2>&1; }
is_installed() { dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q 'ok installed'; }

# Whether there is a cmake of at least 3.25.
has_cmake() {
  has cmake || return 1
  version=$(cmake --version | sed -n 's/^cmake version \([0-9]*\)\.\([0-9]*\).*/\1 \2/p')
  # shellcheck disable=SC2086 # two words
  set -- $version 0 0
  [ "$1" -gt 3 ] || { [ "$1" -eq 3 ] && [ "$2" -ge 25 ]; }
}

install_packages() {
  missing=
  if has dpkg-query; then
    for package in $packages; do
      is_installed "$package" || missing="$missing $package"
    done
  fi
  has "${CXX:-c++}" || missing="$missing g++"
  has_cmake || is_installed cmake || missing="$missing cmake"
  if [ -z "$missing" ]; then
    return
  fi
  has apt-get || fail 1 "there is no apt-get here. Install what these Debian packages hold:$missing"
  if [ "$(id -u)" = 0 ]; then
    sudo=
  elif has sudo && sudo -n true 2>/dev/null; then
    sudo='sudo -n'
  else
    fail 1 "packages are missing. Install them with: sudo apt-get install$missing"
  fi
  say "installing packages:$missing"
  # A list of packages that cannot be renewed may still do.
  $sudo apt-get update -qq || echo "warning: apt-get update failed"
  # shellcheck disable=SC2086 # a list of words
  $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing ||
    fail $? "apt-get could not install:$missing. Is there a network?"
}

check_compiler() {
  version=$("${CXX:-c++}" -dumpversion) || fail 1 "${CXX:-c++} does not run"
  oldest=12
  if "${CXX:-c++}" --version | grep -qi clang; then oldest=14; fi
  [ "${version%%.*}" -ge $oldest ] ||
    fail 1 "${CXX:-c++} is version $version; flowmatch needs GCC 12 or Clang 14. Install g++-12 and call CXX=g++-12 $0"
}

install_torch() {
  pip=".venv/bin/python -m pip --disable-pip-version-check"
  if [ -n "${LibTorch_ROOT:-}" ]; then
    say "using the LibTorch in $LibTorch_ROOT"
  elif ! .venv/bin/python -c "
from importlib.metadata import version
assert version('torch').split('+')[0] == '$torch'" 2>/dev/null; then
    say "installing LibTorch $torch in .venv (some 200 MB to load)"
    $pip --version >/dev/null 2>&1 || python3 -m venv --clear .venv ||
      fail $? "python3 could not make .venv; remove .venv and try again"
    # The plain package is one for CUDA, of several GB, where the CPU's index can be reached not needed.
    cpu=https://download.pytorch.org/whl/cpu
    if python3 -c "import urllib.request as u; u.urlopen('$cpu/torch/', timeout=5)" 2>/dev/null; then
      $pip install -q --index-url $cpu "torch==$torch" || echo "warning: trying the plain package"
    fi
    $pip install -q "torch==$torch" ||
      fail $? "pip could not install torch $torch. Is there a network? Or unpack LibTorch and set LibTorch_ROOT to its folder"
  fi
  if ! has_cmake; then
    say "installing a newer CMake in .venv"
    [ -d .venv ] || python3 -m venv .venv
    $pip install -q 'cmake>=3.25' || fail $? "pip could not install cmake; install CMake 3.25 or newer"
    PATH="$PWD/.venv/bin:$PATH"
  fi
}

# As many compilers as there are cores, if each finds 2 GB of memory.
count_jobs() {
  jobs=$(getconf _NPROCESSORS_ONLN)
  memory=$(sed -n 's/^MemAvailable: *\([0-9]*\) kB/\1/p' /proc/meminfo)
  if [ -r /sys/fs/cgroup/memory.max ] && grep -q '^[0-9]*$' /sys/fs/cgroup/memory.max; then
    limit=$(($(cat /sys/fs/cgroup/memory.max) / 1024))
    [ "$limit" -gt "$memory" ] || memory=$limit
  fi
  fit=$((memory / 2000000))
  [ "$jobs" -le "$fit" ] || jobs=$fit
  [ "$jobs" -ge 1 ] || jobs=1
}

# build PRESET
build() {
  say "configuring in build/"
  cmake --preset default || fail $? "CMake could not configure; its message is above. If build/ is of another compiler or folder, remove it"
  count_jobs
  say "building, $jobs at a time (some minutes the first time)"
  cmake --build --preset "$1" --parallel "$jobs" ||
    fail $? "the build stopped; the first error above says why. Where memory was short, call again"
}

# Whether there are training images where the programs look for them.
has_data() {
  for folder in "${FLOWMATCH_DATA:-data}" data; do
    for file in train-images-idx3-ubyte.gz train-images-idx3-ubyte; do
      [ ! -e "$folder/fashion-mnist/$file" ] || return 0
    done
  done
  return 1
}

load_data() {
  if has_data; then
    return
  fi
  say "loading Fashion-MNIST into data/fashion-mnist (30 MB)"
  timeout 120 python3 - data/fashion-mnist <<'PYTHON' || echo "not to be had here: the 10,000 test images in examples/data serve instead"
import hashlib, os, sys, urllib.request
folder = sys.argv[1]
files = {
    "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
}
sites = ["http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
         "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/"]

def load(site):
    loaded = {}
    for name, md5 in files.items():
        with urllib.request.urlopen(site + name, timeout=20) as answer:
            loaded[name] = answer.read(32_000_000)
        if hashlib.md5(loaded[name]).hexdigest() != md5:
            raise OSError(name + " has another MD5 than it should")
    return loaded

for site in sites:
    try:
        loaded = load(site)
        break
    except OSError as error:
        print(f"{site}: {error}")
else:
    sys.exit(1)
os.makedirs(folder, exist_ok=True)
# The file that is looked for comes last, so that a stop in between leaves nothing half.
for name in reversed(list(files)):
    part = os.path.join(folder, name + ".part")
    with open(part, "wb") as file:
        file.write(loaded[name])
    os.replace(part, os.path.join(folder, name))
PYTHON
}

demo() {
  load_data
  # The recipe's epochs of the 10,000 test images, or one of the 60,000: some minutes on two cores.
  if [ $# -eq 0 ] && has_data; then
    set -- --epochs 1
  fi
  say "training: fashion_mnist_train $*"
  build/examples/fashion_mnist_train --out out/demo/run --resume "$@" ||
    fail $? "the training stopped; call again to go on, or remove out/demo to begin anew"
  say "drawing ten of each class"
  build/examples/fashion_mnist_sample --checkpoint out/demo/run --n 100 --class all \
    --solver dpm_solver_2 --steps 49 --shift 5 --last-step 0.03 --seed 1 --out out/demo/samples.png ||
    fail $? "the samples could not be drawn"
  say "look at out/demo/samples.png: a column a class"
}

[ $# -ge 1 ] || usage
command=$1
shift
case $command in
  demo)
    for option in "$@"; do
      case $option in
        --out | --out=*) fail 2 "the demo's run lies in out/demo/run; leave --out out, or call fashion_mnist_train yourself" ;;
      esac
    done
    ;;
  test) [ $# -eq 0 ] || usage ;;
  *) usage ;;
esac
cd -- "$(dirname -- "$0")/.."

install_packages
check_compiler
install_torch
if [ "$command" = demo ]; then
  build demo
  demo "$@"
else
  build default
  say "running the tests"
  ctest --preset default --parallel "$jobs" --output-junit Testing/junit.xml ||
    fail $? "tests failed; their output is above"
  say "the tests passed. Not among them: what takes minutes and seldom breaks (each header compiled alone, ...).
   Run it with: ctest --preset slow"
fi
