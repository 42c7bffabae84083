#!/usr/bin/env python3
"""What the library's headers add to the time that torch/torch.h takes to compile.

    tests/benchmark/compile_time.py [--build build] [--rounds 3]

Compiles files that include some headers and do nothing, in turn, with the compiler and the LibTorch of a configured build
folder, and prints the median processor time of each and what is above that of torch/torch.h alone.
"""
import argparse
import pathlib
import re
import resource
import statistics
import subprocess
import tempfile

README = ["torch/torch.h"] + ["flowmatch/" + name for name in (
    "data/tensor_batches.hpp", "monitor/progress.hpp", "noisify/noisifier.hpp", "ode/runge_kutta.hpp", "path/affine.hpp",
    "sample/sampler.hpp", "train/trainer.hpp")]
FILES = {
    "torch/torch.h": ["torch/torch.h"],
    "flowmatch/flowmatch.hpp": ["flowmatch/flowmatch.hpp"],
    "the README's: trainer, sampler, …": README[1:],
    "torch/torch.h and flowmatch/flowmatch.hpp": ["torch/torch.h", "flowmatch/flowmatch.hpp"],
    "torch/torch.h and the README's: trainer, sampler, …": README,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--build", type=pathlib.Path, default=pathlib.Path("build"), help="a configured build folder")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    project = pathlib.Path(__file__).resolve().parents[2]
    cache = (options.build / "CMakeCache.txt").read_text()
    compiler = re.search(r"^CMAKE_CXX_COMPILER:\w+=(.*)", cache, re.M)[1]
    torch = re.search(r"^FIND_PACKAGE_MESSAGE_DETAILS_LibTorch:INTERNAL=\[(.*?)\]", cache, re.M)[1]
    command = [compiler, "-std=c++20", "-O2", f"-I{project}/include", "-isystem", f"{torch}/include", "-isystem",
               f"{torch}/include/torch/csrc/api/include", "-c"]
    seconds = {name: [] for name in FILES}
    with tempfile.TemporaryDirectory() as folder:
        source = pathlib.Path(folder) / "source.cpp"
        for _ in range(options.rounds):
            for name, headers in FILES.items():
                source.write_text("".join(f"#include <{header}>\n" for header in headers) + "int main() {}\n")
                before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
                subprocess.run([*command, source, "-o", source.with_suffix(".o")], check=True)
                seconds[name].append(resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before)
    alone = statistics.median(seconds["torch/torch.h"])
    print(f"{'seconds':>7}  {'above':>6}")
    for name, all_ in seconds.items():
        median = statistics.median(all_)
        print(f"{median:7.2f}  {median - alone:+6.2f}  {name}  ({min(all_):.2f} to {max(all_):.2f})")


main()
