#!/usr/bin/env python3
"""Builds and tests flowmatch with one thing varied at a time, and writes the table of docs/platforms.md.

    tests/matrix/run.py                        every row that has no result for this commit yet
    tests/matrix/run.py --only clang-14,arm64   these rows
    tests/matrix/run.py --targets test_ode     a trial: these test programs only; the table stays as it is
    tests/matrix/run.py --table                writes the table from the results there are

Everything is made below --work (default: ../flowmatch-matrix beside the project): a folder for each row with
its build, its log and its result.json. A row goes on where it was. Rows with another Debian need root and
debootstrap; LibTorchs and CMakes come from pip. What cannot be had is a row that says so.
"""
import argparse
import dataclasses
import datetime
import glob
import json
import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree
import zipfile

PROJECT = pathlib.Path(__file__).resolve().parents[2]
RESULTS = PROJECT / "tests/matrix/results.json"
PAGE = PROJECT / "docs/platforms.md"


class Unavailable(Exception):
    """What a row needs and this machine cannot give."""


class Failed(Exception):
    """A row's step that failed."""


@dataclasses.dataclass
class Row:
    name: str
    differs: str
    debian: str = ""  # a chroot of this release; "" is this machine
    packages: str = ""  # to install in the chroot
    flags: list = dataclasses.field(default_factory=list)  # for CMake
    torch: str = ""  # a LibTorch of pip instead of the reference's
    targets: list = dataclasses.field(default_factory=list)  # [] is all
    how: str = "preset"  # preset, newcomer (cmake/bootstrap.sh test), package (the .deb)


BUILD_PACKAGES = (
    "ca-certificates git cmake ninja-build catch2 libfmt-dev libcli11-dev libgloo-dev libpng-dev "
    "nlohmann-json3-dev zlib1g-dev python3"
)
ARM64_PACKAGES = (
    "ca-certificates git cmake ninja-build catch2:arm64 libfmt-dev:arm64 libcli11-dev nlohmann-json3-dev "
    "g++-aarch64-linux-gnu qemu-user-static libpng-dev:arm64 zlib1g-dev:arm64"
)
ARM64_FLAGS = [
    "-DCMAKE_SYSTEM_NAME=Linux",
    "-DCMAKE_SYSTEM_PROCESSOR=aarch64",
    "-DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++",
    "-DCMAKE_LIBRARY_ARCHITECTURE=aarch64-linux-gnu",
    # Without SVE: in the emulator's, of 512 bits, oneDNN's gradients of convolutions are wrong (docs/platforms.md).
    "-DCMAKE_CROSSCOMPILING_EMULATOR=/usr/bin/qemu-aarch64-static;-cpu;neoverse-n1",
]
# What LibTorch's cpuinfo asks of such a processor, which the files of this machine would not say.
ARM64_SYSTEM_FILES = {"possible": "0", "present": "0", "cpu0/regs/identification/midr_el1": "0x00000000413fd0c1"}

ROWS = [
    Row("reference", "nothing: the default preset"),
    Row("o3", "`-O3 -march=x86-64-v3`", flags=["-DCMAKE_CXX_FLAGS_RELEASE=-O3 -march=x86-64-v3 -DNDEBUG"]),
    Row("o0", "`-O0 -g`, with `assert`", flags=["-DCMAKE_CXX_FLAGS_RELEASE=-O0 -g"]),
    Row("c++23", "`-std=c++23`", flags=["-DCMAKE_CXX_STANDARD=23", "-DCMAKE_CXX_EXTENSIONS=OFF"]),
    Row("clang-14", "Clang 14", flags=["-DCMAKE_CXX_COMPILER=clang++-14"]),
    Row("clang-19", "Debian 13 with Clang 19", debian="trixie", packages=BUILD_PACKAGES + " clang-19 g++",
        flags=["-DCMAKE_CXX_COMPILER=clang++-19"]),
    Row("debian-12", "a bare Debian 12 (GCC 12, CMake 3.25): `cmake/bootstrap.sh test`", debian="bookworm", how="newcomer"),
    Row("debian-13", "a bare Debian 13 (GCC 14, CMake 3.31): `cmake/bootstrap.sh test`", debian="trixie", how="newcomer"),
    Row("torch-2.11", "LibTorch 2.11", torch="2.11.0"),
    Row("torch-2.14", "LibTorch 2.14", torch="2.14.1"),
    Row("torch-2.15", "LibTorch 2.15", torch="2.15.0"),
    Row("arm64", "arm64: cross-compiled by GCC 12, run by qemu: `ode/`, `path/`, coupling, noisifier, samplers",
        debian="bookworm", packages=ARM64_PACKAGES, flags=ARM64_FLAGS, torch="2.13.0",
        targets=["test_ode", "test_path", "test_coupling", "test_noisify", "test_sample"]),
    Row("package", "the .deb on a bare Debian 12: `find_package(flowmatch)` after `dpkg -i`", debian="bookworm",
        packages="g++ cmake make", how="package"),
]


