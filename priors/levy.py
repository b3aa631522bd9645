"""Random walks with independent increments: non-Gaussian signals with an exact denoiser."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from invdiff.errors import ShapeError
from invdiff.priors.increments import Increments
from invdiff.priors.lattice import lattice_for, length
from invdiff.priors.smoothing import Smoother, posterior_covariance, posterior_moments
from invdiff.rng import Rng

__all__ = ["LevyPrior"]

_POINTS_AT_ONCE = 8192  # rows are denoised in blocks whose messages stay in the cache
_WALKS, _LEVELS_PER_DECADE = 128, 6  # over which the error of the denoiser is averaged


@dataclass(frozen=True)
class LevyPrior:
    r"""A discrete Lévy process, :math:`x_t = x_{t-1} + u_t`, :math:`x_0 = 0`, u independent.

    The denoiser is the posterior mean by forward and backward messages on a lattice, float64,
    within :math:`10^{-3} \sigma` (rms) of the integral; typically :math:`10^{-5} \sigma`. Its
    Jacobian is exact too: :math:`Cov[x_0 \mid x] / \sigma^2`, by one more sweep per product.
    Windows are placed where x is likely: for x far from every sample of
    :math:`x_0 + \sigma n` the result stays finite, but is less precise.

    Arguments:
        law: The law of the increments.
        times: The length of the signal.

    Raises:
        ValueError: times is below 2.

    (Unser and Tafti, An introduction to sparse stochastic processes, 2014.)
    """

    law: Increments
    times: int = 64

    def __post_init__(self) -> None:
        if self.times < 2:
            raise ValueError(f"times is {self.times}, expected at least 2.")

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        levels = torch.as_tensor(sigma, dtype=torch.float64).reshape(-1)
        if not bool((torch.isfinite(levels) & (levels > 0)).all()):
            raise ValueError(f"sigma is {sigma}, expected positive and finite noise levels.")
        finite = torch.isfinite(x).all(1, keepdim=True)
        z = torch.where(finite, x, 0.0).double()
        if len(levels) == 1:
            clean = self._denoise(z, float(levels))
        else:
            clean = torch.empty_like(z)
            for level in levels.unique().tolist():
                rows = (levels == level).nonzero()[:, 0].to(z.device)
                clean = clean.index_put((rows,), self._denoise(z[rows], level))
        return torch.where(finite, clean.to(x.dtype), math.nan)

    def _denoise(self, z: Tensor, sigma: float) -> Tensor:
        lattice = lattice_for(self.law, self.times, sigma)
        blocks = z.split(max(16, _POINTS_AT_ONCE // lattice.points))
        return torch.cat([Smoother.apply(block, sigma, lattice) for block in blocks])

    def conditional_covariance(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Cov[x0 | x], (b, times, times), float64; NaN where x is not finite."""
        level = float(sigma)
        lattice = lattice_for(self.law, self.times, level)
        finite = torch.isfinite(x).all(1)
        z = torch.where(finite[:, None], x, 0.0).double()
        blocks = z.split(max(4, _POINTS_AT_ONCE // (16 * lattice.points)))
        covariance = torch.cat([posterior_covariance(block, level, lattice) for block in blocks])
        return torch.where(finite[:, None, None], covariance, math.nan)

    def check_shape(self, shape: tuple[int, ...]) -> None:
        if tuple(shape) != (self.times,):
            raise ShapeError(
                f"This prior describes signals of shape {(self.times,)}, got {shape}."
            )

    def error_variance(self, sigma: Tensor) -> Tensor:
        r""":math:`E\, \mathrm{tr}\, Cov[x_0 \mid x] / n`, averaged over walks of the prior.

        Finite for every law, since it is at most :math:`\sigma^2`, the error of x itself; for
        heavy tails it grows without end, as the images have no variance. Power laws between
        measured levels; relative Monte-Carlo error a few per cent.
        """
        levels, variances = _measured_error(self.law, self.times)
        given = torch.as_tensor(sigma)
        log_sigma = given.double().log().cpu().numpy()
        log_levels = np.log(levels)
        place = np.clip(np.searchsorted(log_levels, log_sigma), 1, len(levels) - 1)
        share = (log_sigma - log_levels[place - 1]) / (log_levels[place] - log_levels[place - 1])
        ends = np.log(variances[place - 1]), np.log(variances[place])
        log_variance = ends[0] + share * (ends[1] - ends[0])
        bounded = np.minimum(log_variance, 2 * log_sigma)
        return torch.from_numpy(np.asarray(np.exp(bounded))).to(given)

    def draw(self, rng: Rng) -> Tensor:
        """One exact sample per row of ``rng``, (b, times), float64."""
        rows = len(rng.ids) * rng.particles
        shape = rows, self.times, self.law.normals
        return self.law.from_normals(rng.normal(torch.empty(shape, dtype=torch.float64))).cumsum(1)

    @property
    def sigma_min(self) -> float:
        return 1e-3 * length(self.law, 0.5 * (1 - self.law.atom))

    @property
    def sigma_max(self) -> float:
        return 100 * length(self.law, 0.5 / self.times)

    @property
    def value_range(self) -> tuple[float, float]:
        return -math.inf, math.inf

    @property
    def name(self) -> str:
        return f"levy {self.law}"

    @property
    def sha256(self) -> str:
        return hashlib.sha256(repr(self).encode()).hexdigest()


@lru_cache(maxsize=64)
def _measured_error(law: Increments, times: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise levels, and the mean posterior variance of a sample of a walk observed in them."""
    prior = LevyPrior(law, times)
    low, high = math.log10(prior.sigma_min), math.log10(prior.sigma_max)
    levels = np.logspace(low, high, 1 + math.ceil(_LEVELS_PER_DECADE * (high - low)))
    rng, variances = Rng(0, range(_WALKS), 1), []
    walks = prior.draw(rng)
    noise = rng.normal(walks)  # the same at all levels, for a smooth curve
    for sigma in levels.tolist():
        z = walks + sigma * noise
        _, variance = posterior_moments(z, sigma, lattice_for(law, times, sigma))
        variances.append(float(variance.mean()))
    # The best estimate never gets better with more noise; averages with rare huge jumps may.
    return levels, np.maximum.accumulate(variances)
