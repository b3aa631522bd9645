r"""What a network's answer may mean, and how its noise levels may be counted.

With :math:`a = 1 / \sqrt{1 + \sigma^2}`, the factor from :math:`x = x_0 + \sigma n` to a state of
unit variance, the answer F of a network gives :math:`D = c_{skip} x + c_{out} F`:

=========  ==========================  ========================  ==========
form       F estimates                 :math:`c_{skip}`          :math:`c_{out}`
=========  ==========================  ========================  ==========
x0         the clean image             0                         1
epsilon    the noise n                 1                         -sigma
v          a n - a sigma x0            a^2                       -sigma a
score      -n / (sigma a)              1                         sigma^2 a
velocity   n - x0, of a straight path  1 / (1 + sigma)           -sigma / (1 + sigma)
residual   sigma n                     1                         -1
=========  ==========================  ========================  ==========

References:
    | Progressive Distillation for Fast Sampling of Diffusion Models (Salimans and Ho, 2022)
    | Flow Straight and Fast (Liu, Gong and Liu, 2022)
    | Improved Denoising Diffusion Probabilistic Models (Nichol and Dhariwal, 2021), the cosine
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

__all__ = ["FORMS", "SCHEDULES", "Form", "exchanged", "reversed_level", "shrinkage"]

STEPS = 1000


@dataclass(frozen=True)
class Form:
    """One meaning of a network's answer.

    Arguments:
        name: What it is called.
        skip, out: The two factors at a noise level.
    """

    name: str
    skip: Callable[[float], float]
    out: Callable[[float], float]


def shrinkage(sigma: float) -> float:
    r""":math:`a = 1 / \sqrt{1 + \sigma^2}`: it gives the noisy image unit variance."""
    return 1 / math.hypot(1, sigma)


FORMS = (
    Form("x0", lambda s: 0.0, lambda s: 1.0),
    Form("epsilon", lambda s: 1.0, lambda s: -s),
    Form("v", lambda s: shrinkage(s) ** 2, lambda s: -s * shrinkage(s)),
    Form("score", lambda s: 1.0, lambda s: s**2 * shrinkage(s)),
    Form("velocity", lambda s: 1 / (1 + s), lambda s: -s / (1 + s)),
    Form("residual", lambda s: 1.0, lambda s: -1.0),
)


def _linear() -> np.ndarray:
    return np.cumprod(1 - np.linspace(1e-4, 0.02, STEPS))


def _scaled_linear() -> np.ndarray:
    return np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, STEPS) ** 2)


def _cosine() -> np.ndarray:
    curve = np.cos((np.arange(STEPS + 1) / STEPS + 0.008) / 1.008 * np.pi / 2) ** 2
    return np.cumprod(np.maximum(curve[1:] / curve[:-1], 0.001))


SCHEDULES = {"linear": _linear, "scaled linear": _scaled_linear, "cosine": _cosine}


@cache
def _log_levels(schedule: str) -> np.ndarray:
    """ln sigma of the thousand steps, increasing."""
    kept = SCHEDULES[schedule]()
    levels: np.ndarray = 0.5 * np.log((1 - kept) / kept)
    return levels


def step_of(schedule: str, sigma: float) -> float:
    """The step at which a schedule has this noise level: between steps by ln sigma."""
    levels = _log_levels(schedule)
    return float(np.interp(math.log(sigma), levels, np.arange(STEPS)))


def level_at(schedule: str, step: float) -> float:
    """The noise level of a step."""
    return math.exp(float(np.interp(step, np.arange(STEPS), _log_levels(schedule))))


def exchanged(declared: str, actual: str, sigma: float) -> float:
    """The level at which ``declared`` has the step that ``actual`` has at ``sigma``."""
    return level_at(declared, step_of(actual, sigma))


def reversed_level(schedule: str, sigma: float) -> float:
    """The level of the step counted from the other end."""
    return level_at(schedule, STEPS - 1 - step_of(schedule, sigma))
