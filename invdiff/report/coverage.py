"""How often intervals of the samples hold the truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from invdiff.errors import ShapeError

__all__ = ["Calibration", "interval_coverage"]

Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Calibration:
    """What a calibration on held-out data found.

    Arguments:
        coverage: Pairs of nominal and observed probability of central intervals, in [0, 1].
        guarantee: What is promised, in one sentence, such as "90 % of the pixels, for 95 of 100
            calibration sets".
        scale: What the standard deviation was multiplied by to keep the promise.
        patients: How many patients or independent cases there were.
        calibrated: The coverage with intervals that were widened by the calibration.

    Raises:
        ValueError: If probabilities are none, the scale is not positive, or nobody was there.
    """

    coverage: Points
    guarantee: str
    scale: float
    patients: int
    calibrated: Points = ()

    def __post_init__(self) -> None:
        inside = all(0 <= value <= 1 for p in (*self.coverage, *self.calibrated) for value in p)
        if not (inside and self.scale > 0 and self.patients > 0):
            raise ValueError(
                f"The calibration has coverage {self.coverage}, scale {self.scale} and "
                f"{self.patients} patients; expected pairs in [0, 1] and positive numbers."
            )


def interval_coverage(samples: np.ndarray, truth: np.ndarray) -> Points:
    r"""The nominal and the observed coverage of the intervals between order statistics.

    Of k samples the closed interval from the i-th smallest to the i-th largest holds one further
    draw of the same law with probability :math:`(k + 1 - 2 i) / (k + 1)`, without any limit of
    large k. Observed is the share of the pixels whose truth it holds. The pixels of one image
    depend on each other: this shows, it does not prove.

    Arguments:
        samples: Equally weighted, (k, ...), k at least 2.
        truth: (...).

    Raises:
        ShapeError: If they do not fit together.
    """
    k = len(samples)
    if samples.shape[1:] != truth.shape or k < 2:
        raise ShapeError(
            f"The samples have shape {samples.shape}, the truth {truth.shape}; expected (k, ...) "
            "with k of at least 2, and (...)."
        )
    below, above = (samples <= truth).sum(0), (samples >= truth).sum(0)
    deepest = np.minimum(below, above)
    return tuple(
        ((k + 1 - 2 * i) / (k + 1), float((deepest >= i).mean())) for i in range(k // 2, 0, -1)
    )
