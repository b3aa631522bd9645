r"""Which part of an image the data determine, and which part the prior supplied."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from invdiff.linalg import cg
from invdiff.problem import Problem
from invdiff.rng import Rng
from invdiff.singular import small_singular_system
from invdiff.singular_vectors import Dense, SingularSystem

__all__ = ["Split", "range_null_split"]

ROUGH = 30  # of the tolerance, for random vectors: their own scatter is larger
TOGETHER = 2**22  # numbers of an image times its probes that are solved for at once
Map = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Split:
    r"""An image as the sum of what the data determine and what the prior supplied.

    Arguments:
        data: :math:`G x`, (b, *domain).
        prior: :math:`(1 - G) x`, (b, *domain).
        share: The diagonal of G, (b, *domain): 1 where the data alone determine a pixel, 0 where
            they say nothing. For a prior of variance v and no correlation it is exactly
            1 - posterior variance / prior variance.
        fraction: Its mean, (b,): the share of all directions of the image that the data determine.
        residual: How exactly G was applied, (b,): :math:`\|\text{error}\| \le` ``residual``
            :math:`\|x\|` for a finite variance; 0 where singular vectors were used.
        probes: How many random vectors ``share`` was estimated from; 0: it is exact. Its standard
            error is at most :math:`\sqrt{g (1 - g) / \text{probes}}` at a pixel of share g.
    """

    data: Tensor
    prior: Tensor
    share: Tensor
    fraction: Tensor
    residual: Tensor
    probes: int


@torch.no_grad()
def range_null_split(
    problem: Problem,
    image: Tensor,
    variance: float,
    *,
    probes: int = 32,
    seed: int = 0,
    tolerance: float = 1e-3,
    iterations: int = 400,
) -> Split:
    r"""Splits an image along the directions that a linear operator sees, weighed by the noise.

    With :math:`W^{1/2} A = U S V^*` in units of the noise, and a prior of variance v,

    .. math:: G = V \frac{v S^2}{1 + v S^2} V^* = v A^* W A \, (1 + v A^* W A)^{-1}.

    G is how strongly the posterior mean follows the truth under a Gaussian prior of that variance:
    1 for a direction that is measured well, 0 in the null space, and between where noise drowns
    the signal. For v = inf it is the projection :math:`A^+ A`, as if there were no noise.

    Arguments:
        problem: Its operator must be linear.
        image: What to split, (b, *domain): the posterior mean, or a sample.
        variance: v, that of the prior's images about their mean, such as the prior's
            ``error_variance`` at its largest noise level.
        probes: The random vectors that estimate ``share`` where no singular vectors are at hand.
        seed: Of these vectors.
        tolerance: The relative residual at which conjugate gradients stop.
        iterations: Their largest number.

    Raises:
        TypeError: The operator is not linear.
        ValueError: variance is not positive, or probes is less than 1.

    References:
        Inverse Problems: A Bayesian Perspective (Stuart, 2010);
        An estimator for the diagonal of a matrix (Bekas, Kokiopoulou and Saad, 2007)
    """
    if not problem.operator.linear:
        raise TypeError(
            "The operator is not linear, so that it has no range and null space of its own. "
            "Split a problem with its linearisation."
        )
    if not variance > 0 or probes < 1:
        raise ValueError(
            f"variance is {variance} and probes {probes}, expected a positive variance (math.inf "
            "for the projection) and at least 1 probe."
        )
    system = None if problem.operator.complex_domain else small_singular_system(problem)
    if system is not None:
        gain, together = _gain(system, variance), 1
        data, residual = system.lift(gain * system.project(image)), image.new_zeros(len(image))

        def determined(x: Tensor) -> Tensor:
            return system.lift(gain * system.project(x))
    else:
        together = max(1, TOGETHER // image.numel())
        data, residual = _iterated(problem, image, variance, tolerance, iterations)

        def determined(x: Tensor) -> Tensor:
            repeated = torch.arange(len(image)).repeat_interleave(len(x) // len(image))
            own = problem.rows(repeated)
            return _iterated(own, x, variance, ROUGH * tolerance, iterations // 3)[0]

    if isinstance(system, Dense):
        share, probes = _diagonal(system, gain, image), 0
    else:
        share = _probed(determined, image.real, image.dtype, probes, seed, together)
    fraction = share.flatten(1).mean(1)
    return Split(data, image - data, share, fraction, residual.real, probes)


def _gain(system: SingularSystem, variance: float) -> Tensor:
    """v s^2 / (1 + v s^2), without overflow for large and infinite v."""
    values = system.values
    if math.isinf(variance):
        return (values > 0).to(values)
    signal = variance**0.5 * values
    return torch.where(
        signal > 1, 1 / (1 + signal.clamp(min=1) ** -2), signal**2 / (1 + signal**2)
    )


def _diagonal(system: Dense, gain: Tensor, image: Tensor) -> Tensor:
    """The diagonal of V g V*, for gains (1 or b, r)."""
    groups = len(system.vectors)
    rows = gain.expand(len(image), -1).reshape(groups, -1, gain.shape[1])
    return torch.bmm(rows, system.vectors.square().mT).reshape(image.shape)


def _iterated(
    problem: Problem, image: Tensor, variance: float, tolerance: float, iterations: int
) -> tuple[Tensor, Tensor]:
    """G x by conjugate gradients, and the relative residual."""
    normal = problem.operator.normal(problem.precision)
    if math.isinf(variance):  # of all solutions the one without a part in the null space
        solved = cg(normal, normal(image), tolerance=tolerance, iterations=iterations)
        return solved.x, solved.residual

    # The smallest eigenvalue is 1, so that an error is no larger than its residual.
    def regular(x: Tensor) -> Tensor:
        return x + variance * normal(x)

    solved = cg(regular, image, tolerance=tolerance, iterations=iterations)
    return image - solved.x, solved.residual


def _probed(
    determined: Map, like: Tensor, dtype: torch.dtype, probes: int, seed: int, together: int
) -> Tensor:
    """The mean of z * G z over random signs z: the diagonal, in expectation."""
    rng, total = Rng(seed, range(len(like)), 1), torch.zeros_like(like)
    for chosen in torch.arange(probes).split(together):
        drawn = torch.stack([rng.at(number).signs(like) for number in chosen.tolist()], 1)
        signs = drawn.flatten(0, 1)
        products = signs * determined(signs.to(dtype)).real
        total += products.unflatten(0, drawn.shape[:2]).sum(1)
    return total / probes
