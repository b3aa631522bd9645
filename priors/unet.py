"""A small convolutional U-Net on 2x2 blocks of pixels: the body of the embedded priors.

References:
    | FFDNet: Toward a Fast and Flexible Solution for CNN-based Denoising (Zhang et al., 2018)
    | https://arxiv.org/abs/1710.04026
    | Plug-and-Play Image Restoration with Deep Denoiser Prior (Zhang et al., 2021)
    | https://arxiv.org/abs/2008.13751
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FREQUENCIES = 16
EMBEDDING = 128


class Embedding(nn.Module):
    r"""Features of the noise level.

    :math:`c \mapsto \mathrm{MLP}(\cos(\pi 2^{k/4} c), \sin(\pi 2^{k/4} c))`, k = 0, ..., 15.
    (b,) -> (b, 128).
    """

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(2 * FREQUENCIES, EMBEDDING)
        self.out = nn.Linear(EMBEDDING, EMBEDDING)

    def forward(self, c_noise: Tensor) -> Tensor:
        """Embeds (b,) values of ln(sigma) / 4."""
        octave = torch.arange(FREQUENCIES, device=c_noise.device, dtype=c_noise.dtype) / 4
        phase = c_noise[:, None] * (math.pi * torch.exp2(octave))
        features = torch.cat([phase.cos(), phase.sin()], dim=1)
        return F.silu(self.out(F.silu(self.hidden(features))))


class Block(nn.Module):
    r"""A residual block whose hidden layer is shifted by the noise level.

    :math:`x + W_2 \, \mathrm{relu}(W_1 x + b(e))`. No normalisation. The additions are in place:
    beside the convolutions, memory traffic is what costs time on a CPU.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.shift = nn.Linear(EMBEDDING, channels)
        nn.init.kaiming_normal_(self.first.weight, nonlinearity="relu")
        nn.init.zeros_(self.second.weight)
        nn.init.normal_(self.shift.weight, std=0.02)
        nn.init.zeros_(self.shift.bias)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """(b, c, h, w), (b, 128) -> (b, c, h, w)."""
        hidden = self.first(x)
        hidden = hidden.add_(self.shift(embedding)[:, :, None, None].to(hidden.dtype)).relu_()
        out: Tensor = self.second(hidden)
        return out.add_(x)


class UNet(nn.Module):
    """Convolutions at 1/2, 1/4, 1/8, ... of the resolution, with skips that add.

    Arguments:
        channels: The channels of the image.
        widths: The channels of each level, finest (half resolution) first.
        blocks: The residual blocks of each level (on the way down, and again on the way up).
    """

    def __init__(self, channels: int, widths: Sequence[int], blocks: Sequence[int]) -> None:
        super().__init__()
        if len(widths) != len(blocks) or not widths:
            raise ValueError(
                f"widths and blocks must be as long as there are levels: got {len(widths)} "
                f"widths and {len(blocks)} numbers of blocks. Give one of each per level."
            )
        self.multiple = 2 ** len(widths)
        self.embedding = Embedding()
        self.head = nn.Conv2d(4 * channels, widths[0], 3, padding=1)
        self.down = nn.ModuleList(_level(w, n) for w, n in zip(widths, blocks, strict=True))
        self.up = nn.ModuleList(
            _level(w, n) for w, n in zip(widths[:-1], blocks[:-1], strict=True)
        )
        pairs = list(itertools.pairwise(widths))
        self.halving = nn.ModuleList(nn.Conv2d(a, b, 2, 2, bias=False) for a, b in pairs)
        self.doubling = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, 2, bias=False) for a, b in pairs)
        self.tail = nn.Conv2d(widths[0], 4 * channels, 3, padding=1)
        for parameter in self.tail.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
        """(b, channels, h, w), (b,) -> (b, channels, h, w); h and w divisible by `multiple`."""
        embedding = self.embedding(c_noise)
        x = self.head(F.pixel_unshuffle(x, 2))
        skips = []
        for level, halve in zip(self.down, [*self.halving, None], strict=True):
            x = _run(level, x, embedding)
            if halve is not None:
                skips.append(x)
                x = halve(x)
        for level, double in zip(reversed(self.up), reversed(self.doubling), strict=True):
            x = _run(level, double(x) + skips.pop(), embedding)
        return F.pixel_shuffle(self.tail(x), 2)


def _level(width: int, blocks: int) -> nn.ModuleList:
    return nn.ModuleList(Block(width) for _ in range(blocks))


def _run(level: nn.Module, x: Tensor, embedding: Tensor) -> Tensor:
    for block in level.children():
        x = block(x, embedding)
    return x
