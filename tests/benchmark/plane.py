#!/usr/bin/env python3
"""torchcfm's side of plane.cpp: the same protocol, points, network and measures.

    pip install torch torchcfm==1.0.7 pot scipy && tests/benchmark/plane.py [OUT.csv] [first seed] [seeds]

A row a method, pair and seed; rows that the file holds are not made again.
"""
import pathlib
import sys

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torchcfm.conditional_flow_matching import (ConditionalFlowMatcher, ExactOptimalTransportConditionalFlowMatcher,
                                                TargetConditionalFlowMatcher)

TRAIN, TEST, BATCH, EPOCHS, SIGMA = 10000, 1000, 512, 1000, 0.1
path = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "plane-torchcfm.csv")
first, seeds = int((sys.argv + ["", "", "42"])[2] or 42), int((sys.argv + ["", "", "", "5"])[3] or 5)
torch.set_num_threads(1)


def moons(n, noise):
    angle = torch.linspace(0, np.pi, n // 2)
    x = torch.cat([torch.stack([angle.cos(), angle.sin()], 1), torch.stack([1 - angle.cos(), 0.5 - angle.sin()], 1)])
    return x + noise * torch.randn(n, 2)


def eight_gaussians(n):
    angle = torch.randint(8, (n,)) * (np.pi / 4)
    return 3 * (4 * torch.stack([angle.cos(), angle.sin()], 1) + 0.5 * torch.randn(n, 2))


def s_curve(n):
    t = 3 * np.pi * (torch.rand(n) - 0.5)
    return 1.5 * (torch.stack([t.sin(), t.sign() * (t.cos() - 1)], 1) + 0.05 * torch.randn(n, 2))


def normal(n):
    return torch.randn(n, 2)


def wide_moons(n):
    x = moons(n, 0.1)
    return (x - x.mean()) / x.std() * 7


PAIRS = {"N-8gaussians": (normal, eight_gaussians), "moons-8gaussians": (wide_moons, eight_gaussians),
         "N-moons": (normal, lambda n: 2 * moons(n, 0.05) - 1), "N-scurve": (normal, s_curve)}


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        linear, selu = torch.nn.Linear, torch.nn.SELU
        self.layers = torch.nn.Sequential(linear(3, 64), selu(), linear(64, 64), selu(), linear(64, 64), selu(), linear(64, 2))

    def forward(self, x, t):
        return self.layers(torch.cat([x, t[:, None]], 1))


def train(net, matcher, draw_0, x_1):
    """draw_0(index) gives the starts for the samples `index` of x_1."""
    optimizer = torch.optim.AdamW(net.parameters(), 1e-3, weight_decay=1e-5)
    for _ in range(EPOCHS):
        order = torch.randperm(len(x_1))
        for i in range(len(x_1) // BATCH):
            index = order[i * BATCH:(i + 1) * BATCH]
            t, x_t, u_t = matcher.sample_location_and_conditional_flow(draw_0(index), x_1[index])
            loss = (net(x_t, t) - u_t).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


@torch.no_grad()
def walk(net, x):
    points = [x]
    for i in range(100):
        points.append(points[-1] + net(points[-1], torch.full((len(x),), i / 100)) / 100)
    return torch.stack(points)


def squared_wasserstein(x, y):
    cost = torch.cdist(x.double(), y.double()).square().numpy()
    return cost[linear_sum_assignment(cost)].mean()


if not path.exists():
    path.write_text("method,pair,seed,w2,energy\n")
for seed in range(first, first + seeds):
    for name, (source, data) in PAIRS.items():
        torch.manual_seed(seed)
        np.random.seed(seed)
        x_1, test_1, starts, test_0 = data(TRAIN), data(TEST), source(TRAIN), source(TEST)
        draw = (lambda index: torch.randn(len(index), 2)) if source is normal else (
            lambda index: starts[torch.randint(len(starts), (len(index),))])
        for method in ("I-CFM", "OT-CFM", "FM", "reflow"):
            key = f"{method},{name},{seed},"
            if f"\n{key}" in path.read_text() or (method == "FM" and source is not normal):
                continue
            torch.manual_seed(seed)
            net = Net()
            if method == "I-CFM":
                train(net, ConditionalFlowMatcher(SIGMA), draw, x_1)
            elif method == "OT-CFM":
                train(net, ExactOptimalTransportConditionalFlowMatcher(SIGMA), draw, x_1)
            elif method == "FM":
                train(net, TargetConditionalFlowMatcher(SIGMA), draw, x_1)
            else:
                teacher = Net()
                train(teacher, ConditionalFlowMatcher(SIGMA), draw, x_1)
                x_0 = source(TRAIN)
                train(net, ConditionalFlowMatcher(SIGMA), lambda index: x_0[index], walk(teacher, x_0)[-1])
            points = walk(net, test_0)
            energy = (points.diff(dim=0) * 100).square().sum(2).mean().item()
            least = squared_wasserstein(test_0, test_1)
            line = f"{key}{squared_wasserstein(points[-1], test_1) ** 0.5:.5f},{abs(energy - least) / least:.5f}"
            with path.open("a") as file:
                file.write(line + "\n")
            print(line, flush=True)
