"""All the way from a noisy image to a clean one, within one level of a split sampler."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from invdiff.integrators import Estimate, Integrator, Walk
from invdiff.ladder import karras
from invdiff.priors.base import Prior
from invdiff.rng import Rng

__all__ = ["follow", "reverse"]


def reverse(
    prior: Prior, x: Tensor, sigma: Tensor, integrator: Integrator, steps: int, rng: Rng
) -> Tensor:
    r"""The clean image (b, *shape) that the prior's own reverse process makes of x.

    With noise in the integrator, a draw of :math:`p(x_0 \mid x_0 + \sigma n = x)`; without, the
    end of the probability flow, which has the prior's law when x has that of the noisy images.

    Arguments:
        prior: Whose process.
        x: (b, *shape) at level sigma.
        sigma: Float64, ().
        integrator: The steps, from ``invdiff.integrators``.
        steps: How many, on Karras' levels from sigma to the prior's least, and from there to 0.
            Only the last where sigma is hardly higher.
    """
    return follow(prior, x, _ladder(sigma, prior.sigma_min, steps), integrator, rng)


def follow(prior: Prior, x: Tensor, ladder: Tensor, integrator: Integrator, rng: Rng) -> Tensor:
    """The same on a ladder of one's own, (steps + 1,), from the level of x on."""

    def field(x: Tensor, level: Tensor) -> Estimate:
        return Estimate(prior(x, level), {})

    walk = Walk.begin(x, integrator.kept)
    for now, then in pairwise(ladder):
        walk, _ = integrator.step(field, walk, now, then, prior, rng)
    return walk.x


def _ladder(sigma: Tensor, sigma_min: float, steps: int) -> Tensor:
    if steps == 1 or float(sigma) <= 1.01 * sigma_min:  # no room for levels between
        return torch.stack([sigma, torch.zeros_like(sigma)])
    return karras(steps, sigma_min, float(sigma))
