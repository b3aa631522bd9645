"""The magnitude-preserving U-Net of EDM2, for inference, written from the paper.

Names of weights are those of published state dicts. It was not compared with published weights.

References:
    | Analyzing and Improving the Training Dynamics of Diffusion Models (Karras et al., 2024)
    | https://arxiv.org/abs/2312.02696 (configuration G; equations of appendix B)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["EDM2Layout", "EDM2Network"]


@dataclass(frozen=True)
class EDM2Layout:
    """The arrangement of an EDM2 U-Net.

    Arguments:
        channels: Of the image or latent.
        side: The resolution in the names of its levels.
        widths: The channels of each level, fine to coarse.
        blocks: The residual blocks of a level.
        attention: Levels with attention, 0 the finest.
        noise, embedding: The widths of the Fourier features and of the embedding.
        classes: The number of classes, 0 for none.
    """

    channels: int
    side: int
    widths: tuple[int, ...]
    blocks: int
    attention: tuple[int, ...]
    noise: int
    embedding: int
    classes: int


def normalise(x: Tensor, dims: Sequence[int]) -> Tensor:
    """Divides by the root mean square over some axes."""
    kind = torch.promote_types(x.dtype, torch.float32)
    norm: Tensor = torch.linalg.vector_norm(x, dim=tuple(dims), keepdim=True, dtype=kind)
    count = x.numel() / norm.numel()
    return x / (1e-4 + norm / math.sqrt(count)).to(x.dtype)


def silu(x: Tensor) -> Tensor:
    """SiLU of unit variance for a normal argument."""
    return F.silu(x) / 0.596


def blend(a: Tensor, b: Tensor, share: float) -> Tensor:
    """a (1 - share) + b share, of unit variance for independent a and b."""
    return torch.lerp(a, b, share) / math.hypot(1 - share, share)


def join(a: Tensor, b: Tensor, share: float) -> Tensor:
    """Channels of a and of b, weighted so that each contributes its share of the magnitude."""
    total = math.sqrt((a.shape[1] + b.shape[1]) / ((1 - share) ** 2 + share**2))
    left = total / math.sqrt(a.shape[1]) * (1 - share)
    right = total / math.sqrt(b.shape[1]) * share
    return torch.cat([left * a, right * b], dim=1)


class Layer(nn.Module):
    """A convolution, or a dense layer, of normalised weights and without bias."""

    def __init__(self, into: int, out: int, *kernel: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out, into, *kernel))

    def forward(self, x: Tensor, gain: Tensor | float = 1.0) -> Tensor:
        w = normalise(self.weight, range(1, self.weight.ndim))
        w = (w * (gain / math.sqrt(w[0].numel()))).to(x.dtype)
        if w.ndim == 2:
            return x @ w.T
        return F.conv2d(x, w, padding=w.shape[-1] // 2)


class Fourier(nn.Module):
    """Cosines of random frequencies and phases."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.register_buffer("freqs", torch.empty(count))
        self.register_buffer("phases", torch.empty(count))

    def forward(self, x: Tensor) -> Tensor:
        angles = x.float().outer(self.get_buffer("freqs")) + self.get_buffer("phases")
        return (angles.cos() * math.sqrt(2)).to(x.dtype)


