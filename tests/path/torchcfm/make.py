#!/usr/bin/env python3
"""Writes paths.safetensors: x_t and u_t of torchcfm 1.0.7 on its own test grid, in float64.

    pip install torch torchcfm==1.0.7 safetensors && tests/path/torchcfm/make.py

For shape k: k/x_0, k/x_1, k/t, k/epsilon; and for each method and sigma k/method/sigma/x_t and …/u_t. The
bridge has t in [0.01, 0.99], a sigma above 0 and …/lambda, too. What torchcfm adds to its denominators (1e-8)
is in it.
"""
import pathlib

import safetensors.torch
import torch
from torchcfm.conditional_flow_matching import (ConditionalFlowMatcher, SchrodingerBridgeConditionalFlowMatcher,
                                                TargetConditionalFlowMatcher,
                                                VariancePreservingConditionalFlowMatcher)

METHODS = {"icfm": ConditionalFlowMatcher, "target": TargetConditionalFlowMatcher,
           "vp": VariancePreservingConditionalFlowMatcher, "bridge": SchrodingerBridgeConditionalFlowMatcher}
torch.manual_seed(42)
tensors = {}
for k, shape in enumerate(([1], [2], [1, 2], [3, 4, 5])):
    x_0, x_1, epsilon = (torch.randn(4, *shape, dtype=torch.float64) for _ in range(3))
    t = torch.tensor([0.01, 0.37, 0.62, 0.99], dtype=torch.float64)
    tensors |= {f"{k}/x_0": x_0, f"{k}/x_1": x_1, f"{k}/t": t, f"{k}/epsilon": epsilon}
    for name, method in METHODS.items():
        for sigma in (0.0, 5e-4, 0.5, 1.5):
            if name == "bridge" and sigma < 0.5:
                continue
            matcher = method(sigma)
            x_t = matcher.sample_xt(x_0, x_1, t, epsilon)
            time = t.reshape(-1, *[1] * len(shape))
            tensors[f"{k}/{name}/{sigma}/x_t"] = x_t
            tensors[f"{k}/{name}/{sigma}/u_t"] = matcher.compute_conditional_flow(x_0, x_1, time, x_t)
            if name == "bridge":
                tensors[f"{k}/{name}/{sigma}/lambda"] = matcher.compute_lambda(t)
safetensors.torch.save_file({name: value.contiguous() for name, value in tensors.items()},
                            pathlib.Path(__file__).with_name("paths.safetensors"))
