"""Gaussian mixtures: posteriors with several modes whose weights are known."""

from __future__ import annotations

import torch
from torch import Tensor

from invdiff.certify.case import Case, Modes, Truth
from invdiff.certify.gaussian import grid_covariance, simulate
from invdiff.ladder import karras
from invdiff.operators import Inpainting, Matrix
from invdiff.priors.exact import ExactPosterior
from invdiff.priors.mixture import GaussianMixturePrior
from invdiff.rng import Rng

__all__ = ["image_mixture", "lattice", "truth_of"]


def truth_of(exact: ExactPosterior, draws: int, seed: int = 0) -> Truth:
    """An exact mixture with its components as modes, and ``draws`` draws of every item."""
    factors = torch.linalg.cholesky(exact.covariances)
    identity = torch.eye(factors.shape[-1], dtype=torch.float64).expand_as(factors)
    whiten = torch.linalg.solve_triangular(factors, identity, upper=False)
    volume = factors.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    # Twice rounded to nothing, a mode has the log weight of the smallest normal number.
    offset = exact.weights.clamp(min=1e-300).log() - volume
    centre = torch.einsum("ijnm,ijm->ijn", whiten, exact.means)

    def responsibilities(x: Tensor) -> Tensor:
        joint = []
        for j in range(whiten.shape[1]):  # one mode at a time: memory is that of the samples
            white = torch.einsum("inm,ism->isn", whiten[:, j], x.flatten(2)) - centre[:, j, None]
            joint.append(offset[:, j, None] - 0.5 * white.square().sum(-1))
        return torch.stack(joint, -1).softmax(-1)

    reference = exact.draw(draws, torch.Generator().manual_seed(seed))
    modes = Modes(exact.weights, responsibilities)
    return Truth(exact.mean, exact.covariance, reference, exact.log_evidence, modes)


def lattice(name: str, pixels: int, measured: int, seed: int, draws: int) -> Case:
    r"""One measurement of the 25 modes at (-8 i, -8 j), i and j in -2..2, repeated to d numbers.

    Unit covariances, weights :math:`|N(0, 1)|^2` normalised; an operator with singular values
    U(0, 1) and random orthogonal factors; noise U(0, 1) times the largest singular value. (Cardoso
    et al., Monte Carlo guided diffusion for Bayesian linear inverse problems, 2024.)
    """
    rng = Rng(seed, [name], 1)
    grid = -8.0 * torch.arange(-2, 3, dtype=torch.float64)
    means = torch.cartesian_prod(grid, grid).repeat(1, pixels // 2)
    weights = rng.normal(torch.empty(1, 25, dtype=torch.float64))[0].square()
    covariances = torch.eye(pixels, dtype=torch.float64).expand(25, pixels, pixels)
    prior = GaussianMixturePrior(weights / weights.sum(), means, covariances)
    left, right = (
        torch.linalg.qr(rng.at(k).normal(torch.empty(1, n, n, dtype=torch.float64))[0]).Q
        for k, n in ((1, measured), (2, pixels))
    )
    # One number per identity: the singular values, and the share of the noise.
    singular = Rng(seed, [f"{name}/{k}" for k in range(measured)], 1).uniform()
    operator = Matrix((left * singular @ right[:, :measured].T)[None])
    sigma = float(rng.at(3).uniform()[0] * singular.max())
    rows = Rng(seed, [f"{name}/image"], 1)
    images = prior.draw(rows)
    problem = simulate(images, operator, sigma, rows.at(1))
    title = f"25 modes in {pixels} dimensions, {measured} measured"
    truth = truth_of(prior.posterior(problem), draws)
    return Case(name, title, problem, prior, images, truth, _lattice_ladder)


def _lattice_ladder(steps: int) -> Tensor:
    return karras(steps, 0.01, 160.0)


def image_mixture(
    name: str, side: int, components: int, contrast: float, items: int, draws: int
) -> Case:
    """Images around ``components`` patterns, a few pixels measured: the pattern stays uncertain.

    The patterns are 0.5 plus or minus ``contrast`` in random pixels, a fifth of them is measured
    with noise 0.05, and the texture around a pattern has standard deviation 0.15.
    """
    rng = Rng(0, [name], components)
    like = torch.empty(components, 1, side, side, dtype=torch.float64)
    means = 0.5 + contrast * rng.signs(like)
    weights = 1 / torch.arange(1, components + 1, dtype=torch.float64)
    covariances = grid_covariance(side).expand(components, side**2, side**2)
    prior = GaussianMixturePrior(weights / weights.sum(), means, covariances)
    rows = Rng(0, tuple(f"{name}/{k}" for k in range(items)), 1)
    images = prior.draw(rows)
    operator = Inpainting.random((1, side, side), 12 / 64, 0)
    problem = simulate(images, operator, 0.05, rows.at(1))
    title = f"{components} patterns of {side} x {side}, 12 of 64 pixels measured"
    low, high = prior.sigma_min, prior.sigma_max
    truth = truth_of(prior.posterior(problem), draws)
    return Case(name, title, problem, prior, images, truth, lambda steps: karras(steps, low, high))
