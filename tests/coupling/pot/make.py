#!/usr/bin/env python3
"""Writes plans.safetensors: costs and plans of POT 0.9.7 and scipy, in float64.

    pip install numpy scipy pot safetensors && tests/coupling/pot/make.py

x_0, x_1 [24, 3]; cost, the squared distances; least, the least mean cost of an assignment; plan/R, the entropic
plan of regularisation R; unbalanced/R/W, with weight W of the marginals.
"""
import pathlib

import numpy as np
import ot
import safetensors.numpy
from scipy.optimize import linear_sum_assignment

random = np.random.default_rng(7)
x_0, x_1 = random.standard_normal((24, 3)), 2 * random.random((24, 3)) + 1
cost = ot.dist(x_0, x_1)
weights = ot.unif(24)
rows, columns = linear_sum_assignment(cost)
tensors = {"x_0": x_0, "x_1": x_1, "cost": cost, "least": np.array([cost[rows, columns].mean()])}
assert abs(ot.emd2(weights, weights, cost) - tensors["least"][0]) < 1e-12
for reg in (0.1, 0.5, 4.5):
    tensors[f"plan/{reg}"] = ot.sinkhorn(weights, weights, cost, reg, method="sinkhorn_log", numItermax=100000,
                                         stopThr=1e-14)
for reg, weight in ((0.5, 1.0), (2.0, 10.0)):
    tensors[f"unbalanced/{reg}/{weight}"] = ot.unbalanced.sinkhorn_unbalanced(
        weights, weights, cost, reg, weight, numItermax=100000, stopThr=1e-14)
for pairs in (1, 6, 12, 23, 24):
    tensors[f"partial/{pairs}"] = np.ascontiguousarray(
        ot.partial.partial_wasserstein(weights, weights, cost, m=pairs / 24))
safetensors.numpy.save_file(tensors, pathlib.Path(__file__).with_name("plans.safetensors"))
