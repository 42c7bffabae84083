#!/bin/sh
# Makes the folder that travels to a GPU machine without a network beside the checkout: the libraries that the tests and
# examples need, from Debian's packages, and Fashion-MNIST.
#   tests/gpu/pack.sh [--data FOLDER] [DIR]        DIR: .gpu, which git ignores
# There:
#   cmake -S . -B build -G Ninja -DCMAKE_PREFIX_PATH=$PWD/.gpu/root/usr
# and FLOWMATCH_DATA=$PWD/.gpu, or --data .gpu/fashion-mnist. Needs apt-get (with lists: apt-get update) and dpkg-deb.
set -eu
data=
dir=.gpu
while [ $# -gt 0 ]; do
  case $1 in
    --data) data=${2:?a folder}; shift ;;
    -*) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 2 ;;
    *) dir=$1 ;;
  esac
  shift
done
most=36 # MiB

mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Of libpng and zlib the static libraries only, which are in these two: programs then run without LD_LIBRARY_PATH.
# (apt-get as another user could not write here.)
(cd "$work" && apt-get -qq -o APT::Sandbox::User=root download \
  libfmt-dev catch2 libcli11-dev nlohmann-json3-dev libgloo-dev libpng-dev zlib1g-dev)
for package in "$work"/*.deb; do dpkg-deb -x "$package" "$work/root"; done
usr=$work/root/usr
rm -rf "$usr/bin" "$usr/include/libpng" "$usr/share/doc" "$usr/share/man" "$usr/share/lintian" "$usr/share/Catch2" \
  "$usr/share/cmake/Gloo"
find "$usr" \( -name '*.so' -o -name 'pkgconfig' \) -prune -exec rm -rf {} + # .so: links to what is not here
# It demands the compiled fmt, of which only the headers serve.
rm "$usr"/lib/*/cmake/fmt/fmt-targets-none.cmake

# Files in the place of the links that are left (png.h, libpng.a): links may not survive a copy, and absolute ones would
# lead elsewhere.
broken=$(find "$usr" -xtype l)
[ -z "$broken" ] || { echo "links to nothing: $broken" >&2; exit 1; }
rm -rf "$dir/root"
mkdir "$dir/root"
cp -rL "$usr" "$dir/root/usr"

if [ "$data" ]; then
  mkdir -p "$dir/fashion-mnist"
  for file in train-images-idx3 train-labels-idx1 t10k-images-idx3 t10k-labels-idx1; do
    cp -f "$data/$file-ubyte.gz" "$dir/fashion-mnist/"
  done
  chmod -R u+w "$dir/fashion-mnist"
fi

du -sh "$dir"/* | sed "s|$dir/||"
size=$(du -sm "$dir" | cut -f1)
echo "$dir: $size MiB"
[ "$size" -le "$most" ] || { echo "more than $most MiB" >&2; exit 1; }
