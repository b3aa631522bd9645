"""What the data add to a Gaussian guess of the image."""

from __future__ import annotations

from torch import Tensor

from invdiff.linalg import cg
from invdiff.problem import Problem
from invdiff.singular import small_singular_system

__all__ = ["pull"]


def pull(
    problem: Problem, x0: Tensor, variance: float, *, tolerance: float, iterations: int
) -> Tensor:
    r""":math:`A^* (W^{-1} + v A A^*)^{-1} (y - A x_0)`, (b, *domain).

    The gradient of log p(y) in :math:`x_0` when the image is :math:`N(x_0, v I)`; and v times it
    leads from :math:`x_0` to the minimum of
    :math:`\|y - A x\|_W^2 + \|x - x_0\|^2 / v`. In closed form where the singular system is cheap;
    elsewhere by conjugate gradients, whose stopping test waits for the device.

    Arguments:
        problem: With a linear operator. Call ``small_singular_system`` on it in ``init``.
        x0: The guess, (b, *domain).  variance: :math:`v`.
        tolerance: The relative residual at which a row's iteration stops.
        iterations: The largest number of iterations.
    """
    system = small_singular_system(problem)
    if system is not None:
        gains = system.values / (variance * system.values.square() + 1)
        return system.lift(gains * system.residual(x0))
    a, root = problem.operator, problem.precision.sqrt()
    solved = cg(
        lambda u: u + variance * (root * a(a.adjoint(root * u))),
        root * problem.residual(x0),
        tolerance=tolerance,
        iterations=iterations,
    )
    return a.adjoint(root * solved.x)
