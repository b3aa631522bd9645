"""What is left of the measurement: residuals in units of the noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from invdiff.problem import Problem

__all__ = ["EDGES", "Residuals", "residual_statistics"]

EDGES = tuple(round(0.25 * step, 2) for step in range(-20, 21))  # -5 to 5


@dataclass(frozen=True)
class Residuals:
    r"""The distribution of :math:`W^{1/2} (y - A x)` over measured numbers and samples.

    For samples of the posterior it is the standard normal one, whatever the prior: (x, y) and
    (truth, y) have one law. So every figure says how far operator, noise and prior are from what
    was measured.

    Arguments:
        numbers: Measured real numbers, times samples.
        counts: In the bins between ``EDGES``; the first and the last also hold all beyond.
        mean, deviation: Expected 0 and 1.
        beyond_3: The share with a size above 3; expected 0.0027.
        correlation: Between neighbours along each axis of the measurement with at least two
            entries, as (axis, correlation); expected 0 for independent noise.
    """

    numbers: int
    counts: tuple[int, ...]
    mean: float
    deviation: float
    beyond_3: float
    correlation: tuple[tuple[int, float], ...]


@torch.no_grad()
def residual_statistics(problem: Problem, samples: Tensor) -> Residuals:
    """Of one item and its finite samples (k, *domain), one after the other.

    Raises ValueError if nothing was measured.
    """
    parts, seen = [], []
    for x in samples:
        residual, measured = _whitened(problem, x[None].to(problem.y.device))
        parts.append(residual.double().cpu().numpy())
        seen.append(measured.cpu().numpy())
    whole, mask = np.concatenate(parts), np.concatenate(seen)
    if not mask.any():
        raise ValueError("Nothing was measured: there are no residuals.")
    return _summary(whole, mask)


def _whitened(problem: Problem, x: Tensor) -> tuple[Tensor, Tensor]:
    """Real residuals (1, *range) or (1, *range, 2), and which of them were measured."""
    precision = problem.precision
    residual = precision.sqrt() * problem.residual(x)
    mask = precision > 0
    if residual.is_complex():
        residual = torch.view_as_real(residual)
        mask = mask[..., None].expand(residual.shape)
    return residual, mask


def _summary(whole: np.ndarray, mask: np.ndarray) -> Residuals:
    values = whole[mask]
    mean, deviation = float(values.mean()), float(values.std())
    low, high = EDGES[0], EDGES[-1]
    counts = np.histogram(np.clip(values, low, high), EDGES)[0]
    correlations = []
    for axis in range(1, whole.ndim):
        both = _shifted(mask, axis, 1) & _shifted(mask, axis, -1)
        if both.any():
            products = (_shifted(whole, axis, 1) * _shifted(whole, axis, -1))[both]
            correlations.append((axis - 1, float(products.mean() / (values**2).mean())))
    return Residuals(
        numbers=values.size,
        counts=tuple(counts.tolist()),
        mean=mean,
        deviation=deviation,
        beyond_3=float((np.abs(values) > 3).mean()),
        correlation=tuple(correlations),
    )


def _shifted(values: np.ndarray, axis: int, side: int) -> np.ndarray:
    """All but the last entries along an axis (side 1), or all but the first (side -1)."""
    count = values.shape[axis]
    return values.take(range(count - 1) if side > 0 else range(1, count), axis)
