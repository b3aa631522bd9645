r"""How a noise level becomes the scale of the network's input, and its time.

Diffusion models corrupt images as :math:`x_t = \alpha_t x_0 + \sigma_t n`. Divided by
:math:`\alpha_t` that is :math:`x_0 + \sigma n` with :math:`\sigma = \sigma_t / \alpha_t`, whatever
the process. So a schedule is two functions of :math:`\sigma`: the factor :math:`\alpha`, and the
time that the network is told.

References:
    | Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022)
    | https://arxiv.org/abs/2206.00364

    | Score-Based Generative Modeling through Stochastic Differential Equations (Song et al., 2021)
    | https://arxiv.org/abs/2011.13456
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

__all__ = ["LinearPath", "Schedule", "VarianceExploding", "VariancePreserving", "check_range"]


class Schedule(Protocol):
    r"""The process a network was trained on; sigma is float64, of any shape, in every method."""

    @property
    def sigma_min(self) -> float:
        """The smallest noise level it was trained for."""
        ...

    @property
    def sigma_max(self) -> float:
        """The largest noise level it was trained for."""
        ...

    def alpha(self, sigma: Tensor) -> Tensor:
        r""":math:`\alpha` at :math:`\sigma_t / \alpha_t = \sigma`."""
        ...

    def time(self, sigma: Tensor) -> Tensor:
        """What the network is told; outside of the trained range, that of the nearer end."""
        ...


@dataclass(frozen=True)
class VarianceExploding:
    r""":math:`x_t = x_0 + \sigma n`; the network is told :math:`\sigma` itself.

    Arguments:
        sigma_min, sigma_max: The trained range.
    """

    sigma_min: float
    sigma_max: float

    def __post_init__(self) -> None:
        check_range(self.sigma_min, self.sigma_max)

    def alpha(self, sigma: Tensor) -> Tensor:
        """1."""
        return torch.ones_like(sigma)

    def time(self, sigma: Tensor) -> Tensor:
        r""":math:`\sigma`."""
        return sigma.clamp(self.sigma_min, self.sigma_max)


@dataclass(frozen=True)
class VariancePreserving:
    r"""The VP-SDE in continuous time, :math:`\alpha_t^2 + \sigma_t^2 = 1`.

    .. math:: \ln(1 + \sigma^2) = \beta_{min} t
              + \tfrac12 (\beta_{max} - \beta_{min}) t^2, \quad t \in [t_{min}, 1]

    Solved for t in closed form; the network is told ``time_scale`` times t.

    Arguments:
        beta_min, beta_max: Of the SDE.
        t_min: The first time that was trained on.
        time_scale: 999 for score_sde's DDPM++, 1 for networks of t itself.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0
    t_min: float = 1e-3
    time_scale: float = 999.0

    def __post_init__(self) -> None:
        if not 0 < self.beta_min < self.beta_max or not 0 < self.t_min < 1:
            raise ValueError(f"{self}: expected 0 < beta_min < beta_max and 0 < t_min < 1.")

    @property
    def sigma_min(self) -> float:
        """The noise level at t_min."""
        return self._sigma(self.t_min)

    @property
    def sigma_max(self) -> float:
        """The noise level at t = 1."""
        return self._sigma(1.0)

    def _sigma(self, t: float) -> float:
        slope = self.beta_max - self.beta_min
        return math.sqrt(math.expm1(self.beta_min * t + slope * t * t / 2))

    def alpha(self, sigma: Tensor) -> Tensor:
        r""":math:`1 / \sqrt{1 + \sigma^2}`."""
        return torch.rsqrt(1 + sigma.square())

    def time(self, sigma: Tensor) -> Tensor:
        """``time_scale`` times t."""
        total = torch.log1p(sigma.clamp(self.sigma_min, self.sigma_max).square())
        slope = self.beta_max - self.beta_min
        root = (self.beta_min**2 + 2 * slope * total).sqrt()
        return self.time_scale * 2 * total / (self.beta_min + root)


@dataclass(frozen=True)
class LinearPath:
    r"""The straight path of flow matching, :math:`x_t = (1 - t) x_0 + t n`.

    .. math:: t = \sigma / (1 + \sigma), \quad \alpha = 1 - t

    Arguments:
        time_scale: What the network is told is this times t.
        reverse: Whether its t runs from noise, 0, to image, 1, so that it is told 1 - t.
        sigma_min, sigma_max: The range used; t reaches both ends in training, sigma cannot.

    References:
        | Flow Matching for Generative Modeling (Lipman et al., 2023), arXiv:2210.02747
        | SiT (Ma et al., 2024), arXiv:2401.08740
    """

    time_scale: float = 1.0
    reverse: bool = False
    sigma_min: float = 1e-3
    sigma_max: float = 1e3

    def __post_init__(self) -> None:
        check_range(self.sigma_min, self.sigma_max)

    def alpha(self, sigma: Tensor) -> Tensor:
        r""":math:`1 / (1 + \sigma)`."""
        return 1 / (1 + sigma)

    def time(self, sigma: Tensor) -> Tensor:
        """``time_scale`` times t, or 1 - t."""
        inside = sigma.clamp(self.sigma_min, self.sigma_max)
        t = 1 / (1 + inside) if self.reverse else inside / (1 + inside)
        return self.time_scale * t


def check_range(low: float, high: float) -> None:
    """Raises ValueError unless 0 < low < high < infinity."""
    if not 0 < low < high < math.inf:
        raise ValueError(f"Noise levels from {low} to {high}: expected 0 < lowest < highest.")
