"""The tasks of speed.cpp in Python, as its users write them: flow_matching and torchdiffeq for points, plain PyTorch
for the UNet.
    speed.py TASK … [SECONDS [THREADS [MODE]]]
MODE: eager; for the UNet also channels_last (with fused Adam), compile, and for sampling freeze (compiled with its
weights as constants). Prints the same JSON."""
import json
import os
import resource
import sys
import time

if len(sys.argv) > 1 and "freeze" in sys.argv:
    os.environ["TORCHINDUCTOR_FREEZING"] = "1"
import torch
from torch import nn


def middle(times, share):
    return sorted(times)[int(share * (len(times) - 1))]


def report(value, unit, times, evaluations=0):
    spread = (middle(times, 0.75) - middle(times, 0.25)) / middle(times, 0.5)
    print(json.dumps({"value": value, "unit": unit, "spread": spread, "evaluations": evaluations,
                      "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}), flush=True)


def repeat(seconds, f, warm_up=1):
    for _ in range(warm_up):
        f()
    times, began = [], time.perf_counter()
    while len(times) < 5 or time.perf_counter() - began < seconds:
        start = time.perf_counter()
        f()
        times.append(time.perf_counter() - start)
    return times


class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        widths = [3, width, width, width, width]
        layers = [layer for a, b in zip(widths, widths[1:]) for layer in (nn.Linear(a, b), nn.SiLU())]
        self.layers = nn.Sequential(*layers, nn.Linear(width, 2))

    def forward(self, x, t):
        return self.layers(torch.cat([x, t.reshape(-1, 1).expand(x.shape[0], 1)], 1))


def train_mlp(width, batch, seconds, mode):
    from flow_matching.path import CondOTProbPath
    net, path = Net(width), CondOTProbPath()
    run = torch.compile(net) if mode == "compile" else net
    optimizer = torch.optim.Adam(net.parameters(), 1e-3, fused=mode != "eager")
    data = torch.randn(100 * batch, 2)
    place = 0

    def step():
        nonlocal place
        x_1 = data[place:place + batch]
        place = (place + batch) % len(data)
        sample = path.sample(t=torch.rand(batch), x_0=torch.randn_like(x_1), x_1=x_1)
        loss = (run(sample.x_t, sample.t) - sample.dx_t).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    group = max(1, 50000 // batch)
    times = [t / group for t in repeat(seconds, lambda: [step() for _ in range(group)])]
    report(1 / middle(times, 0.5), "steps/s", times)


def sample_mlp(task, width, batch, seconds, mode):
    from flow_matching.solver import ODESolver
    from flow_matching.utils import ModelWrapper
    net = Net(width)
    run = torch.compile(net) if mode == "compile" else net
    evaluations = 0

    class Velocity(ModelWrapper):
        def forward(self, x, t, **_):
            nonlocal evaluations
            evaluations += 1
            return self.model(x, t)

    solver, x_0 = ODESolver(Velocity(run)), torch.randn(batch, 2)
    if task == "dopri5":
        options = dict(method="dopri5", step_size=None, atol=1e-5, rtol=1e-5)
    else:
        options = dict(method="euler", step_size=1 / (50 if batch == 1 else 100))
    times = repeat(seconds, lambda: solver.sample(x_init=x_0, **options))
    evaluations = 0
    solver.sample(x_init=x_0, **options)
    report(1e3 * middle(times, 0.5), "ms", times, evaluations)


def unet(name, mode):
    from unet import UNet
    net = UNet((16, 32, 64, 128), 1) if name == "small" else UNet()
    return net if mode == "eager" else net.to(memory_format=torch.channels_last)


def train_unet(name, batch, seconds, mode, half):
    net = unet(name, mode)
    run = torch.compile(net) if mode == "compile" else net
    optimizer = torch.optim.Adam(net.parameters(), 1e-3, fused=mode != "eager")
    x_1, labels = torch.randn(batch, 1, 32, 32), torch.randint(0, 10, (batch,))

    def step():
        t, x_0 = torch.rand(batch), torch.randn_like(x_1)
        x_t = x_0 + t.view(-1, 1, 1, 1) * (x_1 - x_0)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            prediction = run(x_t, t, labels)
        loss = nn.functional.mse_loss(prediction, x_1 - x_0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    times = repeat(seconds, step, warm_up=2)
    report(batch / middle(times, 0.5), "images/s", times)


@torch.inference_mode()
def sample_unet(name, batch, seconds, mode, half):
    net = unet(name, mode).eval()
    run = torch.compile(net) if mode in ("compile", "freeze") else net
    labels, start = torch.arange(batch) % 10, torch.randn(batch, 1, 32, 32)

    def solve():
        x = start
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            for i in range(10):
                x = x + run(x, torch.full((batch,), i / 10), labels) / 10
        return x

    times = repeat(seconds, solve, warm_up=2)
    report(1e3 * middle(times, 0.5), "ms", times, 10)


def first_sample():
    from flow_matching.solver import ODESolver
    print(ODESolver(Net(64)).sample(x_init=torch.randn(256, 2), method="euler", step_size=0.01)[:1])


def main():
    task, *words = sys.argv[1:]
    shape = words[:0 if task == "first_sample" else 2]
    seconds, threads, mode = (words[len(shape):] + ["3", "0", "eager"][len(words) - len(shape):])[:3]
    if int(threads):
        torch.set_num_threads(int(threads))
    torch.manual_seed(0)
    if task == "train_mlp":
        train_mlp(int(shape[0]), int(shape[1]), float(seconds), mode)
    elif task in ("euler", "dopri5"):
        sample_mlp(task, int(shape[0]), int(shape[1]), float(seconds), mode)
    elif task.startswith("train_unet"):
        train_unet(shape[0], int(shape[1]), float(seconds), mode, task.endswith("bfloat16"))
    elif task.startswith("sample_unet"):
        sample_unet(shape[0], int(shape[1]), float(seconds), mode, task.endswith("bfloat16"))
    elif task == "first_sample":
        first_sample()
    else:
        sys.exit(f"there is no task '{task}'")


if __name__ == "__main__":
    main()