class Block(nn.Module):
    """A residual block, which may first halve or double the resolution."""

    def __init__(
        self,
        into: int,
        out: int,
        embedding: int,
        encoder: bool,
        attention: bool = False,
        factor: float = 1.0,
    ) -> None:
        super().__init__()
        self.encoder, self.factor, self.heads = encoder, factor, out // 64 if attention else 0
        self.emb_gain = nn.Parameter(torch.empty(()))
        self.conv_res0 = Layer(out if encoder else into, out, 3, 3)
        self.emb_linear = Layer(embedding, out)
        self.conv_res1 = Layer(out, out, 3, 3)
        self.conv_skip = Layer(into, out, 1, 1) if into != out else None
        self.attn_qkv = Layer(out, 3 * out, 1, 1) if attention else None
        self.attn_proj = Layer(out, out, 1, 1) if attention else None

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        if self.factor < 1:
            x = F.avg_pool2d(x, 2)
        elif self.factor > 1:
            x = F.interpolate(x, scale_factor=2, mode="nearest")
        if self.encoder:
            x = x if self.conv_skip is None else self.conv_skip(x)
            x = normalise(x, [1])
        y = self.conv_res0(silu(x))
        scale = self.emb_linear(embedding, self.emb_gain) + 1
        y = self.conv_res1(silu(y * scale[:, :, None, None]))
        if not self.encoder and self.conv_skip is not None:
            x = self.conv_skip(x)
        x = blend(x, y, 0.3)
        if self.attn_qkv is not None and self.attn_proj is not None:
            x = blend(x, self.attn_proj(self._attend(self.attn_qkv(x))), 0.3)
        return x.clamp(-256, 256)

    def _attend(self, qkv: Tensor) -> Tensor:
        rows, channels, *size = qkv.shape
        split = qkv.reshape(rows, self.heads, channels // (3 * self.heads), 3, -1)
        q, k, v = normalise(split, [2]).transpose(2, 4).unbind(3)
        return F.scaled_dot_product_attention(q, k, v).mT.reshape(rows, channels // 3, *size)


class EDM2Network(nn.Module):
    """F of EDM2: images (b, channels, h, w), c_noise (b,), and classes (b,) if it has any."""

    def __init__(self, layout: EDM2Layout) -> None:
        super().__init__()
        self.layout = layout
        self.out_gain = nn.Parameter(torch.empty(()))
        self.emb_fourier = Fourier(layout.noise)
        self.emb_noise = Layer(layout.noise, layout.embedding)
        self.emb_label = Layer(layout.classes, layout.embedding) if layout.classes else None
        self.enc, self.dec = nn.ModuleDict(), nn.ModuleDict()
        skips: list[int] = []
        self._add_encoder(skips)
        self._add_decoder(skips)
        self.out_conv = Layer(layout.widths[0], layout.channels, 3, 3)

    def _name(self, level: int, part: str) -> str:
        side = self.layout.side >> level
        return f"{side}x{side}_{part}"

    def _block(self, into: int, out: int, level: int, encoder: bool) -> Block:
        return Block(into, out, self.layout.embedding, encoder, level in self.layout.attention)

    def _add_encoder(self, skips: list[int]) -> None:
        layout = self.layout
        here = layout.widths[0]
        for level, width in enumerate(layout.widths):
            if level == 0:  # one more channel of ones stands in for biases
                self.enc[self._name(0, "conv")] = Layer(layout.channels + 1, here, 3, 3)
            else:
                down = Block(here, here, layout.embedding, True, factor=0.5)
                self.enc[self._name(level, "down")] = down
            skips.append(here)
            for index in range(layout.blocks):
                self.enc[self._name(level, f"block{index}")] = self._block(
                    here, width, level, True
                )
                here = width
                skips.append(here)

    def _add_decoder(self, skips: list[int]) -> None:
        layout = self.layout
        last = len(layout.widths) - 1
        here = layout.widths[-1]
        for level in range(last, -1, -1):
            if level == last:
                first = Block(here, here, layout.embedding, False, attention=True)
                self.dec[self._name(level, "in0")] = first
                self.dec[self._name(level, "in1")] = Block(here, here, layout.embedding, False)
            else:
                up = Block(here, here, layout.embedding, False, factor=2.0)
                self.dec[self._name(level, "up")] = up
            for index in range(layout.blocks + 1):
                width = layout.widths[level]
                block = self._block(here + skips.pop(), width, level, False)
                self.dec[self._name(level, f"block{index}")] = block
                here = width

    def forward(self, x: Tensor, time: Tensor, label: Tensor | None = None) -> Tensor:
        """F(x, c_noise); a label one beyond the last class stands for none."""
        embedding = self.emb_noise(self.emb_fourier(time))
        if self.emb_label is not None and label is not None:
            count = self.layout.classes
            hot = F.one_hot(label, count + 1)[:, :count].to(x.dtype)
            embedding = blend(embedding, self.emb_label(hot * math.sqrt(count)), 0.5)
        embedding = silu(embedding)
        x = torch.cat([x, torch.ones_like(x[:, :1])], dim=1)
        kept = []
        for name, block in self.enc.items():
            x = block(x) if name.endswith("conv") else block(x, embedding)
            kept.append(x)
        for name, block in self.dec.items():
            if "block" in name:
                x = join(x, kept.pop(), 0.5)
            x = block(x, embedding)
        out: Tensor = self.out_conv(x, self.out_gain)
        return out
