"""Weights to Python and back, through .safetensors and .pt files, and what the networks say on
either side:

    pip install torch numpy safetensors
    cmake --build build --target fashion_mnist_export exchange
    python tests/benchmark/exchange.py build examples/models/fashion-mnist-small small
    python tests/benchmark/exchange.py build runs/flow paper [another network's .py file with a class U]

Prints the largest differences between outputs, and exits with 1 where they are not equal to 1e-5
(absolute and relative).
"""
import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

SHAPES = {"paper": dict(widths=(32, 64, 128, 256), blocks=2),
          "small": dict(widths=(16, 32, 64, 128), blocks=1)}


def network(model, file):
    spec = importlib.util.spec_from_file_location("network", file or Path(__file__).with_name("unet.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    shape = SHAPES[model]
    return module.U(nfs=shape["widths"], nl=shape["blocks"]) if file else module.UNet(**shape)


def main(build, checkpoint, model, file=None):
    torch.manual_seed(0)
    folder = tempfile.TemporaryDirectory(prefix="exchange-")
    work = Path(folder.name)

    def run(program, *arguments):
        found = next(Path(build).rglob(program))
        subprocess.run([found, *map(str, arguments)], check=True, capture_output=True)

    def ours(folder):
        run("exchange", folder, work / "inputs.safetensors", work / "outputs.safetensors")
        return load_file(work / "outputs.safetensors")["y"]

    inputs = {"x": torch.randn(64, 1, 32, 32), "t": torch.rand(64), "classes": torch.arange(64) % 10}
    save_file(inputs, work / "inputs.safetensors")
    equal = True

    def compare(what, a, b):
        nonlocal equal
        equal = equal and torch.allclose(a, b, rtol=1e-5, atol=1e-5)
        print(f"{what}: largest difference {(a - b).abs().max():.1e}, outputs up to {a.abs().max():.1f}")

    @torch.no_grad()
    def theirs(net):
        return net.eval()(inputs["x"], inputs["t"], inputs["classes"])

    load = {".safetensors": load_file, ".pt": lambda path: torch.load(path, weights_only=True)}
    save = {".safetensors": save_file, ".pt": torch.save}
    y = ours(checkpoint)
    for suffix in load:
        run("fashion_mnist_export", "--checkpoint", checkpoint, "--out", work / f"ours{suffix}")
        net = network(model, file)
        net.load_state_dict(load[suffix](work / f"ours{suffix}"))  # strict: every name and shape
        compare(f"ours in Python, {suffix}", y, theirs(net))

    net = network(model, file)  # fresh weights, and BatchNorm statistics of some batches
    net.train()
    for _ in range(5):
        net(torch.randn(32, 1, 32, 32), torch.rand(32), torch.randint(10, (32,)))
    for suffix in save:
        save[suffix](net.state_dict(), work / f"theirs{suffix}")
        here = work / f"from{suffix[1:]}"
        run("fashion_mnist_export", "--weights", work / f"theirs{suffix}", "--model", model, "--out", here)
        compare(f"Python's here, {suffix}", ours(here), theirs(net))
        # And once around: the file that we write of it holds the same bits.
        run("fashion_mnist_export", "--checkpoint", here, "--out", work / f"again{suffix}")
        again = load[suffix](work / f"again{suffix}")
        assert again.keys() == net.state_dict().keys()
        assert all(torch.equal(again[k], v) for k, v in net.state_dict().items())
    sys.exit(not equal)


main(*sys.argv[1:])
