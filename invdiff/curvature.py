"""The data term's Hessian A* W A in numbers: how strong the data are, at the scale of an image."""

from __future__ import annotations

import torch
from torch import Tensor

from invdiff.problem import Problem

__all__ = ["bend", "hessian_trace", "push_forward"]


def hessian_trace(problem: Problem, probe: Tensor) -> Tensor:
    r"""An unbiased estimate of :math:`\mathrm{tr}(A^* W A)` per row, (b,).

    ``probe`` (b, *domain) holds random signs. A nonlinear operator is linearised at 0.
    (Hutchinson, A stochastic estimator of the trace of the influence matrix, 1990.)
    """
    return bend(problem, torch.zeros_like(probe), probe)


def bend(problem: Problem, x: Tensor, direction: Tensor) -> Tensor:
    r""":math:`\|A' d\|_W^2` per row, (b,): how the misfit at x curves along d (b, *domain)."""
    image = push_forward(problem, x, direction)
    return (problem.precision * image.abs().square()).flatten(1).sum(1)


def push_forward(problem: Problem, x: Tensor, direction: Tensor) -> Tensor:
    """The derivative of A at x along a direction, both (b, *domain)."""
    if problem.operator.linear:
        return problem.operator(direction)
    value: Tensor = torch.autograd.functional.jvp(problem.operator, x, direction)[1]
    return value
