r"""The singular system of a measurement: what the data say along which direction of the image.

In units of the noise, :math:`B = W^{1/2} A = U S V^*`, each number of the data
:math:`U^* W^{1/2} y` has noise of standard deviation 1, and 1 over a singular value is the
standard deviation with which a direction of the image is known.
"""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from invdiff.linalg import as_matrix, expand
from invdiff.operators.base import Operator
from invdiff.problem import Problem
from invdiff.singular_vectors import Dense, RowOrthogonal, SingularSystem, real_numbers

__all__ = ["SingularSystem", "singular_system", "small_singular_system"]

LIMIT, SMALL = 2**31, 2**26  # bytes of a dense decomposition: at most; within seconds


def singular_system(problem: Problem) -> SingularSystem:
    r"""The singular system of a problem with a linear operator, computed once per problem.

    Whether :math:`A A^*` is diagonal is tested on two generic vectors, which no other matrix
    passes; all else is decomposed densely. Samplers call this in ``init``, so that the operator's
    calls are counted once, also in a resumed run.

    Raises:
        TypeError: The operator is not linear, or its images are complex.
        ValueError: It needs a dense decomposition that is too large.
    """
    system = _known(problem, LIMIT)
    if system is None:
        operator = problem.operator
        raise ValueError(
            f"The singular vectors of {operator} need more than {LIMIT / 2**30:.0f} GiB: matrices "
            f"of {operator.range} x {operator.domain} numbers. Use a sampler that solves by "
            "conjugate gradients (MMPS, PiGDM, DiffPIR, DDS, TDS), or pass fewer items at a time: "
            "sample(..., chunk=1)."
        )
    return system


def small_singular_system(problem: Problem) -> SingularSystem | None:
    """The singular system where it is cheap; None where conjugate gradients are cheaper.

    Cheap is :math:`A A^*` diagonal, or a matrix decomposed in seconds. Raises TypeError as above.
    """
    return _known(problem, SMALL)


@torch.no_grad()
def _known(problem: Problem, limit: int) -> SingularSystem | None:
    memory = vars(problem)  # as functools.cached_property does; a problem never changes
    known: SingularSystem | None
    known, tried = memory.get("singular_system", (None, -1))
    if known is None and tried < limit:
        known = _decompose(problem, limit)
        memory["singular_system"] = known, limit
    return known


def _decompose(problem: Problem, limit: int) -> SingularSystem | None:
    operator = problem.operator
    if not operator.linear or operator.complex_domain:
        raise TypeError(
            f"{operator} has no singular system here: it must be linear and take real images. "
            "Use a sampler for any operator, such as DPS, or compose: operator @ AsComplex(...)."
        )
    seen = (problem.precision > 0).to(problem.precision)
    probes = [_generic(problem.y, frequency) for frequency in (1.0, 2.0)]
    images = [seen * operator(operator.adjoint(seen * probe)) for probe in probes]
    gram = (images[0] / probes[0]).real
    error = sum((image - gram * probe).abs() for image, probe in zip(images, probes, strict=True))
    rounding = 100 * torch.finfo(gram.dtype).eps * expand(gram.abs().flatten(1).amax(1), gram)
    if bool((error <= rounding).all()):
        return _row_orthogonal(problem, torch.where(gram > rounding, gram, 0))
    first = _first_rows(torch.cat([real_numbers(images[1]), problem.precision.flatten(1)], 1))
    return _dense(problem, first) if _size(operator, len(first)) <= limit else None


def _generic(like: Tensor, frequency: float) -> Tensor:
    """Numbers of size 1 to 2 without any pattern, one row for all: the same in every run."""
    count = torch.arange(1, like[0].numel() + 1, dtype=torch.float64, device=like.device)
    numbers = 1.5 + 0.5 * torch.sin(frequency * count.square())
    if like.is_complex():
        numbers = torch.polar(numbers, frequency * count.square())
    return numbers.to(like).reshape(1, *like.shape[1:]).expand_as(like)


def _row_orthogonal(problem: Problem, gram: Tensor) -> SingularSystem:
    root = problem.precision.sqrt()
    scale = torch.where(gram > 0, 1 / torch.where(gram > 0, gram, 1).sqrt(), 0)
    values = root * gram.sqrt()
    doubled = torch.stack([values, values], -1).flatten(1)
    return RowOrthogonal(
        doubled if problem.y.is_complex() else values.flatten(1),
        real_numbers(root * problem.center),
        problem.operator,
        scale,
    )


def _dense(problem: Problem, first: Tensor) -> SingularSystem:
    """``first`` (groups,) are the rows whose matrices differ."""
    root = problem.precision.sqrt().flatten(1)
    operator = problem.operator
    if operator.items is not None:
        operator = operator.rows(first)
    halves = (root, root) if problem.y.is_complex() else (root,)
    weights = torch.cat(halves, 1)
    matrix = as_matrix(operator).to(root.device) * weights[first].double()[..., None]
    sick = ~torch.isfinite(matrix).flatten(1).all(1)[:, None]  # NaN stays in its row
    u, s, vh = torch.linalg.svd(torch.where(sick[..., None], 0, matrix), full_matrices=False)
    rounding = torch.finfo(root.dtype).eps * max(matrix.shape[1:]) * s[:, :1]
    values = torch.where(sick, torch.nan, torch.where(s > rounding, s, 0)).to(root)
    center = problem.center.flatten(1)
    if center.is_complex():
        center = torch.cat([center.real, center.imag], 1)
    data = ((weights * center).reshape(len(first), -1, u.shape[1]) @ u.to(root)).flatten(0, 1)
    if len(first) > 1:
        values = values.repeat_interleave(len(data) // len(first), 0)
    return Dense(values, data, vh.mT.to(root), tuple(operator.domain))


def _first_rows(rows: Tensor) -> Tensor:
    """The first of each run of equal rows if the runs have one length; else every row."""
    fresh = torch.ones(len(rows), dtype=torch.bool, device=rows.device)
    fresh[1:] = (rows[1:] != rows[:-1]).any(1)
    first = fresh.nonzero()[:, 0]
    regular = torch.arange(len(first), device=rows.device) * (len(rows) // len(first))
    if len(rows) % len(first) == 0 and torch.equal(first, regular):
        return first
    return torch.arange(len(rows), device=rows.device)


def _size(operator: Operator, groups: int) -> int:
    """The bytes of the matrices and their singular vectors."""
    pixels = prod(operator.domain)
    measured = prod(operator.range) * (2 if operator.complex_range else 1)
    return 8 * groups * (measured * pixels + min(measured, pixels) * (measured + pixels))
