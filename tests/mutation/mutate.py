#!/usr/bin/env python3
"""One-line mutations of include/flowmatch, and whether the tests of their room notice.

All mutants of a room are compiled into one test binary ("mutant schemata", Untch et al. 1993): each place is
a switch on one number that is read from the environment, `(fm_mutant(17) ? (a - b) : (a + b))`. What does not
compile as a switch is dropped. A test file runs for the mutants that it comes by only, the header's own
first. Verdicts go to verdicts.tsv as they come: a run that was stopped goes on. A mutant is tried again only
where its line has changed, or where it survived and no reason is written why it changes nothing.

  mutate.py --list --room ode             what would be tried
  mutate.py --run --room ode              tries it
  mutate.py --report                      counts verdicts.tsv
"""
import argparse
import collections
import os
import pathlib
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time

from mutants import HEADERS, ROOT, candidates, choose, key

VERDICTS = pathlib.Path(__file__).with_name("verdicts.tsv")
Verdict = collections.namedtuple("Verdict", "room file line mutation verdict reason")
REFUSED = "does not compile"

# How many mutants of each room are tried.
COUNTS = {"core": 35, "io": 60, "data": 30, "coupling": 12, "path": 30, "noisify": 20, "model": 30, "loss": 4,
          "optim": 45, "monitor": 30, "checkpoint": 25, "parallel": 30, "train": 50, "ode": 80, "solve": 40,
          "sample": 40, "metrics": 40}

SWITCH = """#pragma once
#include <cstdio>
#include <cstdlib>
#include <type_traits>
/// Whether mutant i is on. Notes each that the program comes by.
inline bool fm_mutant(int i) {
  static const char* const chosen = std::getenv("FLOWMATCH_MUTANT");
  static const int number = chosen ? std::atoi(chosen) : -1;
  static const char* const log = std::getenv("FLOWMATCH_REACHED");
  static std::FILE* const file = log ? std::fopen(log, "a") : nullptr;
  static bool reached[10000];
  if (file && !reached[i]) {
    reached[i] = true;
    std::fprintf(file, "%d\\n", i);
    std::fflush(file);
  }
  return number == i;
}
/// Another value of the same type. It lives on, as the function may return a reference.
template <class T>
const T& fm_other(const T& x) {
  if constexpr (std::is_same_v<T, bool>) {
    return *new T(!x);
  } else if constexpr (requires { T(x + 1); }) {
    return *new T(x + 1);
  } else {
    return *new T{};
  }
}
"""


def read_verdicts():
    rows = VERDICTS.read_text().splitlines()[1:] if VERDICTS.exists() else []
    verdicts = [Verdict(*row.split("\t")) for row in rows]
    return {verdict[1:4]: verdict for verdict in verdicts}


def write_verdicts(verdicts):
    new = VERDICTS.with_suffix(".new")
    new.write_text("\n".join("\t".join(row) for row in [Verdict._fields, *sorted(verdicts.values())]) + "\n")
    new.replace(VERDICTS)


def judge(verdicts, mutant, verdict):
    """Keeps a verdict, on disk too."""
    if not VERDICTS.exists():
        write_verdicts({})
    verdicts[key(mutant)] = Verdict(mutant.room, *key(mutant), verdict, "")
    with VERDICTS.open("a") as file:
        file.write("\t".join(verdicts[key(mutant)]) + "\n")


