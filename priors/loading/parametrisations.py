r"""What a network predicts, as the four factors of a denoiser.

.. math:: D(x; \sigma) = c_{skip} x + c_{out} F(c_{in} x, c_{noise})

With :math:`\alpha` and :math:`\sigma` of the network's `Schedule`, :math:`c_{in} = \alpha` and:

==========  ===================================  ============  ==============
target      F predicts                           c_skip        c_out
==========  ===================================  ============  ==============
EPSILON     n                                    1             -σ
V           α n - α σ x0                         1 / (1 + σ²)  -c_skip σ / α
X0          x0                                   0             1
SCORE       the score of x_t, -n / (α σ)         1             α σ²
VELOCITY    n - x0, on the straight path         α             -α σ
==========  ===================================  ============  ==============

References:
    | Progressive Distillation for Fast Sampling (Salimans and Ho, 2022), arXiv:2202.00512: V
    | Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022)
    | https://arxiv.org/abs/2206.00364
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import torch
from torch import Tensor

from invdiff.priors.loading.schedules import LinearPath, Schedule
from invdiff.priors.preconditioning import Scalings, scalings

__all__ = ["EDM", "Parametrisation", "Predicts", "Target"]


class Parametrisation(Protocol):
    """How a network is wrapped into a denoiser."""

    @property
    def sigma_min(self) -> float:
        """The smallest noise level the network was trained for."""
        ...

    @property
    def sigma_max(self) -> float:
        """The largest."""
        ...

    def __call__(self, sigma: Tensor, /) -> Scalings:
        """The four factors at sigma (float64, any shape)."""
        ...


class Target(Enum):
    """What the network predicts; see the table of this module."""

    EPSILON = "epsilon"
    V = "v"
    X0 = "x0"
    SCORE = "score"
    VELOCITY = "velocity"

    def __repr__(self) -> str:
        return f"Target.{self.name}"


@dataclass(frozen=True)
class Predicts:
    """A network that predicts a target on a schedule.

    Arguments:
        target: What it predicts.
        schedule: The process it was trained on. A VELOCITY needs a `LinearPath`; where that is
            reversed, the network predicts x0 - n.
    """

    target: Target
    schedule: Schedule

    def __post_init__(self) -> None:
        if self.target is Target.VELOCITY and not isinstance(self.schedule, LinearPath):
            raise ValueError(
                f"A velocity on {self.schedule} is not defined here: give a LinearPath. The "
                "'v-prediction' of DDPM-like models is Target.V."
            )

    @property
    def sigma_min(self) -> float:
        """That of the schedule."""
        return self.schedule.sigma_min

    @property
    def sigma_max(self) -> float:
        """That of the schedule."""
        return self.schedule.sigma_max

    def __call__(self, sigma: Tensor, /) -> Scalings:
        """The four factors at sigma (float64, any shape)."""
        alpha = self.schedule.alpha(sigma)
        one, total = torch.ones_like(sigma), 1 + sigma.square()
        sign = 1.0
        if isinstance(self.schedule, LinearPath) and self.schedule.reverse:
            sign = -1.0
        skip, out = {
            Target.EPSILON: (one, -sigma),
            Target.V: (1 / total, -sigma / (alpha * total)),
            Target.X0: (0 * one, one),
            Target.SCORE: (one, alpha * sigma.square()),
            Target.VELOCITY: (alpha, -sign * alpha * sigma),
        }[self.target]
        return Scalings(skip, out, alpha, self.schedule.time(sigma))


@dataclass(frozen=True)
class EDM:
    """The raw network F of EDM's preconditioning; see `invdiff.priors.preconditioning`.

    Arguments:
        sigma_data: The standard deviation of the preconditioning, 0.5 in published models.
        sigma_min, sigma_max: The range; EDM trains on all, and samples on this one.
    """

    sigma_data: float = 0.5
    sigma_min: float = 0.002
    sigma_max: float = 80.0

    def __post_init__(self) -> None:
        if not self.sigma_data > 0 or not 0 < self.sigma_min < self.sigma_max:
            raise ValueError(f"{self}: expected sigma_data > 0 and 0 < sigma_min < sigma_max.")

    def __call__(self, sigma: Tensor, /) -> Scalings:
        """The four factors at sigma (float64, any shape)."""
        inside = sigma.clamp(self.sigma_min, self.sigma_max)
        return scalings(sigma, self.sigma_data)._replace(noise=inside.log() / 4)
