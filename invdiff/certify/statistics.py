"""What is measured: every function gives one number per item, averaged over items later."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from invdiff.certify.case import Modes, Truth
from invdiff.certify.draws import Draws
from invdiff.rng import Rng

__all__ = [
    "coverage",
    "evidence_error",
    "mean_error",
    "mode_error",
    "ranks",
    "variance_ratios",
    "whitened_moments",
]

BLUR = 0.02  # of the exact standard deviation: a collapsed sampler covers 1.5 %, not 0


def mean_error(draws: Draws, truth: Truth) -> tuple[Tensor, Tensor]:
    r"""The squared error of the mean in posterior standard deviations, mean over pixels, (items,).

    First :math:`\frac1n \|(\hat m - m) / s\|^2` as it is: 1 / K for K perfect draws. Then the
    same less its own Monte-Carlo variance: 0 on average for perfect draws, the squared bias
    otherwise.
    """
    std = truth.std.flatten(1)
    raw = ((draws.mean - truth.mean.flatten(1)) / std).square()
    noise = draws.mean_noise().diagonal(dim1=-2, dim2=-1) / std.square()
    return raw.mean(1), (raw - noise).mean(1)


def variance_ratios(draws: Draws, truth: Truth, share: float = 0.2) -> dict[str, Tensor]:
    """The variance over the exact one: in total, and along the exact covariance's eigenvectors.

    "tight" sums the ``share`` of the directions that the posterior knows best, "loose" those that
    it knows least.
    """
    values, vectors = truth.axes
    along = draws.along(vectors).covariance().diagonal(dim1=-2, dim2=-1)
    place = truth.supported.cumsum(1) - 1  # among the supported axes, tightest first
    count = truth.supported.sum(1, keepdim=True)
    few = (share * count).round().clamp(min=1)
    parts = {
        "total": torch.ones_like(truth.supported),
        "tight": truth.supported & (place < few),
        "loose": place >= count - few,
    }
    return {name: (along * part).sum(1) / (values * part).sum(1) for name, part in parts.items()}


def whitened_moments(draws: Draws, truth: Truth) -> Tensor:
    r"""What the samples' first two moments are where the exact ones are 0 and 1.

    :math:`(\hat C, \hat m) \mapsto (L^{-1} \hat C L^{-T}, \|L^{-1} (\hat m - m)\|^2)` with
    :math:`C = L L^T`; flat, (items, pixels * pixels + 1). The covariances of all items may be
    averaged, since each should be the identity.
    """
    white = draws.along(truth.whitening)
    exact = truth.mean.flatten(1)[:, None] @ truth.whitening
    shift = (white.mean - exact[:, 0]).square().sum(1, keepdim=True)
    return torch.cat([white.covariance().flatten(1), shift], 1)


def coverage(draws: Draws, reference: Tensor, levels: Sequence[float], rng: Rng) -> Tensor:
    r"""The exact probability of the samples' central intervals, mean over pixels, (items, levels).

    Ends lie at ranks :math:`q (K + 1)`, between samples by interpolation of their probabilities:
    K perfect draws cover exactly their level on average if :math:`K \ge 2 / (1 - level) - 1`. For
    samples that depend on each other, K is what they are worth.

    Where a marginal has atoms no interval has exactly its level. Samples and reference are blurred
    by the same noise, ``BLUR`` of the reference's standard deviation: ends at an atom then get
    their share of it. A continuous marginal does not notice: its width grows by 0.02 %.

    Arguments:
        draws: K samples.
        reference: Exact draws, (items, draws, pixels).
        levels: Such as 0.9.
        rng: Of the noise, one row per item.
    """
    blur = BLUR * reference.std(1, keepdim=True)
    points = draws.x + blur * rng.at(1).normal(draws.x)
    reference = reference + blur * rng.at(2).normal(reference)
    x, order = points.sort(1)
    weights = draws.weights[..., None].expand_as(x).gather(1, order)
    size = draws.worth[:, None, None]
    place = ((weights.cumsum(1) - 0.5 * weights) * size + 0.5) / (size + 1)
    result = []
    for level in levels:
        low, high = (_below(reference, x, place, 0.5 + sign * level / 2) for sign in (-1, 1))
        result.append((high - low).mean(1))
    return torch.stack(result, 1)


def ranks(draws: Draws, truth: Truth, images: Tensor, rng: Rng) -> Tensor:
    r"""Where the true image lies among the samples, in (0, 1), (items,).

    Both are projected on one random direction of the whitened posterior. For exact samples the
    ranks of many items are uniform (Talts et al., Validating Bayesian inference algorithms with
    simulation-based calibration, 2018); a uniform number places the truth between its neighbours.
    """
    whitening = truth.whitening
    axis = (whitening @ rng.normal(whitening[:, 0])[..., None])[..., 0]
    below = (draws.x @ axis[..., None])[..., 0] < (images.flatten(1).double() * axis).sum(1)[
        :, None
    ]
    size = draws.worth
    return ((draws.weights * below).sum(1) * size + rng.uniform()) / (size + 1)


def mode_error(draws: Draws, modes: Modes, shape: tuple[int, ...]) -> Tensor:
    """Half the sum over modes of the absolute error of their weights, (items,)."""
    belongs = modes.responsibilities(draws.x.reshape(*draws.x.shape[:2], *shape))
    weights = torch.einsum("is,ism->im", draws.weights, belongs)
    return 0.5 * (weights - modes.weights).abs().sum(1)


def evidence_error(estimate: Tensor, log_evidence: Tensor) -> Tensor:
    """The squared error of log p(y) of one filter, mean over the filters, (items,).

    Arguments:
        estimate: (items * filters,), the filters of an item adjacent.
        log_evidence: The exact one, (items,).
    """
    return (estimate.reshape(len(log_evidence), -1) - log_evidence[:, None]).square().mean(1)


def _below(reference: Tensor, x: Tensor, place: Tensor, q: float) -> Tensor:
    """The probability below the place q of sorted samples (items, samples, pixels)."""
    last = x.shape[1] - 1
    above = (place < q).sum(1, keepdim=True).clamp(min(1, last), last)
    below = (above - 1).clamp(min=0)
    left, right = place.gather(1, below), place.gather(1, above)
    gap = right - left
    part = ((q - left) / torch.where(gap > 0, gap, 1)).clamp(0, 1)[:, 0]
    start, end = ((reference <= x.gather(1, at)).double().mean(1) for at in (below, above))
    return start + part * (end - start)
