#!/usr/bin/env python3
"""Runs the tasks of speed.cpp beside the same in Python (speed.py), in turn, and prints how many times as fast as the
better Python mode this library is.

    cmake --build build --target speed
    tests/benchmark/compare.py                      # about half an hour, nothing else running
    tests/benchmark/compare.py --quick              # two minutes
    tests/benchmark/compare.py --only "train_mlp 64 256" --busy

Python's packages go into a virtual environment of their own, which is made where it is missing. Each side runs in a
process of its own, in turn, `--rounds` times; the medians of the rounds count. Python's modes are tried once on each
task, on one thread and on all, and the two fastest take part. --busy measures this library beside a process that keeps
one core busy: the share of what it does undisturbed. Says before which runs other programs took the machine's time."""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

here = Path(__file__).resolve().parent
PEERS = ["numpy", "torchdiffeq==0.2.5", "flow-matching==1.0.10"]
# Task, whether more is better, Python's modes.
POINTS = ["eager", "fused", "compile"]
TASKS = [(f"train_mlp {w} {b}", True, POINTS) for w, b in ((64, 256), (128, 1024), (512, 4096))]
TASKS += [(f"{s} {w} {b}", False, ["eager", "compile"])
          for s in ("euler", "dopri5") for w, b in ((64, 256), (128, 1024))]
TASKS += [("euler 256 1", False, ["eager", "compile"])]
TASKS += [(f"train_unet {n} 128", True, ["eager", "channels_last", "compile"]) for n in ("small", "paper")]
TASKS += [(f"sample_unet small {b}", False, ["eager", "channels_last", "compile", "freeze"]) for b in (1, 16, 256)]
TASKS += [("train_unet_bfloat16 small 128", True, ["channels_last", "compile"])]
TASKS += [("sample_unet_bfloat16 small 16", False, ["channels_last", "compile", "freeze"])]
TASKS += [("first_sample", False, ["eager"])]
QUICK = {"train_mlp 64 256", "euler 64 256", "dopri5 64 256", "euler 256 1", "train_unet small 128", "first_sample"}
BUSY = ["train_mlp 128 1024", "train_unet small 128", "euler 128 1024", "sample_unet small 256"]


def busy_share(seconds=0.5):
    """The share of the machine's time that is taken at the moment."""
    def read():
        numbers = [int(n) for n in Path("/proc/stat").read_text().split("\n")[0].split()[1:]]
        return sum(numbers), numbers[3] + numbers[4]
    all_0, idle_0 = read()
    time.sleep(seconds)
    all_1, idle_1 = read()
    return 1 - (idle_1 - idle_0) / max(all_1 - all_0, 1)


class Machine:
    def __init__(self):
        self.disturbed = []

    def run(self, command, task, alone=True):
        """Its JSON, or for first_sample the time of the process; None where it fails."""
        share = busy_share() if alone else 0
        if share > 0.1:
            self.disturbed.append(f"{task}: {100 * share:.0f} % taken by others")
        start = time.perf_counter()
        done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
        seconds = time.perf_counter() - start
        if done.returncode != 0:
            print(f"failed: {' '.join(str(c) for c in command)}\n{done.stderr[-800:]}", file=sys.stderr)
            return None
        if task == "first_sample":
            return {"value": seconds, "unit": "s", "memory": 0, "evaluations": 100}
        return json.loads(done.stdout.strip().splitlines()[-1])


def python_of(folder):
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        torch = subprocess.run([sys.executable, "-c", "import torch; print(torch.__version__)"], text=True,
                               capture_output=True).stdout.strip() or "2.13.0"
        subprocess.run([folder / "bin" / "pip", "install", "-q", f"torch=={torch.split('+')[0]}", *PEERS], check=True)
    return python


def median(runs, key="value"):
    return statistics.median(r[key] for r in runs)