def write_changed(path, text):
    if not path.exists() or path.read_text() != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def write_tree(tree, mutants):
    """The repository with mutants in include/; all else is linked. Mutant i stands on line 1,000,000 + i of its
    file, where the compiler's messages name it."""
    tree.mkdir(parents=True, exist_ok=True)
    for path in ROOT.iterdir():
        if path.name[0] != "." and not re.match("include|build|out", path.name) and not (tree / path.name).is_symlink():
            (tree / path.name).symlink_to(path)
    write_changed(tree / "switch.hpp", SWITCH)
    headers = {path: path.read_text() for path in (ROOT / "include").rglob("*.hpp")}
    for i, m in sorted(mutants.items(), key=lambda item: -item[1].begin):
        source = headers[HEADERS / m.file]
        lines = source.count("\n", 0, m.end) + 1
        headers[HEADERS / m.file] = (f"{source[:m.begin]}\n#line {1000000 + i}\n"
                                     f"{m.code.replace('#', f'fm_mutant({i})')}\n"
                                     f"#line {lines}\n{source[m.end:]}")
    for path in {HEADERS / m.file for m in mutants.values()}:
        headers[path] = headers[path].replace("#pragma once\n", f'#pragma once\n#include "{tree}/switch.hpp"\n#line 2\n', 1)
    for path in (tree / "include").rglob("*.hpp"):
        if ROOT / path.relative_to(tree) not in headers:
            path.unlink()
    for path, source in headers.items():
        write_changed(tree / path.relative_to(ROOT), source)


