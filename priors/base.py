"""What a prior is: the best guess of a clean image from a noisy one."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor

__all__ = ["Prior"]


@runtime_checkable
class Prior(Protocol):
    r"""A distribution of images, known through its denoiser.

    All noise levels live in one convention, :math:`x = x_0 + \sigma n`, on the range of the
    prior's images: networks trained with other parametrisations are rescaled inside.
    """

    @property
    def sigma_min(self) -> float:
        """The smallest noise level the prior was made for."""
        ...

    @property
    def sigma_max(self) -> float:
        """The largest noise level, at which x is noise for all practical purposes."""
        ...

    @property
    def value_range(self) -> tuple[float, float]:
        """The range of clean images; infinite ends when none is declared."""
        ...

    @property
    def name(self) -> str:
        """What provenance calls this prior."""
        ...

    @property
    def sha256(self) -> str:
        """The SHA-256 of the numbers that define this prior."""
        ...

    def __call__(self, x: Tensor, sigma: Tensor, /) -> Tensor:
        r""":math:`E[x_0 \mid x_0 + \sigma n = x]` for x (b, *shape), sigma () or (b,)."""
        ...

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Raises ShapeError when images of this shape (without row axis) are not accepted."""
        ...

    def error_variance(self, sigma: Tensor) -> Tensor:
        r"""The expected squared error per pixel of the denoiser, :math:`E\|x_0 - D(x)\|^2 / n`.

        Of the shape of sigma. It tends to the variance of the images for large sigma and to 0 for
        small: the scale on which samplers weigh the prior against the data.
        """
        ...
