#!/usr/bin/env python3
"""Speed of exact optimal transport of a batch by POT and scipy, costs included: optimal_transport.cpp's peers.

    pip install torch pot scipy && tests/benchmark/optimal_transport.py [threads]
"""
import statistics
import sys
import time

import ot
import torch
from scipy.optimize import linear_sum_assignment

torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
torch.manual_seed(0)


def by_pot(x_0, x_1):
    cost = torch.cdist(x_0, x_1) ** 2
    weights = ot.unif(len(x_0))
    return ot.emd(weights, weights, cost.numpy(), numItermax=10**7).argmax(1)


def by_scipy(x_0, x_1):
    return linear_sum_assignment((torch.cdist(x_0, x_1) ** 2).numpy())[1]


for n in (256, 1024, 4096):
    x_0, x_1 = torch.randn(n, 784), torch.rand(n, 784)
    for name, solve in (("POT", by_pot), ("scipy", by_scipy)):
        times = []
        for i in range(4):
            began = time.perf_counter()
            columns = solve(x_0, x_1)
            times.append((time.perf_counter() - began) * 1e3)
        cost = (x_0.double() - x_1.double()[torch.as_tensor(columns)]).square().sum(1).mean().item()
        print(f"{n}: {name} {statistics.median(times[1:]):.1f} ms, mean cost {cost:.6f}", flush=True)