def compare(task, more, modes, args, machine):
    words = task.split()
    ours = [args.program, *words, args.seconds]
    tried = {}
    for mode in modes:
        for threads in ([0] if mode == "freeze" or task == "first_sample" else [1, 0]):
            call = [args.python, here / "speed.py", *words, args.seconds / 2, threads, mode]
            result = machine.run(call, task)
            if result:
                tried[mode, threads] = result["value"]
    best = sorted(tried, key=tried.get, reverse=more)[:2]
    runs = {"ours": []} | {way: [] for way in best}
    for _ in range(args.rounds):
        for way in runs:
            call = ours if way == "ours" else [args.python, here / "speed.py", *words, args.seconds, way[1], way[0]]
            result = machine.run(call, task)
            if result:
                runs[way].append(result)
    values = {way: median(r) for way, r in runs.items() if r}
    python = (max if more else min)((w for w in values if w != "ours"), key=values.get)
    ratios = [a["value"] / b["value"] if more else b["value"] / a["value"]
              for a, b in zip(runs["ours"], runs[python])]
    return {"task": task, "ours": values["ours"], "python": values[python], "unit": runs["ours"][0]["unit"],
            "ratio": statistics.median(ratios), "ratios": [min(ratios), max(ratios)],
            "python_mode": f"{python[0]}, {python[1] or 'all'} threads",
            "memory": [median(runs["ours"], "memory"), median(runs[python], "memory")],
            "evaluations": [runs["ours"][0]["evaluations"], runs[python][0]["evaluations"]],
            "python_all": {f"{m}, {t or 'all'} threads": v for (m, t), v in tried.items()}}


def beside_a_busy_process(task, args, machine):
    call = [args.program, *task.split(), args.seconds]
    more = task.startswith("train")
    shares = []
    for _ in range(args.rounds):
        alone = machine.run(call, task)["value"]
        other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        try:
            value = machine.run(call, task, alone=False)["value"]
        finally:
            other.kill()
            other.wait()
        shares.append(value / alone if more else alone / value)
    return {"task": task, "share": statistics.median(shares), "shares": [min(shares), max(shares)]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=Path, default=Path("build/tests/speed"))
    parser.add_argument("--peers", type=Path, default=Path("build/peers"), help="Python's virtual environment")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5, help="of each measurement")
    parser.add_argument("--quick", action="store_true", help="few tasks, one round, Python eager on all threads")
    parser.add_argument("--only", action="append", help="a task, such as 'euler 64 256'; may be repeated")
    parser.add_argument("--busy", action="store_true", help="instead of Python: beside a busy process")
    parser.add_argument("--out", type=Path, help="JSON to write")
    args = parser.parse_args()
    if not args.program.exists():
        sys.exit(f"there is no {args.program}; build the target `speed`, or name it with --program")
    if args.quick:
        args.rounds, args.seconds = 1, 1.5
    machine = Machine()
    result = {"cores": os.cpu_count(), "rows": []}
    for threads in (1, 0):
        roofs = machine.run([args.program, "roofline", 1 if args.quick else 4, threads], "roofline")
        result[f"roofline, {threads or 'all'} threads"] = roofs
        print(f"roofline, {threads or 'all'} threads: sgemm {roofs['sgemm']:.0f}, convolution "
              f"{roofs['convolution']:.0f} GFLOP/s", flush=True)
    if args.busy:
        print("| task | share of the undisturbed | lowest to highest |\n|---|---|---|")
        for task in args.only or BUSY:
            row = beside_a_busy_process(task, args, machine)
            result["rows"].append(row)
            print(f"| {task} | {row['share']:.2f} | {row['shares'][0]:.2f} to {row['shares'][1]:.2f} |", flush=True)
    else:
        args.python = python_of(args.peers)
        print("| task | flowmatch | Python | ratio | lowest to highest | Python's mode | MB |\n|---|---|---|---|---|---|---|")
        for task, more, modes in TASKS:
            if task not in (args.only or [task]) or (args.quick and task not in QUICK):
                continue
            row = compare(task, more, modes[:1] if args.quick else modes, args, machine)
            result["rows"].append(row)
            print(f"| {task} | {row['ours']:.4g} {row['unit']} | {row['python']:.4g} | {row['ratio']:.2f} | "
                  f"{row['ratios'][0]:.2f} to {row['ratios'][1]:.2f} | {row['python_mode']} | "
                  f"{row['memory'][0]:.0f} beside {row['memory'][1]:.0f} |", flush=True)
    for line in machine.disturbed:
        print(f"disturbed before {line}")
    result["disturbed"] = machine.disturbed
    if args.out:
        args.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
