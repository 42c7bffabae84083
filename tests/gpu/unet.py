#!/usr/bin/env python3
"""Training and sampling of the Fashion-MNIST UNet in PyTorch on a GPU: what the library's own numbers stand beside.

    tests/gpu/unet.py train  --model paper --mode eager --precision bf16 --steps 100
    tests/gpu/unet.py epochs --model paper --epochs 5 --data .gpu/fashion-mnist
    tests/gpu/unet.py sample --model paper --mode compile --n 10000 16 1
    tests/gpu/unet.py all    --budget 480 --json peer.jsonl
    tests/gpu/unet.py all    --budget 300 --device cpu --model tiny --batch 8 --steps 5 --n 16 1 --images 64   (a trial)

Each measurement is a line of JSON on the standard output, and is appended to --json; one that fails is a line with
"error", and the next runs. What goes on is told on the standard error. The network is tests/benchmark/unet.py.
"""
import argparse
import contextlib
import copy
import gc
import gzip
import json
import os
import platform
import signal
import statistics
import sys
import time
import traceback
from pathlib import Path

# So that no compilation comes from an earlier run.
os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", f"/tmp/flowmatch-inductor-{os.getpid()}")

import torch
import torch.nn.functional as F

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT / "tests" / "benchmark"))  # before this folder, whose file has the same name
from unet import UNet

MODELS = {"paper": dict(widths=(32, 64, 128, 256), blocks=2), "small": dict(widths=(16, 32, 64, 128), blocks=1),
          "tiny": dict(widths=(8, 16), blocks=1)}  # tiny: to try this file
LATEST_TIME = 0.999
BLOCKS = 5


def say(text):
    print(text, file=sys.stderr, flush=True)


class Device:
    def __init__(self, name):
        self.device = torch.device(name)
        self.cuda = self.device.type == "cuda"

    def synchronize(self):
        if self.cuda:
            torch.cuda.synchronize()

    def reset_memory(self):
        """Memory counts from here; what is only cached goes back first."""
        if self.cuda:
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def memory(self):
        if not self.cuda:
            return {}
        return {"peak_allocated_mb": round(torch.cuda.max_memory_allocated() / 2**20, 1),
                "peak_reserved_mb": round(torch.cuda.max_memory_reserved() / 2**20, 1)}

    def seconds(self, f):
        self.synchronize()
        began = time.perf_counter()
        f()
        self.synchronize()
        return time.perf_counter() - began

    def card(self):
        return torch.cuda.get_device_name(self.device) if self.cuda else platform.processor() or platform.machine()


def channels_last(x):
    """x, laid out channels-last. One channel lies the same way in both layouts, and PyTorch then leaves strides that
    convolutions read as the other one; these are unmistakable."""
    x = x.contiguous(memory_format=torch.channels_last)
    n, c, h, w = x.shape
    return x.as_strided(x.shape, (h * w * c, 1, w * c, c))


def make_net(args):
    torch.manual_seed(0)
    net = UNet(**MODELS[args.model]).to(args.at.device, memory_format=torch.channels_last)
    net.ci.weight.data = channels_last(net.ci.weight.data)
    return net


def in_mode(net, mode):
    """The network to call. Each shape is compiled for itself: there are few, and they return."""
    if mode == "eager":
        return net
    return torch.compile(net, dynamic=False, mode="reduce-overhead" if mode == "compile-graphs" else "default")


