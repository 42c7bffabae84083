"""examples/fashion_mnist/unet.hpp in Python, with short names for its parts; fashion_mnist_export
translates them."""
import math

import torch
import torch.nn.functional as F
from torch import nn


def norm_act_conv(n_in, n_out, groups, bias=True):
    norm = nn.GroupNorm(groups, n_in) if groups else nn.BatchNorm2d(n_in)
    return nn.Sequential(norm, nn.SiLU(), nn.Conv2d(n_in, n_out, 3, padding=1, bias=bias))


class Block(nn.Module):
    def __init__(self, n_embedding, n_in, n_out, groups):
        super().__init__()
        self.ep = nn.Linear(n_embedding, 2 * n_out)  # scale and shift
        self.c1 = norm_act_conv(n_in, n_out, groups)
        self.c2 = norm_act_conv(n_out, n_out, groups)
        self.idc = nn.Identity() if n_in == n_out else nn.Conv2d(n_in, n_out, 1)

    def forward(self, x, embedding):
        scale, shift = self.ep(F.silu(embedding))[..., None, None].chunk(2, dim=1)
        return self.c2(self.c1(x) * (1 + scale) + shift) + self.idc(x)


class UNet(nn.Module):
    def __init__(self, widths=(32, 64, 128, 256), blocks=2, channels=1, classes=10, groups=0, time_scale=1):
        super().__init__()
        self.time_scale = time_scale
        embedding = 4 * widths[0]
        self.half = widths[0] // 2
        self.ci = nn.Conv2d(channels, widths[0], 3, padding=1)
        self.ce = nn.Embedding(classes, embedding)
        time_norm = [nn.Identity(), nn.Identity()] if groups else [nn.BatchNorm1d(widths[0]), nn.SiLU()]
        self.em = nn.Sequential(*time_norm, nn.Linear(widths[0], embedding),
                                nn.SiLU(), nn.Linear(embedding, embedding))
        self.d, self.dn, self.u, self.up = (nn.ModuleList() for _ in range(4))
        width, skips, last = widths[0], [widths[0]], len(widths) - 1
        for level, w in enumerate(widths):
            self.d.append(nn.ModuleList())
            for _ in range(blocks):
                self.d[-1].append(Block(embedding, width, w, groups))
                width = w
                skips.append(width)
            if level < last:
                self.dn.append(nn.Conv2d(w, w, 3, stride=2, padding=1))
                skips.append(w)
        self.mid = Block(embedding, width, width, groups)
        for level, w in enumerate(reversed(widths)):
            self.u.append(nn.ModuleList())
            for _ in range(blocks + 1):
                self.u[-1].append(Block(embedding, width + skips.pop(), w, groups))
                width = w
            if level < last:
                self.up.append(nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(w, w, 3, padding=1)))
        self.co = norm_act_conv(widths[0], channels, groups, bias=False)

    def forward(self, x, t, c):
        steps = torch.linspace(0, 1, self.half, device=t.device)
        angles = self.time_scale * t[:, None] * torch.exp(-math.log(10000) * steps)
        e = self.em(torch.cat([angles.sin(), angles.cos()], 1)) + self.ce(c)
        x = self.ci(x)
        skips = [x]
        for level, blocks in enumerate(self.d):
            for block in blocks:
                x = block(x, e)
                skips.append(x)
            if level < len(self.dn):
                x = self.dn[level](x)
                skips.append(x)
        x = self.mid(x, e)
        for level, blocks in enumerate(self.u):
            for block in blocks:
                x = block(torch.cat([x, skips.pop()], 1), e)
            if level < len(self.up):
                x = self.up[level](x)
        return self.co(x)
