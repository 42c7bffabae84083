"""Makes the files beside it, as Python's torch and safetensors write them:

    pip install torch numpy safetensors
    python make.py

Tensor i of a state dict holds i, i + 1, i + 2, ...
"""
from pathlib import Path

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
