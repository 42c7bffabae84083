"""Makes the files beside it, as Python's torch and safetensors write them:

    pip install torch numpy safetensors
    python make.py

Tensor i of a state dict holds i, i + 1, i + 2, ...
"""
from argparse import Namespace
from collections import Counter, OrderedDict
from datetime import datetime
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

here = Path(__file__).parent


def counting(shape, begin=0, dtype=torch.float32):
    return torch.arange(begin, begin + torch.Size(shape).numel()).reshape(shape).to(dtype)


network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 3))
with torch.no_grad():
    for i, tensor in enumerate(network.state_dict().values()):
        tensor.copy_(counting(tensor.shape, i))
weights = network.state_dict()
torch.save(weights, here / "state_dict.pt")
torch.save({"epoch": 3, "lr": 1e-3, "history": [0.5, 0.25], "model": weights}, here / "training.pt")
save_file(weights, here / "state_dict.safetensors", {"note": 'a "größer" \\ one'})

base = counting([2, 3])
torch.save({
    "transposed": base.t(),
    "tail": base.flatten()[2:],
    "channels_last": counting([2, 3, 4, 5]).to(memory_format=torch.channels_last),
    "parameter": nn.Parameter(counting([2])),
    "empty": counting([0, 3]),
    "scalar": counting([], 7),
    "bfloat16": counting([3], 0, torch.bfloat16),
    "complex128": counting([2], 0, torch.complex128),
}, here / "views.pt")
torch.save({"a": counting([2], 0, torch.uint16)}, here / "uint16.pt")

# Plain values beside the weights, and nested.
plain = {"big": 2**40, "bigger": 2**70, "negative": -(2**40), "none": None, "yes": True, "lr": 1e-3, "name": "größer",
         "bytes": b"\x00\xff", "list": [1, [2.5, "x"]], "tuple": (1, 2, 3, 4), "set": {1, 2}, "frozen": frozenset([3]),
         "size": torch.Size([2, 3]), "dtype": torch.float16, "device": torch.device("cuda:1"), "numpy": np.float64(0.5),
         "array": np.arange(3), "path": Path("runs"), "empty": {}}
loop = []
loop.append(loop)
everything = {**plain, "loop": loop, "weight": counting([2, 3]), "step": torch.tensor(4)}
for protocol in range(2, 6):
    torch.save(everything, here / f"plain_{protocol}.pt", pickle_protocol=protocol)
torch.save({"args": Namespace(lr=1e-3), "when": datetime(2024, 1, 2), "counts": Counter("aab"), 0: 1, "0": 2,
            "weight": counting([2])}, here / "plain_objects.pt")
optimizer = torch.optim.Adam(network.parameters())
network(torch.ones(1, 1, 4, 4)).sum().backward()
optimizer.step()
torch.save({"state": {"model": {"w": counting([2])}, 7: {"w": counting([2], 7)}}, "optimizer": optimizer.state_dict()},
           here / "nested.pt")

# What one module can register: parameters, views, shared and expanded memory, conjugates.
shared = counting([2, 3])
torch.save(OrderedDict({
    "a": nn.Parameter(shared), "a_again": nn.Parameter(shared), "row": shared[1], "transposed": shared.t(),
    "expanded": counting([1, 3]).expand(4, 3), "window": counting([5]).unfold(0, 3, 1),
    "conj": torch.complex(counting([2]), counting([2], 1)).conj(), "neg": torch.complex(counting([2]), counting([2], 1)).conj().imag,
    "three_none": counting([3, 0]), "none": counting([0]), "none_three": counting([0, 3]), "scalar": counting([], 5),
    "large_view": torch.zeros(1000)[500:502]}), here / "shared.pt")
tensor = counting([2])
tensor.note = "an attribute of its own"
torch.save({"noted": tensor}, here / "attribute.pt")

dtypes = ["float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "uint16", "uint32",
          "uint64", "complex64", "complex128", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"]
torch.save({name: counting([2, 3], 0, getattr(torch, name)) for name in dtypes}
           | {"bool": torch.tensor([True, False, True]), "float8_e8m0fnu": torch.tensor([1.0, 2, 4]).to(torch.float8_e8m0fnu)},
           here / "dtypes.pt")

# What is refused by name.
refused = here / "refused"
refused.mkdir(exist_ok=True)
torch.save(weights, refused / "old_format.pt", _use_new_zipfile_serialization=False)
torch.save(weights, refused / "protocol_0.pt", pickle_protocol=0)
torch.save(nn.Linear(2, 3), refused / "module.pt")
torch.jit.script(nn.Linear(2, 3)).save(refused / "script.pt")
torch.save(counting([2]), refused / "tensor.pt")
torch.save([counting([2])], refused / "list.pt")
torch.save({"w": counting([2, 2]).to_sparse()}, refused / "sparse.pt")
torch.save({"w": torch.quantize_per_tensor(counting([2]), 0.5, 0, torch.qint8)}, refused / "quantised.pt")
torch.save({"w": torch.empty(2, device="meta")}, refused / "meta.pt")
torch.save({(1, 2): counting([2])}, refused / "key.pt")
torch.save({"w": [counting([2])]}, refused / "in_list.pt")
torch.save({"epoch": 3}, refused / "no_tensors.pt")
beside = {"weight": counting([2])}
torch.save({"network": nn.Linear(2, 3), **beside}, refused / "module_beside.pt")
torch.save({"parameters": nn.ParameterList([nn.Parameter(counting([2]))]), **beside}, refused / "parameters_beside.pt")
torch.save({"args": Namespace(lr=1e-3, mean=counting([2])), **beside}, refused / "namespace_beside.pt")
torch.save({"optimizer": torch.optim.SGD([nn.Parameter(counting([2]))]), **beside}, refused / "optimizer_beside.pt")
torch.save({0: counting([2]), "0": counting([2], 1)}, refused / "same_name.pt")

types = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
         "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8,
         "U64": torch.uint64, "U32": torch.uint32, "U16": torch.uint16, "U8": torch.uint8,
         "C64": torch.complex64, "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2}
tensors = {name: counting([2, 3], 0, dtype) for name, dtype in types.items()}
tensors["BOOL"] = torch.tensor([True, False, True])
tensors["F8_E8M0"] = torch.ones(3).to(torch.float8_e8m0fnu)
tensors["scalar"] = counting([], 7)
tensors["empty"] = counting([0, 3])
save_file(tensors, here / "types.safetensors")
