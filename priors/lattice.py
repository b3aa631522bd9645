"""The lattice on which the smoothing of a random walk is computed: its spacing and its jumps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from scipy.fft import next_fast_len
from scipy.optimize import brentq, lsq_linear
from torch import Tensor

from invdiff.priors.increments import Increments

__all__ = ["Lattice", "lattice_for", "length"]

_FITTED = 8  # the shortest jumps, whose probabilities are fitted
_TOLERANCE = 1e-3  # the largest error of the log characteristic function of a whole message
_WINDOW = 5.0  # half a window in units of sigma: a normal number goes beyond once in 2e6
_MISSED = 1e-5  # the probability of a walk with an increment beyond a window around zero
_TRACKED = 8.0  # the same in units of the posterior spread, for windows that follow a smoother


@dataclass(frozen=True, eq=False)
class Lattice:
    r"""The points :math:`k \delta` near a noisy walk, and the probabilities to jump between them.

    A window of ``points`` neighbours surrounds a centre at every time. Far jumps have the
    probability :math:`\delta f(k\delta)`. Short ones are corrected, staying positive, so that
    their characteristic function is that of the law up to the highest frequency that messages of
    the smoother hold; sums over the lattice are then as good as integrals (Poisson summation).

    Arguments:
        law: The law of the increments.
        spacing: :math:`\delta`.
        factors: What the probabilities of jumps by 0, 1, ... points are multiplied with.
        points: The points of a window, odd.
        smoother: The linear map from the noisy walk to the centres, or None for the walk itself.
    """

    law: Increments
    spacing: float
    factors: Tensor
    points: int
    smoother: Tensor | None

    @property
    def transform(self) -> int:
        """The length of the Fourier transforms that apply a transition to a window."""
        return 2 * int(next_fast_len(self.points, real=True))

    @property
    def steps(self) -> Tensor:
        """A window's points counted from its centre, whole numbers, (points,), float64."""
        half = self.points // 2
        return torch.arange(-half, half + 1, dtype=torch.float64)

    def centres(self, z: Tensor) -> Tensor:
        """The index of the centre of the window at every time, (b, times) -> (b, times)."""
        tracked = z if self.smoother is None else z @ self.smoother.to(z)
        return (tracked / self.spacing).round()

    def jumps(self, index: Tensor) -> Tensor:
        """Probabilities of jumps by whole numbers of points (..., k), up to a factor per row.

        The factor brings the largest to about 1, so that nothing underflows far from 0.
        """
        log_density = self.law.log_density(self.spacing * index)
        shape = (log_density - log_density.amax(-1, keepdim=True)).exp()
        nearest = index.abs().clamp(max=len(self.factors)).long()
        factors = torch.cat([self.factors, self.factors.new_ones(1)]).to(index)
        weights = shape * factors[nearest]
        if self.law.atom == 0:
            return weights
        # Where jumps by 0 are in reach, the largest density is the one at 0.
        peak = float(self.law.log_density(torch.zeros((), dtype=torch.float64)).exp())
        odds = self.law.atom / ((1 - self.law.atom) * self.spacing * peak)
        return weights + odds * (index == 0)


@lru_cache(maxsize=512)
def lattice_for(law: Increments, times: int, sigma: float) -> Lattice:
    """The lattice for walks of some length, observed in noise of level sigma."""
    spread = _spread(law, sigma)
    spacing, factors = _spacing(law, sigma, spread)
    half, smoother = min(_windows(law, times, sigma), key=lambda window: window[0])
    points = 2 * math.ceil(half / spacing) + 1
    return Lattice(law, spacing, torch.from_numpy(factors), points, smoother)