def set_precision(args):
    torch.set_float32_matmul_precision("high" if args.tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = args.tf32
    torch.backends.cudnn.benchmark = args.cudnn_benchmark


class Training:
    """The step, and what it needs. Nothing in it waits for the device."""

    def __init__(self, args, net, mode, total_steps):
        self.device, self.graphs = args.at.device, mode == "compile-graphs"
        self.net = net.train()
        self.call = in_mode(net, mode)
        self.optimizer = torch.optim.Adam(net.parameters(), lr=1e-2, eps=1e-5, fused=True)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(self.optimizer, max_lr=1e-2, total_steps=total_steps)
        self.autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=args.precision == "bf16")

    def step(self, x1, labels):
        if self.graphs:
            torch.compiler.cudagraph_mark_step_begin()
        x0 = torch.randn_like(x1)
        t = torch.rand(len(x1), device=self.device).clamp_(max=LATEST_TIME)
        xt = torch.lerp(x0, x1, t[:, None, None, None])
        with self.autocast:
            v = self.call(xt, t, labels)
        loss = F.mse_loss(v.float(), x1 - x0)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.schedule.step()
        return loss.detach()


def batches(images, labels, batch, drop_last):
    """One epoch, shuffled on the device."""
    order = torch.randperm(len(images), device=images.device)
    for index in order.split(batch):
        if drop_last and len(index) < batch:
            return
        yield channels_last(images.index_select(0, index)), labels.index_select(0, index)


def endless(images, labels, batch):
    while True:
        yield from batches(images, labels, batch, drop_last=True)


