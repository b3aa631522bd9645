"""Priors made from priors: other units, grey images, complex images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from invdiff.errors import ShapeError
from invdiff.priors.base import Prior
from invdiff.priors.wrapping import AroundPrior

__all__ = ["AffinePrior", "ColourPrior", "ComplexPrior", "GreyPrior"]


class ColourPrior(Prior, Protocol):
    """A three-channel prior that was also trained on grey images."""

    def grey_error_variance(self, sigma: Tensor) -> Tensor:
        """The expected squared error per pixel on grey images with equal noise in all channels."""
        ...


@dataclass(frozen=True)
class AffinePrior(AroundPrior):
    r"""The same images in other units, :math:`u = a x + b`.

    .. math:: D_u(u; \sigma) = a \, D\big((u - b) / a; \sigma / |a|\big) + b

    Noise levels, range and expected error are those of u. For example the prior of CT in
    HU / 1000 becomes one of attenuation in 1/mm with :math:`a = b = \mu_{water}`.

    Arguments:
        prior: The prior of x.
        scale: :math:`a`, not zero.
        offset: :math:`b`.
    """

    prior: Prior
    scale: float
    offset: float = 0.0

    def __post_init__(self) -> None:
        if self.scale == 0 or not math.isfinite(self.scale) or not math.isfinite(self.offset):
            raise ValueError(
                f"AffinePrior needs a finite scale other than 0 and a finite offset, got scale "
                f"{self.scale!r} and offset {self.offset!r}."
            )

    @property
    def sigma_min(self) -> float:
        """The smallest noise level, in units of u."""
        return abs(self.scale) * self.prior.sigma_min

    @property
    def sigma_max(self) -> float:
        """The largest noise level, in units of u."""
        return abs(self.scale) * self.prior.sigma_max

    @property
    def value_range(self) -> tuple[float, float]:
        """The range of clean images, in units of u."""
        a, b = (self.scale * end + self.offset for end in self.prior.value_range)
        return min(a, b), max(a, b)

    @property
    def name(self) -> str:
        """The name of the inner prior, and the units."""
        return f"{self.prior.name} * {self.scale:g} + {self.offset:g}"

    def __call__(self, u: Tensor, sigma: Tensor) -> Tensor:
        r""":math:`E[u_0 \mid u_0 + \sigma n = u]` for u (b, *shape), sigma () or (b,)."""
        x = (u - self.offset) / self.scale
        return self.scale * self.prior(x, sigma / abs(self.scale)) + self.offset

    def error_variance(self, sigma: Tensor) -> Tensor:
        """The expected squared error per pixel, in units of u squared."""
        return self.scale**2 * self.prior.error_variance(sigma / abs(self.scale))


@dataclass(frozen=True)
class GreyPrior(AroundPrior):
    """Grey images through a colour prior: (b, 1, h, w).

    The image is copied to three channels, denoised and averaged over them. The prior must have
    been trained on such images with the same noise in the three channels.

    Arguments:
        prior: A prior of three channels.
    """

    prior: ColourPrior

    @property
    def name(self) -> str:
        """The name of the inner prior, and "grey"."""
        return f"{self.prior.name} grey"

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Raises ShapeError unless shape is (1, h, w) and the inner prior takes (3, h, w)."""
        if len(shape) != 3 or shape[0] != 1:
            raise ShapeError(
                f"The prior {self.name!r} takes images of shape (1, h, w), got {tuple(shape)}. "
                "Use the colour prior itself for three channels."
            )
        self.prior.check_shape((3, *shape[1:]))

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        r""":math:`E[x_0 \mid x_0 + \sigma n = x]` for x (b, 1, h, w), sigma () or (b,)."""
        self.check_shape(tuple(x.shape[1:]))
        return self.prior(x.expand(-1, 3, -1, -1), sigma).mean(1, keepdim=True)

    def error_variance(self, sigma: Tensor) -> Tensor:
        """The expected squared error per pixel on grey images."""
        return self.prior.grey_error_variance(sigma)


@dataclass(frozen=True)
class ComplexPrior(AroundPrior):
    """Complex images as two real channels, independent a priori: (b, 2, h, w).

    Real and imaginary part are each an image of the inner prior. That ignores what they share
    (the same edges), and is right where nothing is known about the phase.

    Arguments:
        prior: A prior of one channel.
    """

    prior: Prior

    @property
    def name(self) -> str:
        """The name of the inner prior, and "complex"."""
        return f"{self.prior.name} complex"

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Raises ShapeError unless shape is (2, h, w) and the inner prior takes (1, h, w)."""
        if len(shape) != 3 or shape[0] != 2:
            raise ShapeError(
                f"The prior {self.name!r} takes images of shape (2, h, w), real and imaginary "
                f"part, got {tuple(shape)}. Convert complex images with torch.view_as_real."
            )
        self.prior.check_shape((1, *shape[1:]))

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        r""":math:`E[x_0 \mid x_0 + \sigma n = x]` for x (b, 2, h, w), sigma () or (b,)."""
        self.check_shape(tuple(x.shape[1:]))
        level = sigma.repeat_interleave(2) if sigma.ndim else sigma
        parts = x.reshape(-1, 1, *x.shape[2:])
        return self.prior(parts, level).reshape(x.shape)
