"""From the numbers of single items to the figures of a row, each with its Monte-Carlo error."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from scipy import stats
from torch import Tensor

from invdiff.certify.case import Case
from invdiff.certify.draws import Draws
from invdiff.certify.statistics import (
    coverage,
    evidence_error,
    mean_error,
    mode_error,
    ranks,
    variance_ratios,
    whitened_moments,
)
from invdiff.certify.wasserstein import floors, sliced_wasserstein
from invdiff.posterior import Posterior
from invdiff.rng import Rng

__all__ = ["LEVELS", "Scores", "estimate", "measure", "uniformity"]

LEVELS = (0.5, 0.8, 0.9, 0.95)


@dataclass(frozen=True, eq=False)
class Scores:
    """The statistics of some items, each (items, ...), and how many samples each item had."""

    values: dict[str, Tensor]
    samples: int

    @classmethod
    def join(cls, parts: Sequence[Scores]) -> Scores:
        """The items of several cases as one."""
        names = parts[0].values
        joined = {name: torch.cat([part.values[name] for part in parts]) for name in names}
        return cls(joined, parts[0].samples)

    def row(self) -> dict[str, Any]:
        """Every figure and, as ``<figure>_se``, its standard error over items."""
        row: dict[str, Any] = {}
        for name, (key, figure) in _FIGURES.items():
            values = self.values.get(key)
            found = (None, None) if values is None else estimate(values, figure)
            row[name], row[f"{name}_se"] = found
        for k, level in enumerate(LEVELS):
            name, values = f"coverage_{round(100 * level)}", self.values.get("coverage")
            found = (None, None) if values is None else estimate(values[:, k], _plain)
            row[name], row[f"{name}_se"] = found
        row["mean_error_floor"] = self.samples**-0.5
        row["sbc_p"] = uniformity(self.values["rank"]) if "rank" in self.values else None
        return row | self._gaussian_fit()

    def _gaussian_fit(self) -> dict[str, Any]:
        """The divergence of the samples' Gaussian from the exact one, and the worst directions.

        None where the samples of all items together, or the posterior, do not fill the space.
        """
        moments = self.values["moments"]
        pixels = math.isqrt(moments.shape[1] - 1)
        freedom = len(moments) * (self.samples - 1)
        row: dict[str, Any] = {"kl_floor": None}
        for name in ("kl", "eigen_min", "eigen_max"):
            row[name] = row[f"{name}_se"] = None
        if freedom > pixels and bool(self.values["full"].all()):
            noise = pixels * (pixels + 1) / (4 * freedom) + pixels / (2 * self.samples)
            row["kl_floor"] = noise
            for name, figure in (("kl", _divergence), ("eigen_min", _least), ("eigen_max", _most)):
                row[name], row[f"{name}_se"] = estimate(moments, figure)
        return row


def measure(posterior: Posterior, case: Case, groups: int | None = None, seed: int = 0) -> Scores:
    """All statistics of a run on a case.

    Arguments:
        posterior: Finite samples.
        case: What they are compared with.
        groups: The independent groups among an item's samples; all of them if None.
        seed: Of the projections and ties of the ranks.
    """
    draws, truth = Draws.of(posterior, groups), case.truth
    raw, bias = mean_error(draws, truth)
    worth = draws.worth
    floor, fair = (floors(case, k) for k in (draws.x.shape[1], max(1, round(float(worth.mean())))))
    distance = sliced_wasserstein(draws, truth.reference)
    beyond = distance.square() - fair["wasserstein"].square()
    values = {
        "raw": raw,
        "bias": bias,
        "wasserstein": distance,
        "wasserstein_floor": floor["wasserstein"],
        "wasserstein_excess": beyond / truth.axes[0].mean(1),
        "worth": worth,
        "chi2": (posterior.weights * posterior.chi2).sum(1).cpu().double(),
        "moments": whitened_moments(draws, truth),
        "full": truth.supported.all(1),
        **variance_ratios(draws, truth),
    }
    if posterior.kind != "point":
        ids = [f"{case.name}/{k}" for k in range(len(posterior))]
        rng = Rng(seed, ids, 1)
        values["coverage"] = coverage(draws, truth.reference, LEVELS, rng)
        values["rank"] = ranks(draws, truth, case.images, rng)
    if truth.modes is not None:
        values["modes"] = mode_error(draws, truth.modes, tuple(case.images.shape[1:]))
        values["modes_floor"] = floor["modes"]
        values["modes_excess"] = values["modes"].square() - fair["modes"].square()
    if truth.log_evidence is not None and "log_evidence" in posterior.trace:
        values["evidence"] = evidence_error(posterior.log_evidence.double(), truth.log_evidence)
    return Scores(values, draws.x.shape[1])


def estimate(
    values: Tensor, figure: Callable[[Tensor], float]
) -> tuple[float | None, float | None]:
    """A figure of the mean over items and its jackknife standard error; None where undefined."""
    count = len(values)
    value = _finite(figure(values.mean(0)))
    if value is None or count < 2:
        return value, None
    total = values.sum(0)
    left = torch.tensor(
        [figure((total - each) / (count - 1)) for each in values], dtype=torch.float64
    )
    return value, _finite(float((left.var(correction=0) * (count - 1)).sqrt()))


def uniformity(places: Tensor) -> float | None:
    """The chi-square p-value of places in (0, 1) being uniform; None for fewer than 20."""
    bins = min(10, len(places) // 5)
    if bins < 4:
        return None
    counts = torch.histc(places, bins, 0, 1)
    return float(stats.chisquare(counts.numpy()).pvalue)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _plain(mean: Tensor) -> float:
    return float(mean)


def _root(mean: Tensor) -> float:
    """Of a squared error that was corrected for noise, and may have come out negative."""
    return math.copysign(math.sqrt(abs(float(mean))), float(mean))


def _covariance(mean: Tensor) -> Tensor:
    pixels = math.isqrt(len(mean) - 1)
    return mean[:-1].reshape(pixels, pixels)


def _divergence(mean: Tensor) -> float:
    fit = _covariance(mean)
    log_volume = torch.linalg.slogdet(fit).logabsdet
    return float(0.5 * (fit.trace() - len(fit) - log_volume + mean[-1]))


def _least(mean: Tensor) -> float:
    return float(torch.linalg.eigvalsh(_covariance(mean))[0])


def _most(mean: Tensor) -> float:
    return float(torch.linalg.eigvalsh(_covariance(mean))[-1])


_FIGURES: dict[str, tuple[str, Callable[[Tensor], float]]] = {
    "mean_error_sd": ("raw", _root),
    "mean_bias_sd": ("bias", _root),
    "variance_ratio": ("total", _plain),
    "tight": ("tight", _plain),
    "loose": ("loose", _plain),
    "sliced_wasserstein": ("wasserstein", _plain),
    "sliced_wasserstein_floor": ("wasserstein_floor", _plain),
    "wasserstein_excess_sd": ("wasserstein_excess", _root),
    "mode_weight_error": ("modes", _plain),
    "mode_weight_floor": ("modes_floor", _plain),
    "mode_weight_excess": ("modes_excess", _root),
    "log_evidence_error": ("evidence", _root),
    "chi2": ("chi2", _plain),
    "worth": ("worth", _plain),
}