def build(tree, folder, room, cmake):
    """Builds the room's test. Returns what the compiler says where it fails."""
    subprocess.run(["cmake", "--preset", "default", "-S", tree, "-B", folder, *cmake], check=True,
                   stdout=subprocess.DEVNULL)
    done = subprocess.run(["cmake", "--build", folder, "--target", f"test_{room}", "-j1", "--", "-k0"],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.stdout if done.returncode else ""


def refused_by(errors):
    """The numbers of the mutants that the compiler's messages name."""
    lines = re.findall(r"\.hpp:(1\d{6})[:,](.*)", errors)
    wrong = {int(line) - 1000000 for line, what in lines if "error:" in what}
    wrong = wrong or {int(line) - 1000000 for line, _ in lines}  # an error in what it calls
    if errors and not wrong:
        sys.exit(errors[-8000:] + "\nThe test does not build, and no mutant is near the error.")
    return wrong


def run_tests(binary, test_file, environment, seconds=1200):
    """Runs the tests of one file up to the first failure, and returns how it ended."""
    def limit():
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
        resource.setrlimit(resource.RLIMIT_DATA, (12 << 30, 12 << 30))  # loops that add for ever
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with tempfile.TemporaryDirectory() as scratch:
        os.chmod(scratch, 0o755)  # a test looks into its folder as nobody
        process = subprocess.Popen(
            # Without a test that maps a TiB, which the limit forbids.
            [binary, "--abort", "--filenames-as-tags", f"[#{test_file.stem}]~*larger than memory*"], preexec_fn=limit,
            env={**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": scratch, **environment}, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            code = process.wait(3 * seconds)
        except subprocess.TimeoutExpired:
            code = "time out"
        try:
            os.killpg(process.pid, signal.SIGKILL)  # what it has started, too
        except ProcessLookupError:
            pass
        process.wait()
    return code


def test_files(binary, room, log):
    """The mutants that each test file comes by, and the seconds that it takes."""
    reached, seconds = {}, {}
    for test_file in sorted((ROOT / "tests" / room).glob("*_test.cpp")):
        log.unlink(missing_ok=True)
        began = time.monotonic()
        if run_tests(binary, test_file, {"FLOWMATCH_REACHED": str(log)}) != 0:
            sys.exit(f"{test_file} fails without a mutant")
        seconds[test_file] = time.monotonic() - began
        reached[test_file] = set(map(int, log.read_text().split())) if log.exists() else set()
    return reached, seconds


def run(room, seed, count, scratch, cmake):
    verdicts = read_verdicts()
    tree, folder, binary = scratch / "tree", scratch / "build", scratch / "build/tests" / f"test_{room}"
    tried = set()  # now

    def verdict_is(mutant, verdict, note=""):
        judge(verdicts, mutant, verdict)
        tried.add(key(mutant))
        if verdict == "survived":
            print(f"  {mutant.file}:{mutant.line}: {key(mutant)[2]}{note}", flush=True)

    def try_one(mutant, i, files, seconds):
        own = pathlib.Path(mutant.file).stem
        files = sorted(files, key=lambda f: (not f.stem.startswith(own), seconds[f]))
        caught = any(run_tests(binary, f, {"FLOWMATCH_MUTANT": str(i)}, int(10 + 5 * seconds[f])) != 0 for f in files)
        verdict_is(mutant, "caught" if caught else "survived", "" if files else "  (never reached)")

    while True:
        refused = {k for k, verdict in verdicts.items() if verdict.verdict == REFUSED}
        chosen = choose(room, seed, count, refused)
        todo = {i: m for i, m in enumerate(chosen) if key(m) not in tried and
                (key(m) not in verdicts or verdicts[key(m)][4:] == ("survived", ""))}
        if not todo:
            break
        print(f"{room}: {len(todo)} of {len(chosen)} mutants to try", flush=True)
        write_tree(tree, {i: m for i, m in todo.items() if "#" in m.code})
        wrong = refused_by(build(tree, folder, room, cmake))
        for i in wrong:
            verdict_is(todo[i], REFUSED)
        if wrong:
            continue
        reached, seconds = test_files(binary, room, scratch / "reached")
        for i, mutant in todo.items():
            if "#" in mutant.code:
                try_one(mutant, i, [f for f in reached if i in reached[f]], seconds)
        for i, mutant in todo.items():
            if "#" not in mutant.code:
                write_tree(tree, {i: mutant})
                errors = build(tree, folder, room, cmake)
                if "static assertion failed" in errors:
                    verdict_is(mutant, "caught")
                elif errors:
                    verdict_is(mutant, REFUSED)
                else:
                    try_one(mutant, i, list(seconds), seconds)
    # In order, and without what the code has no longer.
    kept = {key(m) for m in chosen} | ({key(m) for m in candidates(room, seed)} & refused)
    write_verdicts({k: verdict for k, verdict in read_verdicts().items() if verdict.room != room or k in kept})
    report([room])


def report(rooms):
    verdicts = [verdict for verdict in read_verdicts().values() if verdict.verdict != REFUSED]
    print("| room | mutants | caught | change nothing | survived |\n|---|---|---|---|---|")
    total = collections.Counter()
    for room in rooms:
        row = collections.Counter("change nothing" if verdict.reason else verdict.verdict
                                  for verdict in verdicts if verdict.room == room)
        total += row
        rows = [(room, row), ("all", total)] if room == rooms[-1] and len(rooms) > 1 else [(room, row)]
        for name, counts in rows:
            print(f"| {name} | {counts.total()} | {counts['caught']} | {counts['change nothing']} | {counts['survived']} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--room", action="append", choices=COUNTS, help="once or more; all where it is left out")
    parser.add_argument("--seed", type=int, default=1993, help="decides which mutants are tried")
    parser.add_argument("--count", type=int, help="mutants a room, where not as in COUNTS of this script")
    parser.add_argument("--scratch", type=pathlib.Path, default=pathlib.Path(tempfile.gettempdir(), "flowmatch-mutation"),
                        help="where the tests are built")
    parser.add_argument("--cmake", action="append", default=[], help="for cmake: --cmake=-DLibTorch_ROOT=…")
    for action in ("list", "run", "report"):
        parser.add_argument(f"--{action}", action="store_true")
    options = parser.parse_args()
    rooms = options.room or list(COUNTS)
    for room in rooms:
        count = options.count or COUNTS[room]
        if options.list:
            refused = {k for k, verdict in read_verdicts().items() if verdict.verdict == REFUSED}
            for m in sorted(choose(room, options.seed, count, refused), key=lambda m: (m.file, m.begin)):
                print(f"{m.file}:{m.line}: {key(m)[2]}")
        if options.run:
            run(room, options.seed, count, options.scratch, options.cmake)
    if options.report:
        report(rooms)


if __name__ == "__main__":
    main()
