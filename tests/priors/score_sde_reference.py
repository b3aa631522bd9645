"""The networks of score_sde as its paper and module numbers describe them, for tests.

A second implementation, of other operations than the package's: resampling by nearest neighbours
or by explicit sums of shifted images, attention by explicit sums.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class NIN(nn.Module):
    """A dense layer over channels, (in, out)."""

    def __init__(self, into: int, out: int):
        super().__init__()
        self.W = nn.Parameter(torch.zeros(into, out))
        self.b = nn.Parameter(torch.zeros(out))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("bihw,io->bohw", x, self.W) + self.b[:, None, None]


class Frequencies(nn.Module):
    def __init__(self, count: int):
        super().__init__()
        self.W = nn.Parameter(torch.randn(count) * 16, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        angle = x[:, None] * self.W[None] * 2 * math.pi
        return torch.cat([angle.sin(), angle.cos()], -1)


def group_norm(width: int) -> nn.GroupNorm:
    return nn.GroupNorm(min(width // 4, 32), width, eps=1e-6)


def shifted(x: Tensor, down: int, right: int) -> Tensor:
    """x moved, zeros coming in."""
    padded = F.pad(x, (4, 4, 4, 4))
    height, width = x.shape[-2:]
    return padded[..., 4 - down : 4 - down + height, 4 - right : 4 - right + width]


def halve(x: Tensor, fir: bool) -> Tensor:
    if not fir:
        return F.avg_pool2d(x, 2)
    taps = {-1: 1 / 8, 0: 3 / 8, 1: 3 / 8, 2: 1 / 8}
    smooth = sum(a * b * shifted(x, -i, -j) for i, a in taps.items() for j, b in taps.items())
    return smooth[..., ::2, ::2]


def double(x: Tensor, fir: bool) -> Tensor:
    if not fir:
        return x.repeat_interleave(2, -1).repeat_interleave(2, -2)
    rows, channels, height, width = x.shape
    sparse = x.new_zeros(rows, channels, 2 * height, 2 * width)
    sparse[..., ::2, ::2] = x
    # An output at 2k takes 3/4 of sample k and 1/4 of k - 1, one at 2k + 1 of k and k + 1.
    taps = {0: 3 / 4, 1: 3 / 4, 2: 1 / 4, -1: 1 / 4}
    return sum(a * b * shifted(sparse, i, j) for i, a in taps.items() for j, b in taps.items())


class Residual(nn.Module):
    def __init__(self, into: int, out: int, embedding: int, change: str = "", fir: bool = True):
        super().__init__()
        self.change, self.fir = change, fir
        self.GroupNorm_0 = group_norm(into)
        self.Conv_0 = nn.Conv2d(into, out, 3, padding=1)
        self.Dense_0 = nn.Linear(embedding, out)
        self.GroupNorm_1 = group_norm(out)
        self.Conv_1 = nn.Conv2d(out, out, 3, padding=1)
        if into != out or change:
            self.Conv_2 = nn.Conv2d(into, out, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = F.silu(self.GroupNorm_0(x))
        if self.change:
            resample = halve if self.change == "down" else double
            h, x = resample(h, self.fir), resample(x, self.fir)
        h = self.Conv_0(h) + self.Dense_0(F.silu(embedding))[:, :, None, None]
        h = self.Conv_1(F.silu(self.GroupNorm_1(h)))
        x = self.Conv_2(x) if hasattr(self, "Conv_2") else x
        return (x + h) / math.sqrt(2)


class Attention(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.GroupNorm_0 = group_norm(width)
        self.NIN_0, self.NIN_1, self.NIN_2, self.NIN_3 = (NIN(width, width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        h = self.GroupNorm_0(x)
        q, k, v = (layer(h).flatten(2) for layer in (self.NIN_0, self.NIN_1, self.NIN_2))
        share = (torch.einsum("bcq,bck->bqk", q, k) / math.sqrt(x.shape[1])).softmax(-1)
        mixed = torch.einsum("bqk,bck->bcq", share, v).reshape(x.shape)
        return (x + self.NIN_3(mixed)) / math.sqrt(2)


class Pyramid(nn.Module):
    """Smooths and halves the image, then convolves."""

    def __init__(self, into: int, out: int):
        super().__init__()
        self.Conv2d_0 = nn.Conv2d(into, out, 3)

    def forward(self, x: Tensor) -> Tensor:
        # On the plane filled with zeros, so that smoothing reaches beyond the edge.
        padded = F.pad(x, (6, 6, 6, 6))
        taps = {-1: 1 / 8, 0: 3 / 8, 1: 3 / 8, 2: 1 / 8}
        smooth = sum(
            a * b * shifted(padded, -i, -j) for i, a in taps.items() for j, b in taps.items()
        )
        convolved = F.conv2d(smooth, self.Conv2d_0.weight, self.Conv2d_0.bias)
        height, width = x.shape[-2:]
        return convolved[..., 5 : 5 + height : 2, 5 : 5 + width : 2]


class ScoreSDE(nn.Module):
    """The numbered modules, called in order."""

    def __init__(self, channels, base, mult, blocks, attention, fourier, centred):
        super().__init__()
        self.base, self.mult, self.blocks = base, mult, blocks
        self.attention, self.fourier, self.centred = attention, fourier, centred
        emb, parts = 4 * base, []
        if fourier:
            parts.append(Frequencies(base))
        parts += [nn.Linear(2 * base if fourier else base, emb), nn.Linear(emb, emb)]
        parts.append(nn.Conv2d(channels, base, 3, padding=1))
        widths, here, aux = [base], base, channels
        for level, m in enumerate(mult):
            for _ in range(blocks):
                parts.append(Residual(here, base * m, emb))
                here = base * m
                if level in attention:
                    parts.append(Attention(here))
                widths.append(here)
            if level < len(mult) - 1:
                parts.append(Residual(here, here, emb, "down", fourier))
                if fourier:
                    parts.append(Pyramid(aux, here))
                    aux = here
                widths.append(here)
        parts += [Residual(here, here, emb), Attention(here), Residual(here, here, emb)]
        for level in reversed(range(len(mult))):
            for _ in range(blocks + 1):
                parts.append(Residual(here + widths.pop(), base * mult[level], emb))
                here = base * mult[level]
            if level in attention:
                parts.append(Attention(here))
            if level:
                parts.append(Residual(here, here, emb, "up", fourier))
        parts += [group_norm(here), nn.Conv2d(here, channels, 3, padding=1)]
        self.all_modules = nn.ModuleList(parts)

    def embed(self, time: Tensor) -> Tensor:
        if self.fourier:
            return next(self.parts)(time.log())
        half = self.base // 2
        rate = torch.exp(torch.arange(half) * -(math.log(10000) / (half - 1)))
        angle = time[:, None] * rate[None]
        return torch.cat([angle.sin(), angle.cos()], 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """The score network's output: divided by sigma for VE, the noise for VP."""
        self.parts = iter(self.all_modules)
        embedding = self.embed(time)
        embedding = next(self.parts)(embedding)
        embedding = next(self.parts)(F.silu(embedding))
        x = x if self.centred else 2 * x - 1
        aux, kept = x, [next(self.parts)(x)]
        for level in range(len(self.mult)):
            for _ in range(self.blocks):
                h = next(self.parts)(kept[-1], embedding)
                kept.append(next(self.parts)(h) if level in self.attention else h)
            if level < len(self.mult) - 1:
                h = next(self.parts)(kept[-1], embedding)
                if self.fourier:
                    h = aux = (next(self.parts)(aux) + h) / math.sqrt(2)
                kept.append(h)
        h = next(self.parts)(kept[-1], embedding)
        h = next(self.parts)(h)
        h = next(self.parts)(h, embedding)
        for level in reversed(range(len(self.mult))):
            for _ in range(self.blocks + 1):
                h = next(self.parts)(torch.cat([h, kept.pop()], 1), embedding)
            if level in self.attention:
                h = next(self.parts)(h)
            if level:
                h = next(self.parts)(h, embedding)
        h = F.silu(next(self.parts)(h))
        h = next(self.parts)(h)
        return h / time[:, None, None, None] if self.fourier else h