def _windows(law: Increments, times: int, sigma: float) -> list[tuple[float, Tensor | None]]:
    """Where to look for the walk: half-widths, and the maps from the noisy walk to the centres."""
    far = float(brentq(lambda u: times * law.tail(u) - _MISSED, 0, 1e15, rtol=1e-3))
    around_zero = far + 5 * length(law, 0.5 / times)
    windows = [
        (_WINDOW * sigma, None),
        (around_zero, torch.zeros(times, times, dtype=torch.float64)),
    ]
    if law.light_tailed:
        time = torch.arange(1, times + 1, dtype=torch.float64)
        covariance = law.variance * torch.minimum(time[:, None], time)
        gain = torch.linalg.solve(covariance + sigma**2 * torch.eye(times).double(), covariance)
        windows.append((_TRACKED * sigma * math.sqrt(float(gain.diagonal().max())), gain))
    return windows


@lru_cache(maxsize=64)
def length(law: Increments, drop: float) -> float:
    """The L at which the characteristic function of an increment, at 1 / L, is 1 - ``drop``.

    It is finite also where variances are not: with 1 / (2 n), the size of a walk of n steps.
    """

    def excess(log_length: float) -> float:
        value = float(law.characteristic(np.array(math.exp(-log_length))))
        return (1 - law.atom) * (1 - value) - drop

    return math.exp(float(brentq(excess, -20, 40)))


def _spread(law: Increments, sigma: float) -> float:
    """About the posterior standard deviation s of a walk in noise of level sigma.

    For Brownian motion of variance q per step it is s^2 = sigma sqrt(q) / 2; other laws are taken
    by the variance they show at the scale s, q(s) = 2 s^2 (1 - characteristic(1 / s)).
    """
    spread = sigma
    for _ in range(100):
        share = (1 - law.atom) * (1 - float(law.characteristic(np.array(1 / spread))))
        variance = 2 * spread**2 * share
        spread = min(sigma, 0.5 * (spread + math.sqrt(0.5 * sigma * math.sqrt(variance))))
    return spread


def _spacing(law: Increments, sigma: float, spread: float) -> tuple[float, np.ndarray]:
    """The widest spacing at which jumps can be fitted well enough, and their factors."""
    memory = (1 - law.atom) * (sigma / spread) ** 2  # the steps over which errors add up
    spacing = min(0.7 * sigma, 0.9 * spread)
    while True:
        factors, error = _fit(law, spacing, spread)
        if memory * error < _TOLERANCE:
            return spacing, factors
        spacing *= 0.85


def _fit(law: Increments, spacing: float, spread: float) -> tuple[np.ndarray, float]:
    """Factors of the shortest jumps' probabilities, and the error of the characteristic function.

    Sampling a density folds its characteristic function at multiples of the lattice's frequency;
    the factors take out the folded part where messages of this spread have content.
    """
    base = 2 * np.pi / spacing
    frequency = np.linspace(0, min(0.5 * base, 4 / spread), 60)
    terms = 50 + int(4 * spacing)
    shifts = base * np.arange(1, terms + 1)[:, None]
    folded = (law.characteristic(shifts + frequency) + law.characteristic(shifts - frequency)).sum(
        0
    )
    # A density with a kink has a characteristic function that falls like 1 / frequency^2.
    folded += 2 * float(law.characteristic(shifts[-1, 0])) * terms**2 / (terms + 0.5)
    steps = np.arange(_FITTED + 1)
    sampled = spacing * law.log_density(torch.from_numpy(spacing * steps)).exp().numpy()
    waves = np.cos(spacing * np.outer(frequency, steps)) * np.where(steps == 0, 1, 2) * sampled
    content = np.exp(-0.5 * (frequency * spread) ** 2)[:, None]
    # A little ridge keeps far jumps as they are, where they do not matter.
    system = np.vstack([content * waves, 1e-6 * np.diag((1.0 + steps) ** 2)])
    target = np.concatenate([-content[:, 0] * folded, np.zeros(len(steps))])
    change = lsq_linear(system, target, bounds=(-1, np.inf)).x
    error = np.abs(content[:, 0] * (waves @ change + folded)).max()
    return 1 + change, float(error)
