"""OpenAI's ablated diffusion U-Net (ADM), assembled from deepinv's blocks.

deepinv (BSD-3-Clause) has the blocks, with the names of the original state dicts, but arranges
them for two models only. Importing this module imports deepinv.

References:
    | Diffusion Models Beat GANs on Image Synthesis (Dhariwal and Nichol, 2021)
    | https://arxiv.org/abs/2105.05233
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from deepinv.models import diffunet
from torch import Tensor, nn

from invdiff.priors.loading.adm_layout import ADMLayout

__all__ = ["ADMNetwork"]


class ADMNetwork(nn.Module):
    """An ADM U-Net: images (b, channels, h, w), steps (b,), and classes (b,) if it has any."""

    def __init__(self, layout: ADMLayout) -> None:
        super().__init__()
        base, self.layout = layout.base, layout
        self.time_embed = nn.Sequential(
            nn.Linear(base, 4 * base), nn.SiLU(), nn.Linear(4 * base, 4 * base)
        )
        if layout.classes:
            self.label_emb = nn.Embedding(layout.classes, 4 * base)
        first = layout.widths[0]
        skips = [first]
        self.input_blocks = nn.ModuleList(self._encoder(skips))
        last = layout.widths[-1]
        self.middle_block = self._sequence(
            self._residual(last, last), self._attention(last), self._residual(last, last)
        )
        self.output_blocks = nn.ModuleList(self._decoder(skips))
        self.out = nn.Sequential(
            diffunet.normalization(first),
            nn.SiLU(),
            nn.Conv2d(first, layout.out_channels, 3, padding=1),
        )

    def _encoder(self, skips: list[int]) -> Iterator[nn.Module]:
        widths = self.layout.widths
        yield self._sequence(nn.Conv2d(self.layout.channels, widths[0], 3, padding=1))
        here = widths[0]
        for level, width in enumerate(widths):
            for _ in range(self.layout.blocks):
                parts = [self._residual(here, width)]
                if level in self.layout.attention:
                    parts.append(self._attention(width))
                yield self._sequence(*parts)
                here = width
                skips.append(here)
            if level < len(widths) - 1:
                yield self._sequence(self._resampling(here, down=True))
                skips.append(here)

    def _decoder(self, skips: list[int]) -> Iterator[nn.Module]:
        widths = self.layout.widths
        here = widths[-1]
        for level in reversed(range(len(widths))):
            for index in range(self.layout.blocks + 1):
                parts = [self._residual(here + skips.pop(), widths[level])]
                here = widths[level]
                if level in self.layout.attention:
                    parts.append(self._attention(here))
                if level and index == self.layout.blocks:
                    parts.append(self._resampling(here, down=False))
                yield self._sequence(*parts)

    def _sequence(self, *parts: nn.Module) -> Any:
        return diffunet.TimestepEmbedSequential(*parts)

    def _residual(self, into: int, out: int, **resampling: bool) -> Any:
        return diffunet.ResBlock(
            into,
            4 * self.layout.base,
            0.0,
            out_channels=out,
            use_scale_shift_norm=self.layout.scale_shift,
            **resampling,
        )

    def _resampling(self, width: int, down: bool) -> Any:
        if self.layout.residual_resampling:
            return self._residual(width, width, down=down, up=not down)
        return (diffunet.Downsample if down else diffunet.Upsample)(width, True)

    def _attention(self, width: int) -> Any:
        return diffunet.AttentionBlock(
            width,
            num_heads=4,
            num_head_channels=self.layout.head_channels or -1,
            use_new_attention_order=self.layout.new_attention,
        )

    def forward(self, x: Tensor, time: Tensor, label: Tensor | None = None) -> Tensor:
        """What the network predicts; time may be fractional."""
        embedding = self.time_embed(
            diffunet.timestep_embedding(time, self.layout.base).to(x.dtype)
        )
        if label is not None:
            embedding = embedding + self.label_emb(label)
        kept = []
        for block in self.input_blocks:
            x = block(x, embedding)
            kept.append(x)
        x = self.middle_block(x, embedding)
        for block in self.output_blocks:
            x = block(torch.cat([x, kept.pop()], dim=1), embedding)
        out: Tensor = self.out(x)
        return out
