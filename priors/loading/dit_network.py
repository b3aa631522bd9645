"""The diffusion transformer of DiT and SiT.

Names of weights are those of published state dicts. Libraries have the architecture too, but
diffusers' version spaces the frequencies of its time embedding differently.

References:
    | Scalable Diffusion Models with Transformers (Peebles and Xie, 2023), arXiv:2212.09748
    | SiT (Ma et al., 2024), arXiv:2401.08740
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["DiTLayout", "DiTNetwork"]


@dataclass(frozen=True)
class DiTLayout:
    """The arrangement of a diffusion transformer.

    Arguments:
        channels, out_channels: Of the image or latent, and of what is predicted.
        patch: The side of a patch, in pixels.
        tokens: The number of patches of the square image.
        width: The channels of a token.
        heads: The attention heads.
        hidden: The channels inside a block's dense layers.
        depth: The number of blocks.
        classes: The rows of the table of classes, with the one for no class.
    """

    channels: int
    out_channels: int
    patch: int
    tokens: int
    width: int
    heads: int
    hidden: int
    depth: int
    classes: int


def norm(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Layer norm without weights, then the shift and scale of each row."""
    plain = F.layer_norm(x, x.shape[-1:], eps=1e-6)
    return plain * (1 + scale[:, None]) + shift[:, None]


class Block(nn.Module):
    """Attention and dense layers, each behind an adaptive norm and a gate."""

    def __init__(self, layout: DiTLayout) -> None:
        super().__init__()
        width, self.heads = layout.width, layout.heads
        self.attn = nn.ModuleDict(
            {"qkv": nn.Linear(width, 3 * width), "proj": nn.Linear(width, width)}
        )
        self.mlp = nn.ModuleDict(
            {"fc1": nn.Linear(width, layout.hidden), "fc2": nn.Linear(layout.hidden, width)}
        )
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        shift, scale, gate, shift2, scale2, gate2 = self.adaLN_modulation(condition).chunk(6, 1)
        x = x + gate[:, None] * self._attend(norm(x, shift, scale))
        hidden = F.gelu(self.mlp["fc1"](norm(x, shift2, scale2)), approximate="tanh")
        out: Tensor = x + gate2[:, None] * self.mlp["fc2"](hidden)
        return out

    def _attend(self, x: Tensor) -> Tensor:
        rows, tokens, width = x.shape
        split = self.attn["qkv"](x).reshape(rows, tokens, 3, self.heads, width // self.heads)
        q, k, v = split.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        out: Tensor = self.attn["proj"](mixed.reshape(rows, tokens, width))
        return out


class DiTNetwork(nn.Module):
    """What is predicted for latents (b, channels, side, side), times (b,) and classes (b,)."""

    def __init__(self, layout: DiTLayout) -> None:
        super().__init__()
        width, self.layout = layout.width, layout
        self.pos_embed = nn.Parameter(torch.empty(1, layout.tokens, width))
        self.x_embedder = nn.ModuleDict(
            {"proj": nn.Conv2d(layout.channels, width, layout.patch, stride=layout.patch)}
        )
        self.t_embedder = nn.ModuleDict(
            {"mlp": nn.Sequential(nn.Linear(256, width), nn.SiLU(), nn.Linear(width, width))}
        )
        self.y_embedder = nn.ModuleDict({"embedding_table": nn.Embedding(layout.classes, width)})
        self.blocks = nn.ModuleList(Block(layout) for _ in range(layout.depth))
        self.final_layer = nn.ModuleDict(
            {
                "linear": nn.Linear(width, layout.patch**2 * layout.out_channels),
                "adaLN_modulation": nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width)),
            }
        )

    def forward(self, x: Tensor, time: Tensor, label: Tensor) -> Tensor:
        """The prediction, (b, out_channels, side, side)."""
        tokens = self.x_embedder["proj"](x).flatten(2).mT + self.pos_embed
        condition = self.t_embedder["mlp"](_waves(time)) + self.y_embedder["embedding_table"](
            label
        )
        for block in self.blocks:
            tokens = block(tokens, condition)
        shift, scale = self.final_layer["adaLN_modulation"](condition).chunk(2, 1)
        patches = self.final_layer["linear"](norm(tokens, shift, scale))
        count, patch = math.isqrt(self.layout.tokens), self.layout.patch
        grid = patches.reshape(-1, count, count, patch, patch, self.layout.out_channels)
        image: Tensor = grid.permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)
        return image


def _waves(time: Tensor) -> Tensor:
    """Cosines and sines of 128 frequencies from 1 to nearly 1e-4."""
    index = torch.arange(128, dtype=torch.float32, device=time.device)
    angles = time.float()[:, None] * torch.exp(-math.log(1e4) * index / 128)
    return torch.cat([angles.cos(), angles.sin()], dim=1).to(time.dtype)
