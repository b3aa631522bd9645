"""The ladder: decreasing noise levels sigma, ending in 0, that a sampler walks down.

A level lives on the range of the prior's images: x = x0 + sigma n.
"""

from __future__ import annotations

import torch
from torch import Tensor

from invdiff.priors.base import Prior

__all__ = ["check_ladder", "ddpm", "geometric", "karras", "ramped", "spanning"]


def karras(steps: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> Tensor:
    r"""Levels that are equally spaced in :math:`\sigma^{1/\rho}`, from sigma_max to sigma_min.

    ``steps`` levels and a final 0, float64 (steps + 1,). Larger rho, more levels near sigma_min.
    Raises ValueError for a range that is not 0 < sigma_min < sigma_max.
    (Karras et al., Elucidating the design space of diffusion-based generative models, 2022.)
    """
    _check_range(steps, sigma_min, sigma_max)
    high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return _finish((high + _grid(steps) * (low - high)) ** rho)


def geometric(steps: int, sigma_min: float, sigma_max: float) -> Tensor:
    r"""Equal ratios, :math:`\sigma_i = \sigma_{max} (\sigma_{min}/\sigma_{max})^{t_i}`, then 0.

    ``steps`` levels and a final 0, float64 (steps + 1,).
    Raises ValueError for a range that is not 0 < sigma_min < sigma_max.
    """
    _check_range(steps, sigma_min, sigma_max)
    return _finish(sigma_max * (sigma_min / sigma_max) ** _grid(steps))


def ddpm(
    steps: int, beta_start: float = 1e-4, beta_end: float = 0.02, trained_steps: int = 1000
) -> Tensor:
    r"""The levels of a linear-beta DDPM, :math:`\sigma^2 = (1 - \bar\alpha)/\bar\alpha`, then 0.

    ``steps`` equally spaced of the ``trained_steps`` times, from the last to the first; float64.
    (Ho et al., Denoising diffusion probabilistic models, 2020.)
    """
    if not 1 <= steps <= trained_steps:
        raise ValueError(f"steps is {steps}, expected 1..{trained_steps}.")
    betas = torch.linspace(beta_start, beta_end, trained_steps, dtype=torch.float64)
    alpha_bar = torch.cumprod(1 - betas, 0)
    times = torch.linspace(trained_steps - 1, 0, steps, dtype=torch.float64).round().long()
    return _finish(((1 - alpha_bar) / alpha_bar).sqrt()[times])


def spanning(prior: Prior, steps: int, loss: float = 0.005) -> Tensor:
    r"""Equal ratios over just the levels that the prior's images need, then 0.

    From its highest level to its lowest with :math:`\ell < v(\sigma) / v(\sigma_{max}) < 1 -
    \ell`, v the prior's error variance. Pure noise stands for images at the first level, and the
    denoised image for a draw at the last: each takes the share :math:`\ell` of the variance of
    Gaussian images, and few steps are too precious for levels that change less. Right for samples
    of the prior; data that leave less spread than that need a lower last level.

    Arguments:
        prior: Whose range of levels is never left.
        steps: Levels before the final 0; float64 (steps + 1,).
        loss: :math:`\ell`, above 0 and below 1/2.

    Raises:
        ValueError: For other losses, or less than 2 steps.
    """
    if not 0 < loss < 0.5:
        raise ValueError(f"loss is {loss}, expected a share of the variance, 0 < loss < 0.5.")
    levels = geometric(4096, prior.sigma_min, prior.sigma_max)[:-1]
    share = prior.error_variance(levels) / prior.error_variance(levels[:1])
    inside = levels[(share > loss) & (share < 1 - loss)]
    return geometric(steps, float(inside.min()), float(inside.max()))


def ramped(sigmas: Tensor, steps: int, ratio: float = 2.0) -> Tensor:
    r"""The ladder with its first step cut into ``steps`` + 1, each ``ratio`` times the one before.

    In :math:`\ln\sigma`. A multistep integrator starts with one estimate, at first order; over
    short first steps that does not cap its order. Raises ValueError for ``steps`` below 0.
    """
    ladder = check_ladder(sigmas)
    if steps < 0 or len(ladder) < 3:
        raise ValueError(f"steps is {steps} on {len(ladder) - 1} levels, expected 0 or more on 2.")
    lengths = ratio ** torch.arange(steps + 1, dtype=torch.float64)
    shares = (lengths.cumsum(0) / lengths.sum())[:-1]
    between = ladder[0] * (ladder[1] / ladder[0]) ** shares
    return torch.cat([ladder[:1], between, ladder[1:]])


def check_ladder(sigmas: Tensor) -> Tensor:
    """The ladder in float64 on the host. Raises ValueError unless it decreases strictly to 0."""
    ladder = torch.as_tensor(sigmas, dtype=torch.float64).cpu()
    falling = ladder.ndim == 1 and len(ladder) >= 2 and bool((ladder.diff() < 0).all())
    if not (falling and bool(torch.isfinite(ladder).all()) and float(ladder[-1]) == 0):
        raise ValueError(
            f"The ladder is {ladder.tolist()[:4]}...{ladder.tolist()[-2:]}, expected finite noise "
            "levels that fall strictly and end in 0. Make one with karras, geometric or ddpm."
            if ladder.ndim == 1
            else f"The ladder has shape {tuple(ladder.shape)}, expected one axis."
        )
    return ladder


def _grid(steps: int) -> Tensor:
    return torch.linspace(0, 1, steps, dtype=torch.float64)


def _finish(levels: Tensor) -> Tensor:
    return torch.cat([levels, torch.zeros(1, dtype=torch.float64)])


def _check_range(steps: int, sigma_min: float, sigma_max: float) -> None:
    if steps < 2 or not 0 < sigma_min < sigma_max < float("inf"):
        raise ValueError(
            f"steps={steps}, sigma_min={sigma_min}, sigma_max={sigma_max}: expected at least 2 "
            "steps and 0 < sigma_min < sigma_max, on the range of the prior's images."
        )
