"""Nonlinear operators, with posteriors from quadrature on a grid or from finite sums."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor

from invdiff.certify.case import Case, Modes, Truth
from invdiff.certify.gaussian import simulate
from invdiff.datasets.test_images import photograph
from invdiff.ladder import karras
from invdiff.noise import Gaussian
from invdiff.operators import Operator
from invdiff.operators.phase_retrieval import PhaseRetrieval
from invdiff.priors.atoms import AtomsPrior
from invdiff.priors.mixture import GaussianMixturePrior
from invdiff.problem import Problem
from invdiff.rng import Rng

__all__ = ["Square", "grid_truth", "phase_of_atoms", "phase_of_two_pixels", "square"]

Regions = Callable[[Tensor], Tensor]
"""Says where points (points, *shape) belong: (points, regions) of 0 and 1."""

# Of scikit-image, which is always installed: the certificate must not depend on what else is.
_PHOTOGRAPHS = (
    "astronaut", "brick", "camera", "cell", "chelsea", "coffee", "coins", "grass",
    "gravel", "hubble", "ihc", "moon", "motorcycle", "page", "retina", "rocket",
)  # fmt: skip
_TILES = 4


@dataclass(frozen=True, eq=False, repr=False)
class Square(Operator):
    """The square of every pixel: the sign is lost.

    Arguments:
        shape: The shape of an image.
    """

    shape: tuple[int, ...]

    @property
    def domain(self) -> tuple[int, ...]:
        return tuple(self.shape)

    @property
    def range(self) -> tuple[int, ...]:
        return tuple(self.shape)

    @property
    def linear(self) -> bool:
        return False

    def bounds(self, low: float, high: float) -> tuple[float, float]:
        least = 0.0 if low <= 0 <= high else min(low**2, high**2)
        return least, max(low**2, high**2)

    def _forward(self, x: Tensor) -> Tensor:
        return x.square()


def grid_truth(
    problem: Problem,
    log_prior: Callable[[Tensor], Tensor],
    axis: Tensor,
    regions: Regions,
    draws: int,
    seed: int = 0,
) -> Truth:
    """The posterior of very few pixels, by the midpoint rule on a regular grid.

    Exact to rounding where the density is smooth over cells and vanishes at the ends. Draws are
    uniform within their cells.

    Arguments:
        problem: Any operator and noise.
        log_prior: The log density of images (b, *shape), (b,).
        axis: The midpoints of the cells, the same for every pixel, equally spaced, float64.
        regions: What the modes are.
        draws: Reference draws per item.
        seed: Of the draws.
    """
    shape = problem.operator.domain
    pixels, width = math.prod(shape), float(axis[1] - axis[0])
    points = torch.cartesian_prod(*[axis] * pixels).reshape(-1, *shape)
    known = Problem(problem.y.double(), problem.operator, problem.noise)
    likelihood = torch.stack(
        [
            known.rows(torch.full((len(points),), item)).log_likelihood(points)
            for item in range(len(known))
        ]
    )
    log_joint = log_prior(points) + likelihood
    weights = log_joint.softmax(1)
    flat = points.flatten(1)
    mean = weights @ flat
    second = torch.einsum("ip,pn,pm->inm", weights, flat, flat)
    covariance = second - mean[:, :, None] * mean[:, None]
    generator = torch.Generator().manual_seed(seed)
    pick = torch.multinomial(weights, draws, replacement=True, generator=generator)
    within = torch.rand(*pick.shape, pixels, dtype=torch.float64, generator=generator) - 0.5
    samples = flat[pick] + width * within
    return Truth(
        mean.reshape(-1, *shape),
        covariance,
        samples.reshape(*pick.shape, *shape),
        torch.logsumexp(log_joint, 1) + pixels * math.log(width),
        Modes(weights @ regions(points), _per_sample(regions)),
    )


def square(name: str, items: int, draws: int) -> Case:
    r"""One number of N(0, 1), squared, with noise 0.5; y = 1 and ``items`` - 1 random ones.

    The two signs are equally probable. The first y is set by hand, so its image is drawn from the
    exact posterior: its rank among samples is uniform all the same.
    """
    one = torch.ones(1, dtype=torch.float64)
    prior = GaussianMixturePrior(one, torch.zeros(1, 1), torch.ones(1, 1, 1))
    rows = Rng(0, tuple(f"{name}/{k}" for k in range(items)), 1)
    images = prior.draw(rows)
    y = simulate(images, Square((1,)), 0.5, rows.at(1)).y
    y[0] = 1
    problem = Problem(y, Square((1,)), Gaussian(0.5))
    axis = torch.linspace(-7, 7, 14000, dtype=torch.float64)
    truth = grid_truth(problem, _log_density(prior), axis, _signs, draws + 1)
    images[0] = truth.draws[0, 0]
    truth = replace(truth, draws=truth.draws[:, 1:])
    title = "The square of one number, noise 0.5"
    return Case(name, title, problem, prior, images, truth, lambda n: karras(n, 0.002, 10.0))


def phase_of_two_pixels(name: str, items: int, draws: int) -> Case:
    r"""Amplitudes of two pixels' oversampled transform: four modes, of unequal weight.

    They fix the pair but for its signs and its order, which three Gaussian components make more
    or less probable.
    """
    means = torch.tensor([[1.5, 0.3], [-1.0, 0.8], [0.2, -1.4]], dtype=torch.float64)
    spread = torch.tensor([[0.5, 0.2], [0.2, 0.4]], dtype=torch.float64).expand(3, 2, 2)
    weights = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    prior = GaussianMixturePrior(weights, means.reshape(3, 1, 1, 2), spread)
    rows = Rng(0, tuple(f"{name}/{k}" for k in range(items)), 1)
    images = prior.draw(rows)
    problem = simulate(images, PhaseRetrieval((1, 1, 2)), 0.2, rows.at(1))
    axis = torch.linspace(-5.5, 5.5, 551, dtype=torch.float64)
    truth = grid_truth(problem, _log_density(prior), axis, _quarters, draws)
    title = "Phase retrieval of two pixels, noise 0.2"
    return Case(name, title, problem, prior, images, truth, lambda n: karras(n, 0.002, 20.0))


def phase_of_atoms(name: str, items: int, draws: int, sigma: float = 0.5) -> Case:
    r"""Phase retrieval of one of 256 images of 8 x 8: tiles of sixteen photographs.

    Only the atoms have any probability, so the posterior is a finite sum. The photographs are its
    modes. Its covariance is singular where few atoms are left. (Burns and Fridovich-Keil, the
    finite-sample reference posterior, 2026.)
    """
    prior = AtomsPrior(_tiles(8))
    rows = Rng(0, tuple(f"{name}/{k}" for k in range(items)), 1)
    images = prior.draw(rows)
    problem = simulate(images, PhaseRetrieval((1, 8, 8)), sigma, rows.at(1))
    exact = prior.posterior(problem)
    photos = torch.arange(len(prior.atoms)) // _TILES**2

    def regions(x: Tensor) -> Tensor:
        belongs = photos[prior.nearest(x)]
        return torch.nn.functional.one_hot(belongs, len(_PHOTOGRAPHS)).double()

    truth = Truth(
        exact.mean,
        exact.covariance,
        exact.draw(draws, torch.Generator().manual_seed(0)),
        exact.log_evidence,
        Modes(exact.weights @ regions(prior.atoms), _per_sample(regions)),
    )
    title = f"Phase retrieval of 256 tiles of photographs, noise {sigma:g}"
    low, high = prior.sigma_min, prior.sigma_max
    return Case(name, title, problem, prior, images, truth, lambda n: karras(n, low, high))


@cache
def _tiles(side: int) -> Tensor:
    """Grey photographs cut into ``_TILES``^2 squares, averaged to side x side, in [-1, 1]."""
    cut = []
    for name in _PHOTOGRAPHS:
        picture = torch.from_numpy(photograph(name).copy()).double() / 127.5 - 1
        grey = picture if picture.ndim == 2 else picture.mean(2)
        small = torch.nn.functional.adaptive_avg_pool2d(grey[None], _TILES * side)[0]
        parts = small.unflatten(0, (_TILES, side)).unflatten(2, (_TILES, side))
        cut.append(parts.transpose(1, 2).reshape(-1, 1, side, side))
    return torch.cat(cut)


def _log_density(prior: GaussianMixturePrior) -> Callable[[Tensor], Tensor]:
    level = torch.zeros((), dtype=torch.float64)
    return lambda x: prior.log_density(x, level)


def _signs(x: Tensor) -> Tensor:
    above = _above(x.flatten(1)[:, 0])
    return torch.stack([1 - above, above], 1)


def _quarters(x: Tensor) -> Tensor:
    first, second = x.flatten(1).unbind(1)
    sums, order = (
        torch.stack([1 - above, above], 1)
        for above in (_above(first + second), _above(first - second))
    )
    return (sums[:, :, None] * order[:, None]).flatten(1)


def _above(x: Tensor) -> Tensor:
    """1 above zero, 0 below; a half at it, for cells of the grid that a border cuts in two."""
    return 0.5 * (1 + x.sign())


def _per_sample(regions: Regions) -> Callable[[Tensor], Tensor]:
    return lambda x: regions(x.flatten(0, 1)).unflatten(0, x.shape[:2])
