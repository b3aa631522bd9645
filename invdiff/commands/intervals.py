r"""Intervals that keep a promise on new patients: split conformal prediction.

For each patient g of a calibration set let :math:`s_g` be the smallest factor by which the
standard deviation must be multiplied so that the share ``pixels`` of the patient's pixels has
its truth within mean +- factor x deviation. The factor is the r-th smallest of these n numbers,
:math:`r = \lceil (n + 1) (1 - \delta) \rceil`. If the patients and a new one are exchangeable,

.. math:: P\big(\text{that share of the new patient's pixels is covered}\big) \ge 1 - \delta,

whatever the law of images, the prior and the sampler; the probability is over the calibration
set and the new patient together. Slices of one patient are one case, not many.

References:
    | Algorithmic Learning in a Random World (Vovk, Gammerman and Shafer, 2005)
    | A gentle introduction to conformal prediction (Angelopoulos and Bates, 2021)
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["Factor", "Points", "comparable", "conformal_factor", "read_factor", "score"]

Points = tuple[tuple[float, float], ...]
FORMAT, VERSION = "invdiff calibration", 2
CURVES = ("coverage", "calibrated")
LIMIT = 2**22  # bytes of a file


@dataclass(frozen=True)
class Factor:
    r"""A calibration.

    Arguments:
        factor: What deviations are multiplied by.
        pixels: The share of a patient's pixels that is promised.
        confidence: :math:`1 - \delta`, for a new patient.
        patients: In the calibration set.
        modality: "ct" or "mri".
        run: What the runs of the calibration set depended on besides the seed: another prior or
            sampler needs another calibration.
        coverage: Pairs of nominal and observed coverage before the factor, on patients that were
            not used for it.
        calibrated: The same after it: intervals are widened by what the factor changes.
        tested: How many these patients are.
        kept: For how many of them at least the share ``pixels`` was covered, after the factor.

    Raises ValueError if the factor is not positive and finite.
    """

    factor: float
    pixels: float
    confidence: float
    patients: int
    modality: str
    run: Mapping[str, Any] = field(default_factory=dict)
    coverage: Points = ()
    calibrated: Points = ()
    tested: int = 0
    kept: int = 0

    def __post_init__(self) -> None:
        if not (0 < self.factor < math.inf and 0 < self.pixels < 1 and 0 < self.confidence < 1):
            raise ValueError(
                f"The factor is {self.factor}, for {self.pixels} of the pixels with confidence "
                f"{self.confidence}; expected a positive factor and shares between 0 and 1."
            )

    @property
    def guarantee(self) -> str:
        """What is promised, in one sentence."""
        return (
            f"For a new patient exchangeable with the {self.patients} of the calibration set, "
            f"with probability at least {self.confidence:g} (over calibration set and patient) at "
            f"least {self.pixels:.0%} of the pixels lie within mean +- {self.factor:.3f} x "
            "standard deviation (split conformal, finite sample, any distribution)."
        )

    def interval(self, mean: np.ndarray, std: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Low and high of every pixel."""
        half = np.float32(self.factor) * std
        return mean - half, mean + half

    def check_run(self, modality: str, identity: Mapping[str, Any]) -> None:
        """Raises ValueError if a run is not of the kind that was calibrated."""
        wanted = comparable(identity)
        differ = sorted(k for k in {*self.run, *wanted} if self.run.get(k) != wanted.get(k))
        if modality != self.modality:
            differ = ["modality", *differ]
        if differ:
            raise ValueError(
                f"The calibration was made with other settings: {', '.join(differ)} differ. Its "
                "guarantee holds for runs with the same settings only: calibrate these."
            )

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        values = dataclasses.asdict(self)
        values |= {name: [list(pair) for pair in getattr(self, name)] for name in CURVES}
        about = {"format": FORMAT, "format_version": VERSION, "guarantee": self.guarantee}
        return about | values


def score(mean: np.ndarray, std: np.ndarray, truth: np.ndarray, pixels: float) -> float:
    """The smallest factor that covers the share of all these pixels, :math:`s_g`.

    Infinite if too many pixels have no deviation and a wrong mean.
    """
    error = np.abs(truth.astype(np.float64) - mean).ravel()
    deviation = std.astype(np.float64).ravel()
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(error == 0, 0.0, error / deviation)
    rank = math.ceil(pixels * ratio.size - 1e-9)
    return float(np.partition(ratio, rank - 1)[rank - 1])


def conformal_factor(scores: Sequence[float], confidence: float) -> float:
    """The r-th smallest score, r = ceil((n + 1) confidence).

    Raises ValueError if there are too few patients for that, or the factor is not finite.
    """
    count = len(scores)
    rank = math.ceil((count + 1) * confidence - 1e-9)
    if rank > count:
        needed = math.ceil(confidence / (1 - confidence) - 1e-9)
        raise ValueError(
            f"There are {count} patients; a confidence of {confidence:g} needs at least {needed}. "
            "Calibrate on more, or promise less with --confidence."
        )
    factor = sorted(scores)[rank - 1]
    if not 0 < factor < math.inf:
        raise ValueError(
            f"The factor is {factor}: pixels without any spread are wrong, or there is no error "
            "at all. No factor repairs that; use more samples or another sampler."
        )
    return factor


def comparable(identity: Mapping[str, Any]) -> dict[str, Any]:
    """What a calibration depends on: everything but the seed and where it was computed."""
    without = ("seed", "device", "versions", "format")
    return {key: value for key, value in identity.items() if key not in without}


def read_factor(path: Path) -> Factor:
    """Reads what ``invdiff calibrate`` wrote. Raises OSError, or ValueError if it is not that."""
    if not path.is_file():
        raise FileNotFoundError("There is no such calibration file. Check the path.")
    if path.stat().st_size > LIMIT:
        raise ValueError("The calibration file is too large to be one.")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        known = found.pop("format") == FORMAT and found.pop("format_version") == VERSION
        names = {each.name for each in dataclasses.fields(Factor)}
        if known and found["coverage"]:
            found = {key: value for key, value in found.items() if key in names}
            for name in CURVES:
                found[name] = tuple((float(a), float(b)) for a, b in found[name])
            return Factor(**found)
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise ValueError("The calibration file is not one that invdiff calibrate wrote.")
