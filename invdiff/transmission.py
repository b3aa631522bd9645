"""Photons counted behind an object: the noise of X-ray transmission."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from invdiff.noise import Gaussian, require_fit, rows_of, show

__all__ = ["LogData", "Transmission"]

STARVED = 1e-3  # the share of rays without a photon from which on the logarithm is no good


class LogData(NamedTuple):
    """Counts as line integrals, for methods that want Gaussian noise.

    ``y``: Line integrals, shape of the counts. ``noise``: Their standard deviation, per ray.
    ``starved``: The share of rays, per row (b,), that had less than one count and were set to
    one: their line integrals are too small, and their noise is not Gaussian.
    """

    y: Tensor
    noise: Gaussian
    starved: Tensor


@dataclass(frozen=True, eq=False, repr=False)
class Transmission:
    r"""Photon counts behind an object: :math:`y \sim \mathrm{Poisson}(I_0 e^{-p}) + s_e n`.

    p = A x are the line integrals of the attenuation. With electronic noise the likelihood is the
    shifted Poisson one, :math:`y + s_e^2 \sim \mathrm{Poisson}(I_0 e^{-p} + s_e^2)`: mean and
    variance are right, so that its gradient has expectation zero at the true p. Without, it is
    exact, and concave in p.

    Samplers that need a quadratic data term get the one of the logarithm:
    :math:`\ln(I_0 / N)` with the precision :math:`N^2 / (N + s_e^2)`, where N = max(y, 1). For
    :math:`s_e = 5` that gives the standard deviation to 1 % from 34 counts on; the logarithm's
    bias is 0.003 at 183 counts, 0.03 at 34, and below some 10 it means nothing. ``log_data`` says
    how many rays have no count at all.

    Arguments:
        photons: :math:`I_0`, the counts of a ray that meets nothing: a number, or a tensor
            (1 or b, ...) with as many axes as y, of size 1 or y's.
        electronic: :math:`s_e`, the standard deviation of the detector's own noise, in counts.

    Raises:
        ValueError: If photons are not positive or electronic is negative, or not finite.

    Reference:
        Statistical image reconstruction methods for randoms-precorrected PET scans
        (Yavuz and Fessler, 1998)
    """

    photons: float | Tensor
    electronic: float = 0.0

    def __post_init__(self) -> None:
        photons = torch.as_tensor(self.photons)
        if not bool((torch.isfinite(photons) & (photons > 0)).all()):
            raise ValueError(
                f"photons is {show(self.photons)}, expected positive and finite numbers: the "
                "counts of a ray that meets nothing (the air scan)."
            )
        if not 0 <= self.electronic < float("inf"):
            raise ValueError(
                f"electronic is {self.electronic}, expected the standard deviation of the "
                "detector's own noise in counts, 0 if there is none."
            )

    def check(self, y: Tensor) -> None:
        """Raises ValueError if these cannot be counts, or photons do not fit them."""
        require_fit("photons", self.photons, y)
        real = not y.is_complex()
        if not real or (self.electronic == 0 and bool(((y < 0) | (y != y.round())).any())):
            raise ValueError(
                "The measurement holds negative, fractional or complex numbers, but photons are "
                "counted. Pass the counts, not their logarithms; or, if the detector adds noise, "
                "give electronic."
            )
        if bool((y > 2 * self._photons(y) + 10 * self.electronic + 20).any()):
            raise ValueError(
                f"The measurement holds up to {float(y.max()):.6g} counts, but only "
                f"{show(self.photons)} photons were sent. Give the counts of the air scan, in the "
                "same unit."
            )

    def center(self, y: Tensor) -> Tensor:
        return torch.log(self._photons(y) / y.clamp(min=1))

    def precision(self, y: Tensor) -> Tensor:
        counts = y.clamp(min=1)
        return counts**2 / (counts + self.electronic**2)

    def log_likelihood(self, y: Tensor, mean: Tensor) -> Tensor:
        # In float64: a million counts leave little of float32.
        variance = self.electronic**2
        rate = self._photons(mean).double() * torch.exp(-mean.double()) + variance
        counts = (y.double() + variance).clamp(min=0)
        value = torch.xlogy(counts, rate) - rate - torch.lgamma(counts + 1)
        return value.to(mean.dtype)

    def starved(self, y: Tensor) -> Tensor:
        """The share of rays with less than one count, (b,)."""
        return (y < 1).flatten(1).double().mean(1)

    def log_data(self, y: Tensor) -> LogData:
        """Line integrals, their Gaussian noise, and the share of rays that it does not describe.

        Warns if that is more than one in a thousand, in any row.
        """
        self.check(y)
        starved = self.starved(y)
        if bool((starved > STARVED).any()):
            warnings.warn(
                f"Up to {float(starved.max()):.2%} of the rays have no photon: their logarithms "
                "mean nothing. Use the counts themselves, with Transmission noise.",
                stacklevel=2,
            )
        return LogData(self.center(y), Gaussian(self.precision(y).rsqrt()), starved)

    def rows(self, index: Tensor) -> Transmission:
        chosen = rows_of(self.photons, index)
        return self if chosen is self.photons else Transmission(chosen, self.electronic)

    def to(self, device: torch.device | str) -> Transmission:
        if not isinstance(self.photons, Tensor):
            return self
        return Transmission(self.photons.to(device), self.electronic)

    def _photons(self, like: Tensor) -> Tensor:
        return torch.as_tensor(self.photons, dtype=like.dtype, device=like.device)

    def __repr__(self) -> str:
        return f"Transmission(photons={show(self.photons)}, electronic={self.electronic!r})"