class Machine:
    """Runs commands, logged: here, or in a chroot whose mounts end with each command."""

    def __init__(self, folder, root=None):
        self.folder, self.root, self.mounts = folder, root, {}
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / "log.txt"

    def run(self, command, env=None, check=True):
        text = command if isinstance(command, str) else shlex.join(map(str, command))
        variables = {"LC_ALL": "C.UTF-8", **(env or {})}
        if self.root:
            mounts = [f"mount -t proc proc {self.root}/proc", f"mount --rbind /dev {self.root}/dev"]
            for source, target in self.mounts.items():
                (self.root / target.lstrip("/")).mkdir(parents=True, exist_ok=True)
                mounts.append(f"mount --bind {shlex.quote(str(source))} {self.root}{target}")
            exports = " ".join(f"{key}={shlex.quote(value)}" for key, value in {**registry_settings(), **variables}.items())
            path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root"
            inner = f"{' && '.join(mounts)} && exec chroot {self.root} env -i {path} {exports} sh -c {shlex.quote(text)}"
            full = ["unshare", "--mount", "--propagation", "private", "sh", "-c", inner]
            environment = None
        else:
            full, environment = ["sh", "-c", text], {**os.environ, **variables}
        with open(self.log, "a") as log:
            log.write(f"\n$ {text}\n")
            log.flush()
            code = subprocess.call(full, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environment)
        if code and check:
            raise Failed(f"`{text[:200]}` ended with {code}; see {self.log}")
        return code

    def ask(self, command):
        """The first line that a command prints, or ""."""
        answer = self.folder / "answer.txt"
        self.run(f"{{ {command}; }} > {'/' + answer.name if self.root else shlex.quote(str(answer))} 2>/dev/null", check=False)
        answer = self.root / answer.name if self.root else answer
        text = answer.read_text() if answer.exists() else ""
        return text.splitlines()[0] if text else ""


def registry_settings():
    """What this machine's pip and apt are told by variables, for the chroots too."""
    keep = {key: value for key, value in os.environ.items() if key.startswith("PIP_") or key.lower().endswith("_proxy")}
    for key in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        if key in os.environ:
            keep[key] = os.environ[key]
    return keep


def pip(*arguments):
    # A machine's own settings may cap the versions; variables say where the packages are.
    command = [sys.executable, "-m", "pip", *map(str, arguments)]
    answer = subprocess.run(command, env={**os.environ, "PIP_CONFIG_FILE": os.devnull}, capture_output=True, text=True)
    if answer.returncode:
        raise Unavailable(f"pip {arguments[0]} gives no {arguments[-1]}: {answer.stderr.strip().splitlines()[-1]}")


