"""Phase retrieval: the amplitudes of a Fourier transform, without its phases."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from invdiff.errors import NotFinite, ShapeError
from invdiff.operators.base import Operator

__all__ = ["PhaseRetrieval"]


@dataclass(frozen=True, eq=False, repr=False)
class PhaseRetrieval(Operator):
    r"""The amplitudes :math:`|F P (M_k \odot x)|` of oversampled diffraction patterns.

    P pads with zeros and F is the unitary Fourier transform over the last two axes, so
    :math:`\|A_k(x)\| = \|M_k \odot x\|`. The image is real. Not linear; :math:`-x` gives what x
    does, and without masks so do x's mirror image and, where zeros surround it, its shifts.

    Where an amplitude is 0 it has no derivative, and its gradient is taken as 0, the shortest of
    its subgradients.

    DPS and DAPS call "oversampling 2" what is 1.5 here: a quarter of 256 pixels on every side, 384
    in all, too few to tell images apart without a prior. They list the same amplitudes from the
    lowest frequency outwards (``fftshift``). DPS passes images in [-1, 1], where only amplitudes
    of x and -x agree; DAPS images in [0, 1], which ``AffinePrior`` brings a prior to.

    Arguments:
        shape: The shape of an image, (channels, rows, columns).
        oversampling: The size of the padded image over that of the image, 2 for uniqueness.
        masks: :math:`M_k`, (1 or b, masks, rows, columns), real or complex: coded apertures, all
            applied to every channel. The measurement then has channels x masks patterns.

    Raises:
        ShapeError: The image has not three axes, or the masks do not fit.
        ValueError: The oversampling is below 1.
        NotFinite: A mask has NaN or infinite entries.
    """

    shape: tuple[int, int, int]
    oversampling: float = 2.0
    masks: Tensor | None = None

    def __post_init__(self) -> None:
        if len(self.shape) != 3:
            raise ShapeError(
                f"The shape is {self.shape}, expected (channels, rows, columns). A grey image of "
                "64 x 48 pixels has (1, 64, 48)."
            )
        if not self.oversampling >= 1:
            raise ValueError(f"oversampling is {self.oversampling}, expected at least 1.")
        if self.masks is None:
            return
        if self.masks.ndim != 4 or tuple(self.masks.shape[2:]) != tuple(self.shape[1:]):
            raise ShapeError(
                f"The masks have shape {tuple(self.masks.shape)}, expected (1 or items, masks, "
                f"{self.shape[1]}, {self.shape[2]}). Add a leading axis: masks[None]."
            )
        if not bool(torch.isfinite(self.masks).all()):
            raise NotFinite(
                "The masks have NaN or infinite entries. Build them of finite numbers."
            )

    @property
    def domain(self) -> tuple[int, ...]:
        return tuple(self.shape)

    @property
    def range(self) -> tuple[int, ...]:
        patterns = 1 if self.masks is None else self.masks.shape[1]
        return (self.shape[0] * patterns, *self._padded)

    @property
    def linear(self) -> bool:
        return False

    @property
    def _padded(self) -> tuple[int, int]:
        rows, columns = (round(self.oversampling * size) for size in self.shape[1:])
        return rows, columns

    def bounds(self, low: float, high: float) -> tuple[float, float]:
        largest = max(abs(low), abs(high)) * self.shape[1] * self.shape[2]
        strength = 1.0 if self.masks is None else float(self.masks.abs().max())
        rows, columns = self._padded
        return 0.0, strength * largest / (rows * columns) ** 0.5

    def _forward(self, x: Tensor) -> Tensor:
        if self.masks is not None:
            kind = x.dtype.to_complex() if self.masks.is_complex() else x.dtype
            masks = self.masks.to(x.device, kind)
            x = (x[:, :, None] * masks[:, None]).flatten(1, 2)
        pattern: Tensor = torch.fft.fft2(x, s=self._padded, norm="ortho")
        return pattern.abs()
