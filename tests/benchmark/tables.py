#!/usr/bin/env python3
"""The tables of conditions.cpp, plane.cpp and plane.py from their rows: mean and deviation of the seeds, in Markdown.

    tests/benchmark/tables.py [FOLDER]

FOLDER (tests/benchmark/rows) holds conditions.csv, plane.csv and plane-torchcfm.csv, as far as they are made. A cell with an
exclamation mark is beyond the other's mean by more than its deviation.
"""
import collections
import csv
import pathlib
import statistics
import sys

# Cheng & Schwing 2025 (arXiv 2503.10636), figure 1: W_2^2 by one Euler step and by an adaptive solver.
PUBLISHED = {
    "FM": ((6.232, .186), (.120, .045)), "OT": ((.072, .025), (.050, .040)),
    "FM class": ((2.573, .112), (.059, .029)), "OT class": ((.483, .059), (.462, .025)),
    "aware class": ((.048, .010), (.018, .006)), "FM x": ((.732, .052), (.028, .010)),
    "OT x": ((8.276, 6.510), (2.143, 1.993)), "aware x": ((.077, .024), (.013, .003)),
}
folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).parent / "rows"


def rows(name, key, columns):
    """The values of each key's seeds, by column."""
    found = collections.defaultdict(list)
    if (folder / name).exists():
        for row in csv.DictReader(open(folder / name)):
            found[tuple(row[k] for k in key)].append([float(row[c]) for c in columns])
    return {k: list(zip(*v)) for k, v in found.items()}


def spread(values):
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0


def cell(values, other):
    mean, deviation = spread(values)
    return f"{mean:.3f} ± {deviation:.3f}" + (" !" if other and mean > sum(other) else "")


print("| W₂² | seeds | Euler-1 | published | adaptive | published |\n|---|---|---|---|---|---|")
for (column,), values in rows("conditions.csv", ["column"], ["euler", "adaptive"]).items():
    published = PUBLISHED[column]
    cells = [f"{cell(v, p)} | {p[0]:.3f} ± {p[1]:.3f}" for v, p in zip(values, published)]
    print(f"| {column} | {len(values[0])} | {' | '.join(cells)} |")

ours = rows("plane.csv", ["method", "pair"], ["w2", "energy"])
theirs = rows("plane-torchcfm.csv", ["method", "pair"], ["w2", "energy"])
print("\n| | | seeds | W₂ | torchcfm's | path energy | torchcfm's |\n|---|---|---|---|---|---|---|")
for key in sorted(ours.keys() | theirs.keys()):
    mine, other = ours.get(key), theirs.get(key)
    cells = []
    for i in range(2):
        cells += [cell(mine[i], other and spread(other[i])) if mine else "", cell(other[i], None) if other else ""]
    print(f"| {' | '.join(key)} | {len((mine or other)[0])} | {' | '.join(cells)} |")