def libtorch(work, version, platform="x86_64"):
    """The CPU half of pip's LibTorch; the packages of CUDA that libtorch_cpu wants to see, not to use, beside it."""
    folder = work / f"libtorch-{version}-{platform}"
    root = folder / "torch"
    if (folder / "whole").exists():
        return root
    shutil.rmtree(folder, ignore_errors=True)
    platforms = []
    for tag in ("manylinux_2_28", "manylinux_2_27", "manylinux_2_25", "manylinux_2_17", "manylinux2014"):
        platforms += ["--platform", f"{tag}_{platform}"]
    wheels = folder / "wheels"
    common = ["download", "-q", "--no-deps", "--only-binary=:all:", *platforms, "-d", wheels]
    pip(*common, f"torch=={version}")
    torch_wheel = zipfile.ZipFile(glob.glob(f"{wheels}/torch-*.whl")[0])
    unwanted = ("cuda", "nvrtc", "nvshmem", "libtorch_python", "libshm", "libtorch.so")
    torch_wheel.extractall(folder, [
        name for name in torch_wheel.namelist()
        if name.startswith("torch/include/") or name.startswith("torch/lib/") and not any(word in name for word in unwanted)])
    needs = subprocess.run(["readelf", "-d", root / "lib/libtorch_cpu.so"], capture_output=True, text=True).stdout
    if "libcudart" in needs:
        pip(*common, "nvidia-cuda-runtime")
        pip(*common, "nvidia-cuda-cupti")
        for wheel in glob.glob(f"{wheels}/nvidia*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                for name in archive.namelist():
                    if os.path.basename(name).startswith(("libcudart.so", "libcupti.so")):
                        (root / "lib" / os.path.basename(name)).write_bytes(archive.read(name))
    # The wheel's own libtorch.so names libtorch_cuda, and holds nothing.
    compiler = "c++" if platform == os.uname().machine else f"{platform}-linux-gnu-g++"
    made = subprocess.run([compiler, "-shared", "-o", root / "lib/libtorch.so", "-nostdlib", "-Wl,--no-as-needed",
                           f"-L{root}/lib", "-ltorch_cpu", "-Wl,-rpath,$ORIGIN", "-Wl,--unresolved-symbols=ignore-all"],
                          capture_output=True, text=True)
    if made.returncode:
        raise Unavailable(f"{compiler} could not link libtorch.so: {made.stderr.strip()[-300:]}")
    shutil.rmtree(wheels)
    (folder / "whole").touch()
    return root


def chroot(work, row):
    """A bare Debian of the row's own, with the project's tree as it is committed."""
    if os.geteuid() != 0 or not shutil.which("debootstrap"):
        raise Unavailable("another Debian needs root and debootstrap")
    base = work / f"debian-{row.debian}"
    if not (base / "whole").exists():
        shutil.rmtree(base, ignore_errors=True)
        with open(work / f"debootstrap-{row.debian}.txt", "w") as log:
            if subprocess.call(["debootstrap", "--variant=minbase", row.debian, base], stdout=log, stderr=log):
                raise Unavailable(f"debootstrap {row.debian} failed; see {log.name}")
        (base / "whole").touch()
    root = work / row.name / "root"
    machine = Machine(work / row.name, root)
    if not (root / "whole").exists():
        shutil.rmtree(root, ignore_errors=True)
        subprocess.run(["cp", "-a", base, root], check=True)

    def copy(*names):
        for name in filter(os.path.exists, names):
            (root / name[1:]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(name, root / name[1:])

    # As this machine reaches its registries: names, proxies, certificates, pip's settings.
    certificates = "/etc/ssl/certs/ca-certificates.crt"
    copy("/etc/resolv.conf", "/etc/pip.conf", certificates, *glob.glob("/etc/apt/apt.conf.d/*proxy*"))
    for source in os.environ.get("PIP_FIND_LINKS", "").split():
        if os.path.isdir(source):
            machine.mounts[source] = source
    packages = row.packages or "ca-certificates"
    installed = root / "installed"
    if not installed.exists() or installed.read_text() != packages:
        if "arm64" in packages:
            machine.run("dpkg --add-architecture arm64")
        machine.run("apt-get update -qq")
        machine.run(f"DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends {packages}")
        installed.write_text(packages)
        copy(certificates)  # the package ca-certificates has replaced them
    return machine


def copy_tree(root):
    """The project's files as a clone has them, changes that are not committed too."""
    files = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=PROJECT,
                           capture_output=True, check=True).stdout
    for name in filter(None, files.decode().split("\0")):
        source, target = PROJECT / name, root / "flowmatch" / name
        if source.is_file() and not (target.exists() and target.read_bytes() == source.read_bytes()):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    # What is gone here is gone there.
    listed = set(files.decode().split("\0"))
    for folder in ("include", "tests", "examples", "cmake"):
        for path in (root / "flowmatch" / folder).rglob("*"):
            if path.is_file() and str(path.relative_to(root / "flowmatch")) not in listed:
                path.unlink()


def count(junit):
    suite = xml.etree.ElementTree.parse(junit).getroot()
    red = [case.get("name") for case in suite.iter("testcase") if case.get("status") == "fail" or case.find("failure") is not None]
    total, skipped = int(suite.get("tests")), int(suite.get("skipped")) + int(suite.get("disabled") or 0)
    return {"passed": total - skipped - len(red), "failed": len(red), "skipped": skipped, "failures": red}


def build_and_test(machine, row, source, build, cmake, torch, targets):
    """The row's build in a folder of its own; of the tests all but the slow ones, or those of some programs."""
    if not machine.root and (cache := pathlib.Path(build) / "CMakeCache.txt").exists() and f"={source}\n" not in cache.read_text():
        shutil.rmtree(build)  # of another clone
    machine.run([cmake / "cmake", "-S", source, "-B", build, "--preset", "default", f"-DLibTorch_ROOT={torch}", *row.flags])
    jobs = str(os.cpu_count())
    machine.run([cmake / "cmake", "--build", build, "--parallel", jobs, *(["--target", *targets] if targets else [])])
    labels = ["-L", "^(" + "|".join(name.removeprefix("test_") for name in targets) + ")$"] if targets else ["-LE", "slow"]
    junit = pathlib.PurePath(build) / "junit.xml"
    machine.run(["rm", "-f", junit])
    machine.run([cmake / "ctest", "--test-dir", build, "--parallel", jobs, "--output-on-failure", "--output-junit", junit, *labels],
                check=False)
    return count(f"{machine.root or ''}{junit}")


def newcomer(machine):
    """README's command as it stands; it leaves its tests' verdicts in build/Testing."""
    junit = machine.root / "flowmatch/build/Testing/junit.xml"
    junit.unlink(missing_ok=True)
    code = machine.run("cd /flowmatch && cmake/bootstrap.sh test", check=False)
    if not junit.exists():
        raise Failed(f"cmake/bootstrap.sh test ended with {code} before its tests; see {machine.log}")
    result = count(junit)
    if code and not result["failed"]:
        raise Failed(f"cmake/bootstrap.sh test ended with {code}; see {machine.log}")
    return result


def package(machine, work, torch):
    """The .deb, made here, installed there; a project that finds it is configured, built and run."""
    build = work / "package/build"
    here = Machine(work / "package")
    here.run(["cmake", "-S", PROJECT, "-B", build, "-DFLOWMATCH_BUILD_TESTS=OFF", "-DFLOWMATCH_BUILD_EXAMPLES=OFF",
              f"-DLibTorch_ROOT={torch}"])
    here.run(f"cd {build} && rm -f *.deb && cpack -G DEB")
    deb = next(build.glob("libflowmatch-dev_*_all.deb"))
    shutil.copy(deb, machine.root / deb.name)
    shutil.copytree(PROJECT / "tests/packaging/consumer", machine.root / "consumer", dirs_exist_ok=True)
    machine.mounts[torch] = "/libtorch"
    machine.run(f"dpkg -i /{deb.name} || DEBIAN_FRONTEND=noninteractive apt-get install -f -y -qq --no-install-recommends")
    machine.run("dpkg -s libflowmatch-dev | grep 'Status: install ok installed'")
    machine.run("cmake -S /consumer -B /consumer-build -DMODE=find_package -DLibTorch_ROOT=/libtorch && cmake --build /consumer-build")
    machine.run("/consumer-build/consumer | grep 'consumer: 64 samples'")
    machine.run("dpkg -r libflowmatch-dev && test ! -e /usr/include/flowmatch")
    return {"passed": 1, "failed": 0, "skipped": 0, "failures": []}


def reference_libtorch():
    """As CMake finds it, without its own words."""
    for root in filter(None, [os.environ.get("LibTorch_ROOT"), *glob.glob(f"{PROJECT}/.venv/lib/python*/site-packages/torch")]):
        if os.path.exists(f"{root}/lib/libtorch_cpu.so"):
            return pathlib.Path(root).resolve()
    raise Unavailable("there is no reference LibTorch: set LibTorch_ROOT, or run cmake/bootstrap.sh test")


def try_row(row, work, targets):
    folder = work / row.name
    folder.mkdir(parents=True, exist_ok=True)
    result = {"row": row.name, "differs": row.differs, "date": datetime.date.today().isoformat(), "commit": commit()}
    start = time.time()
    try:
        compiler = next((flag.split("=", 1)[1] for flag in row.flags if flag.startswith("-DCMAKE_CXX_COMPILER=")), "c++")
        if not row.debian and not shutil.which(compiler):
            raise Unavailable(f"{compiler} is not installed")
        machine = chroot(work, row) if row.debian else Machine(folder)
        arm = row.name == "arm64"
        for name, text in ARM64_SYSTEM_FILES.items() if arm else []:
            path = machine.root / "sys/devices/system/cpu" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n")
        if row.torch:
            torch = libtorch(work, row.torch, "aarch64" if arm else "x86_64")
        elif row.how != "newcomer":
            torch = reference_libtorch()
        if row.debian and row.how != "package":
            copy_tree(machine.root)
        targets = targets or row.targets
        if row.how == "newcomer":
            if targets:
                raise Unavailable("a newcomer runs everything; leave --targets out")
            result.update(newcomer(machine))
            result["compiler"], result["cmake"] = machine.ask("c++ --version"), machine.ask("cmake --version")
        elif row.how == "package":
            result.update(package(machine, work, torch))
            result["compiler"], result["cmake"] = machine.ask("c++ --version"), machine.ask("cmake --version")
        else:
            cmake = pathlib.PurePath("/usr/bin") if row.debian else pathlib.Path(shutil.which("cmake")).parent
            if row.debian:
                machine.mounts[torch] = "/libtorch"
                torch, source, build = "/libtorch", "/flowmatch", "/build"
            else:
                source, build = PROJECT, work / row.name / "build"
            result.update(build_and_test(machine, row, source, build, cmake, torch, targets))
            result["compiler"] = machine.ask(f"{compiler} --version")
            result["cmake"] = machine.ask(f"{cmake / 'cmake'} --version")
        result["state"] = "red" if result["failed"] else "green"
    except Unavailable as why:
        result["state"] = f"not available here: {why}"
    except (Failed, OSError, subprocess.CalledProcessError) as why:
        result["state"] = f"red: {why}"
    result["minutes"] = round((time.time() - start) / 60, 1)
    result["trial"] = bool(targets) and targets != row.targets
    (folder / "result.json").write_text(json.dumps(result, indent=1) + "\n")
    return result


def commit():
    """The commit that the tree is of, with a + where files in it have been edited since."""
    def git(*arguments):
        return subprocess.run(["git", *arguments], cwd=PROJECT, capture_output=True, text=True).stdout.strip()
    results = [f":!{page.relative_to(PROJECT)}" for page in (RESULTS, PAGE)]  # what this script writes
    edited = git("status", "--porcelain", "--untracked-files=no", "--", ".", *results)
    return git("rev-parse", "--short", "HEAD") + ("+" if edited else "")


def write_table(work):
    """The rows that were run, into tests/matrix/results.json and docs/platforms.md; older ones stay."""
    kept = {row["row"]: row for row in json.loads(RESULTS.read_text())} if RESULTS.exists() else {}
    for row in ROWS:
        path = work / row.name / "result.json"
        if path.exists():
            result = json.loads(path.read_text())
            if not result["trial"]:
                # A path of this machine tells others nothing.
                result["state"] = result["state"].split("; see")[0].replace(str(work), "…").replace(str(PROJECT), "…")
                kept[row.name] = result
    kept = [kept[row.name] for row in ROWS if row.name in kept]
    RESULTS.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
    lines = ["| row | what differs | tests passed | failed | skipped | state | date |", "|---|---|---|---|---|---|---|"]
    for row in kept:
        numbers = " | ".join(str(row.get(key, "–")) for key in ("passed", "failed", "skipped"))
        lines.append(f"| {row['row']} | {row['differs']} | {numbers} | {row['state']} | {row['date']} |")
    before, mark, after = PAGE.read_text().partition("<!-- table -->\n")
    _, end, after = after.partition("<!-- end of the table -->\n")
    PAGE.write_text(before + mark + "\n".join(lines) + "\n" + end + after)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="rows, with commas between; " + ", ".join(row.name for row in ROWS))
    parser.add_argument("--targets", default="", help="a trial of these test programs, with commas between")
    parser.add_argument("--work", type=pathlib.Path, default=PROJECT.parent / "flowmatch-matrix")
    parser.add_argument("--again", action="store_true", help="rows that have a result for this commit, too")
    parser.add_argument("--table", action="store_true", help="write the table only")
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    names = list(filter(None, arguments.only.split(",")))
    targets = list(filter(None, arguments.targets.split(",")))
    unknown = set(names) - {row.name for row in ROWS}
    if unknown:
        parser.error("there is no row " + ", ".join(sorted(unknown)))
    red = False
    for row in ROWS if not arguments.table else []:
        if names and row.name not in names:
            continue
        path = work / row.name / "result.json"
        if path.exists() and not arguments.again:
            old = json.loads(path.read_text())
            if old["commit"] == commit() and not commit().endswith("+") and old["state"] == "green" and not (old["trial"] and not targets):
                print(f"{row.name}: {old['state']} at this commit already", flush=True)
                continue
        print(f"{row.name}: …", flush=True)
        result = try_row(row, work, targets)
        red = red or result["state"].startswith("red")
        numbers = ", ".join(f"{result[key]} {key}" for key in ("passed", "failed", "skipped") if key in result)
        print(f"{row.name}: {result['state']} ({numbers}) in {result['minutes']} min", flush=True)
        for name in result.get("failures", []):
            print(f"    {name}", flush=True)
    if not targets:
        write_table(work)
    sys.exit(1 if red else 0)


if __name__ == "__main__":
    main()
