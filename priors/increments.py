"""Laws of the increments of a random walk: all symmetric, with a known characteristic function.

Every law here is a scale mixture of Gaussians, which is how it is drawn, and how Gibbs samplers
condition it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from scipy import special
from torch import Tensor

__all__ = ["BernoulliLaplace", "Gauss", "Increments", "Laplace", "Student"]


@runtime_checkable
class Increments(Protocol):
    r"""A symmetric law :math:`p_0\, \delta_0 + (1 - p_0)\, f(u)\, du`."""

    def __hash__(self) -> int: ...

    @property
    def atom(self) -> float:
        r""":math:`p_0`, the probability of no increment at all."""
        ...

    @property
    def variance(self) -> float:
        """The variance; infinite for a heavy-tailed law."""
        ...

    @property
    def light_tailed(self) -> bool:
        """Whether all moments are finite."""
        ...

    @property
    def normals(self) -> int:
        """How many standard normal numbers one draw takes."""
        ...

    def log_density(self, u: Tensor) -> Tensor:
        """log f(u), of the shape of u."""
        ...

    def characteristic(self, frequency: np.ndarray) -> np.ndarray:
        r""":math:`\int f(u) \cos(\omega u)\, du` at frequencies of any shape, not negative."""
        ...

    def tail(self, u: float) -> float:
        """The probability of an increment beyond -u or u, for u not negative."""
        ...

    def from_normals(self, normals: Tensor) -> Tensor:
        """Independent increments (...) from independent standard normal numbers (..., normals)."""
        ...


def _positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} is {value}, expected a positive, finite number.")


@dataclass(frozen=True)
class Gauss:
    r""":math:`N(0, v)`: the walk is Brownian motion. Raises ValueError unless v > 0.

    Arguments:
        variance: :math:`v`.
    """

    variance: float

    def __post_init__(self) -> None:
        _positive("variance", self.variance)

    @property
    def atom(self) -> float:
        return 0.0

    @property
    def light_tailed(self) -> bool:
        return True

    @property
    def normals(self) -> int:
        return 1

    def log_density(self, u: Tensor) -> Tensor:
        return -0.5 * u.square() / self.variance - 0.5 * math.log(2 * math.pi * self.variance)

    def characteristic(self, frequency: np.ndarray) -> np.ndarray:
        return np.exp(-0.5 * self.variance * frequency**2)

    def tail(self, u: float) -> float:
        return math.erfc(u / math.sqrt(2 * self.variance))

    def from_normals(self, normals: Tensor) -> Tensor:
        return math.sqrt(self.variance) * normals[..., 0]


@dataclass(frozen=True)
class Laplace:
    r""":math:`f(u) = e^{-|u|/b} / 2b`. Raises ValueError unless b > 0.

    Arguments:
        scale: :math:`b`.
    """

    scale: float

    def __post_init__(self) -> None:
        _positive("scale", self.scale)

    @property
    def atom(self) -> float:
        return 0.0

    @property
    def variance(self) -> float:
        return 2 * self.scale**2

    @property
    def light_tailed(self) -> bool:
        return True

    @property
    def normals(self) -> int:
        return 3

    def log_density(self, u: Tensor) -> Tensor:
        return -u.abs() / self.scale - math.log(2 * self.scale)

    def characteristic(self, frequency: np.ndarray) -> np.ndarray:
        return 1 / (1 + (self.scale * frequency) ** 2)

    def tail(self, u: float) -> float:
        return math.exp(-u / self.scale)

    def from_normals(self, normals: Tensor) -> Tensor:
        # A Gaussian whose variance is exponential, itself half the square of two Gaussians.
        return self.scale * normals[..., 1:3].square().sum(-1).sqrt() * normals[..., 0]


@dataclass(frozen=True)
class Student:
    r"""Student's law, :math:`f(u) \propto (1 + u^2/\nu)^{-(\nu+1)/2}`: rare, huge jumps.

    Arguments:
        degrees: :math:`\nu`, the degrees of freedom, a whole number; 1 is the Cauchy law.

    Raises:
        ValueError: degrees is not 1 or more.
    """

    degrees: int

    def __post_init__(self) -> None:
        if self.degrees < 1 or self.degrees != int(self.degrees):
            raise ValueError(f"degrees is {self.degrees}, expected a whole number, 1 or more.")

    @property
    def atom(self) -> float:
        return 0.0

    @property
    def variance(self) -> float:
        return self.degrees / (self.degrees - 2) if self.degrees > 2 else math.inf

    @property
    def light_tailed(self) -> bool:
        return False

    @property
    def normals(self) -> int:
        return 1 + self.degrees

    def log_density(self, u: Tensor) -> Tensor:
        half = 0.5 * (self.degrees + 1)
        constant = math.lgamma(half) - math.lgamma(0.5 * self.degrees)
        constant -= 0.5 * math.log(self.degrees * math.pi)
        return constant - half * torch.log1p(u.square() / self.degrees)

    def characteristic(self, frequency: np.ndarray) -> np.ndarray:
        order = 0.5 * self.degrees
        # Below 1e-12 the function is 1 to rounding, and kv overflows.
        argument = np.maximum(math.sqrt(self.degrees) * np.asarray(frequency), 1e-12)
        scale = 2 ** (1 - order) / special.gamma(order)
        return np.asarray(scale * argument**order * special.kv(order, argument))

    def tail(self, u: float) -> float:
        return 2 * float(special.stdtr(self.degrees, -u))

    def from_normals(self, normals: Tensor) -> Tensor:
        return normals[..., 0] / normals[..., 1:].square().mean(-1).sqrt()


@dataclass(frozen=True)
class BernoulliLaplace:
    """No increment, or with a small probability a Laplace one: a piecewise constant walk.

    Arguments:
        probability: The probability of a jump, above 0 and at most 1.
        scale: The scale of the jumps.

    Raises:
        ValueError: The probability or the scale is out of its range.
    """

    probability: float
    scale: float

    def __post_init__(self) -> None:
        _positive("scale", self.scale)
        if not 0 < self.probability <= 1:
            raise ValueError(f"probability is {self.probability}, expected 0 < p <= 1.")

    @property
    def atom(self) -> float:
        return 1 - self.probability

    @property
    def variance(self) -> float:
        return 2 * self.probability * self.scale**2

    @property
    def light_tailed(self) -> bool:
        return True

    @property
    def normals(self) -> int:
        return 4

    def log_density(self, u: Tensor) -> Tensor:
        return Laplace(self.scale).log_density(u)

    def characteristic(self, frequency: np.ndarray) -> np.ndarray:
        return Laplace(self.scale).characteristic(frequency)

    def tail(self, u: float) -> float:
        return self.probability * math.exp(-u / self.scale)

    def from_normals(self, normals: Tensor) -> Tensor:
        jumps = torch.special.ndtr(normals[..., 3]) < self.probability
        return torch.where(jumps, Laplace(self.scale).from_normals(normals), 0.0)