def train(args, mode=None):
    mode = mode or args.mode
    at = args.at
    images = torch.rand(args.images, 1, 32, 32, device=at.device) - 0.5
    labels = torch.randint(10, (args.images,), device=at.device)
    source = endless(images, labels, args.batch)
    steps = max(args.steps // BLOCKS, 1)  # of a block
    first, settle = 5, 3
    training = Training(args, make_net(args), mode, first + settle + BLOCKS * steps)

    def run(n):
        for _ in range(n):
            training.step(*next(source))

    first_step = at.seconds(lambda: run(1))
    warm_up = first_step + at.seconds(lambda: run(first - 1))
    at.reset_memory()
    run(settle)  # the cache of memory fills again
    seconds = [at.seconds(lambda: run(steps)) for _ in range(BLOCKS)]
    rates = [args.batch * steps / s for s in seconds]
    return {"images_per_s": statistics.median(rates), "min_images_per_s": min(rates), "max_images_per_s": max(rates),
            "ms_per_step": 1e3 * statistics.median(seconds) / steps, "first_step_s": first_step, "warm_up_s": warm_up,
            "batch": args.batch, "steps": BLOCKS * steps, "parameters": sum(p.numel() for p in training.net.parameters()),
            **at.memory()}


def read_idx(folder, name):
    for path, opener in ((Path(folder) / name, open), (Path(folder) / (name + ".gz"), gzip.open)):
        if path.exists():
            with opener(path, "rb") as file:
                data = file.read()
            dimensions = data[3]
            shape = [int.from_bytes(data[4 + 4 * i:8 + 4 * i], "big") for i in range(dimensions)]
            return torch.frombuffer(bytearray(data[4 + 4 * dimensions:]), dtype=torch.uint8).view(shape)
    raise FileNotFoundError(f"neither {name} nor {name}.gz is in {folder}")


def load(args):
    """Fashion-MNIST's training images, 28 -> 32 pixels a side with background, from -0.5 to 0.5, on the device."""
    images = read_idx(args.data, "train-images-idx3-ubyte")[:args.images].to(args.at.device)
    labels = read_idx(args.data, "train-labels-idx1-ubyte")[:args.images].to(args.at.device).long()
    return F.pad(images[:, None].float() / 255 - 0.5, (2, 2, 2, 2), value=-0.5), labels


def epochs(args, mode=None):
    mode = mode or args.mode
    at = args.at
    began = time.perf_counter()
    images, labels = load(args)
    at.synchronize()
    load_s = time.perf_counter() - began
    net = make_net(args)
    steps = -(-len(images) // args.batch)
    training = Training(args, net, mode, args.epochs * steps)

    def warm_up():  # the steps of a copy: the network that is trained has seen nothing. The last batch may be smaller
        throw_away = Training(args, copy.deepcopy(net), mode, 3)
        for size in (args.batch, args.batch, len(images) - (steps - 1) * args.batch):
            throw_away.step(*next(batches(images, labels, size, drop_last=False)))

    losses = []

    def whole():
        for epoch in range(args.epochs):
            total = torch.zeros((), device=at.device)
            for x1, c in batches(images, labels, args.batch, drop_last=False):
                total += training.step(x1, c) * len(x1)
            losses.append(total / len(images))

    warm_up_s = at.seconds(warm_up)
    at.reset_memory()
    seconds = at.seconds(whole)
    return {"seconds": seconds, "images_per_s": args.epochs * len(images) / seconds,
            "last_epoch_loss": losses[-1].item(), "epoch_losses": [loss.item() for loss in losses], "epochs": args.epochs,
            "images": len(images), "batch": args.batch, "steps": args.epochs * steps, "warm_up_s": warm_up_s,
            "load_s": load_s, **at.memory()}


def make_sampler(args, net, call, graphs):
    device, dtype = args.at.device, net.ci.weight.dtype

    def sample(n):
        out = torch.empty(n, 1, 32, 32, device=device)
        classes = torch.arange(n, device=device) % 10
        for first in range(0, n, args.sample_batch):
            x = channels_last(torch.randn(min(args.sample_batch, n - first), 1, 32, 32, device=device))
            c = classes[first:first + len(x)]
            for i in range(args.sample_steps):
                if graphs:
                    torch.compiler.cudagraph_mark_step_begin()
                t = torch.full((len(x),), i / args.sample_steps, device=device)
                x.add_(call(x.to(dtype), t, c), alpha=1 / args.sample_steps)
            out[first:first + len(x)] = x
        return out

    return sample


def sample(args, mode=None):
    """A dictionary for each number of images."""
    mode = mode or args.mode
    at = args.at
    net = make_net(args).eval()
    if args.precision == "bf16":
        # The time's sines and cosines are made in float32 and cast where the weights begin.
        net = net.to(torch.bfloat16)
        net.em.register_forward_pre_hook(lambda module, inputs: (inputs[0].to(torch.bfloat16),))
    run = make_sampler(args, net, in_mode(net, mode), mode == "compile-graphs")
    for n in args.n:
        with torch.inference_mode():
            warm_up = at.seconds(lambda: run(min(n, args.sample_batch)))
            run(min(n, args.sample_batch))
            if n % args.sample_batch and n > args.sample_batch:
                run(n % args.sample_batch)  # the last batch's shape
            at.reset_memory()
            once = at.seconds(lambda: run(n))
            times = [at.seconds(lambda: run(n)) for _ in range(3 if once > 1 else 10)]
        seconds = statistics.median(times)
        evaluations = -(-n // args.sample_batch) * args.sample_steps
        yield f" n={n}", {"seconds": seconds, "min_s": min(times), "max_s": max(times), "repetitions": len(times),
                          "images_per_s": n / seconds, "evaluations_per_s": evaluations / seconds,
                          "ms_per_evaluation": 1e3 * seconds / evaluations, "n": n, "batch": min(n, args.sample_batch),
                          "steps": args.sample_steps, "warm_up_s": warm_up, **at.memory()}


class OutOfTime(Exception):
    pass


@contextlib.contextmanager
def at_most(seconds):
    """OutOfTime in what takes longer, a compilation too."""
    def stop(*_):
        raise OutOfTime(f"stopped after {seconds:.0f} s: the budget is spent")

    previous = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001), 10)  # again where a compiler swallows it
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


class Report:
    def __init__(self, args):
        self.file, self.failures = args.json, 0
        self.about = {"torch": torch.__version__, "card": args.at.card(), "cudnn": torch.backends.cudnn.version(),
                      "tf32": args.tf32, "cudnn_benchmark": args.cudnn_benchmark}

    def write(self, row):
        text = json.dumps({"who": "pytorch", **{k: round(v, 6) if isinstance(v, float) else v for k, v in row.items()}})
        print(text, flush=True)
        if self.file:
            with open(self.file, "a") as file:
                file.write(text + "\n")

    def measure(self, what, args, model, mode, limit=None):
        """Rows of one measurement, or one that says what went wrong."""
        local = argparse.Namespace(**{**vars(args), "model": model})
        name = f"{what.__name__} {model} {mode} {args.precision}"
        say(f"{name} …")
        began = time.perf_counter()
        about = {"command": what.__name__, "model": model, "mode": mode, "precision": args.precision, **self.about}
        try:
            with at_most(limit) if limit is not None else contextlib.nullcontext():
                rows = what(local, mode)
                for suffix, row in [("", rows)] if isinstance(rows, dict) else rows:
                    self.write({"name": name + suffix, **row, **about, "since_start_s": time.perf_counter() - began})
        except Exception as error:
            self.failures += 1
            traceback.print_exc()
            self.write({"name": name, "error": f"{type(error).__name__}: {error}"[:2000], **about})
        say(f"{name}: {time.perf_counter() - began:.1f} s in all")
        with contextlib.suppress(Exception):  # a broken device would say so again
            if mode != "eager":
                torch._dynamo.reset()  # what was compiled, and its memory
            gc.collect()
            local.at.reset_memory()


# In the order of their worth, and the least seconds that each is begun with.
SEQUENCE = [(train, "paper", "eager", 15), (train, "small", "eager", 10), (sample, "paper", "eager", 15),
            (train, "paper", "compile", 45), (train, "small", "compile", 30), (sample, "paper", "compile", 45),
            (train, "small", "compile-graphs", 30), (train, "paper", "compile-graphs", 45), (epochs, "paper", "eager", 30)]


def run_all(args, report):
    began = time.perf_counter()
    for what, model, mode, least in SEQUENCE:
        left = args.budget - (time.perf_counter() - began)
        model = args.model or model
        if left < least:
            name = f"{what.__name__} {model} {mode} {args.precision}"
            report.write({"name": name, "skipped": f"{left:.0f} s of the budget are left"})
            continue
        report.measure(what, args, model, mode, limit=left)
    say(f"all: {time.perf_counter() - began:.1f} s")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["train", "epochs", "sample", "all"])
    parser.add_argument("--model", choices=MODELS, help="paper; for all: instead of each model")
    parser.add_argument("--mode", choices=["eager", "compile", "compile-graphs"], default="eager")
    parser.add_argument("--precision", choices=["bf16", "fp32"], default="bf16")
    parser.add_argument("--tf32", action="store_true", help="TF32 in products and convolutions of float32")
    parser.add_argument("--no-cudnn-benchmark", dest="cudnn_benchmark", action="store_false")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batch", type=int, help="512; of sample: 1000")
    parser.add_argument("--steps", type=int, help="of train: 100; of sample: 20")
    parser.add_argument("--images", type=int, default=60000, help="of the data")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--data", default=PROJECT / ".gpu" / "fashion-mnist", help="folder of Fashion-MNIST's IDX files")
    parser.add_argument("--n", type=int, nargs="+", default=[10000, 16, 1], help="numbers of images to sample")
    parser.add_argument("--budget", type=float, default=480, help="seconds for all")
    parser.add_argument("--json", help="file to append the lines to")
    args = parser.parse_args()
    args.at = Device(args.device)
    # The same options mean the sampler's where only it runs; `all` gives them to the training.
    alone = args.command == "sample"
    args.sample_batch = args.batch if alone and args.batch else 1000
    args.sample_steps = args.steps if alone and args.steps else 20
    args.batch, args.steps = args.batch or 512, args.steps or 100
    set_precision(args)
    report = Report(args)
    say(f"torch {torch.__version__}, {args.at.card()}, {os.cpu_count()} cores")
    if args.command == "all":
        run_all(args, report)
    else:
        what = {"train": train, "epochs": epochs, "sample": sample}[args.command]
        report.measure(what, args, args.model or "paper", args.mode)
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
