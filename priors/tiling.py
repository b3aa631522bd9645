"""Images larger than memory: denoised tile by tile, without seams."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from invdiff.errors import ShapeError
from invdiff.priors.wrapping import AroundPrior

__all__ = ["Tiled"]


@dataclass(frozen=True)
class Tiled(AroundPrior):
    r"""A prior that sees square tiles of an image, blended into one.

    .. math:: D(x) = \sum_t w_t \, D_t(x), \quad \sum_t w_t = 1

    A tile answers for its own cell and looks beyond it by ``overlap`` pixels on each side.
    Between two cells the answers are faded over a strip as wide as ``overlap``, half of it on each
    side: what lies within half an overlap of a cut is thrown away. So if an answer depends on
    pixels at most r away, the result is that of the whole image exactly for overlap >= 2 r, the
    width of the receptive field less one. Larger networks are approximated: docs/check-prior.md
    has measured errors. Networks that reduce over the whole image (group normalisation, global
    attention) see the statistics of a tile.

    Only one tile's activations are in memory, in the backward pass too, where each tile is
    computed again. Images no larger than a tile are passed on whole.

    Arguments:
        prior: A prior of images (channels, h, w) of free size.
        tile: The side of a tile, in pixels.
        overlap: How far a tile looks beyond its cell, less than half of ``tile``.
        multiple: Tiles begin at multiples of this: the coarsest grid of the network, so that its
            strided layers fall on the same pixels as without tiles.

    Raises:
        ValueError: tile, overlap and multiple do not fit together.
    """

    tile: int = 256
    overlap: int = 32
    multiple: int = 16

    def __post_init__(self) -> None:
        cell = self.tile - 2 * self.overlap
        if self.multiple < 1 or self.overlap < 0 or cell < 1:
            raise ValueError(
                f"tile {self.tile} leaves no cell between two overlaps of {self.overlap}, or "
                f"multiple {self.multiple} is not positive. Use tile > 2 overlap >= 0."
            )
        if self.tile % self.multiple or cell % self.multiple:
            raise ValueError(
                f"tile {self.tile} and tile - 2 overlap {cell} must be multiples of "
                f"{self.multiple}, the network's grid. Choose such sizes, or another multiple."
            )

    @property
    def name(self) -> str:
        """The name of the inner prior, and the tiles."""
        return f"{self.prior.name} tiled {self.tile}/{self.overlap}"

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Raises ShapeError unless shape is (channels, h, w) and the inner prior takes a tile."""
        if len(shape) != 3:
            raise ShapeError(
                f"Tiles are cut from images of shape (channels, h, w), got {tuple(shape)}."
            )
        height, width = (min(side, self.tile) for side in shape[1:])
        self.prior.check_shape((shape[0], height, width))

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        r""":math:`E[x_0 \mid x_0 + \sigma n = x]` for x (b, channels, h, w), sigma () or (b,)."""
        self.check_shape(tuple(x.shape[1:]))
        if max(x.shape[-2:]) <= self.tile:
            return self.prior(x, sigma)
        across = [(slice(*span), weight.to(x)) for span, weight in self._strips(x.shape[-1])]
        out = torch.zeros_like(x)
        for span, down in self._strips(x.shape[-2]):
            rows = slice(*span)
            for columns, right in across:
                weight = down.to(x)[:, None] * right
                piece = self._denoised(x[..., rows, columns], sigma)
                out[..., rows, columns] += weight * piece
        return out

    def _denoised(self, piece: Tensor, sigma: Tensor) -> Tensor:
        if torch.is_grad_enabled() and piece.requires_grad:
            answer: Tensor = checkpoint(self.prior, piece, sigma, use_reentrant=False)
            return answer
        return self.prior(piece, sigma)

    def _strips(self, length: int) -> Iterator[tuple[tuple[int, int], Tensor]]:
        """Where the tiles lie along one axis, and their weights, which add up to 1."""
        starts = self._starts(length)
        # The middle between the end of a tile and the beginning of the next.
        seams = [(first + self.tile + second) / 2 for first, second in pairwise(starts)]
        pixel = torch.arange(length, dtype=torch.float64) + 0.5
        # How far each seam is crossed, from 0 to 1 over one overlap.
        width = max(self.overlap, 1)
        crossed = [((pixel - seam) / width + 0.5).clamp(0, 1) for seam in seams]
        first, last = torch.ones(length, dtype=torch.float64), torch.zeros(length).double()
        for start, before, after in zip(starts, [first, *crossed], [*crossed, last], strict=True):
            stop = min(start + self.tile, length)
            yield (start, stop), (before - after)[start:stop]

    def _starts(self, length: int) -> list[int]:
        """Cell by cell; the last begins where the end of the image is just within its tile."""
        cell = self.tile - 2 * self.overlap
        beyond = max(0, length - self.tile)
        last = -(-beyond // self.multiple) * self.multiple
        return [*range(0, last, cell), last]
