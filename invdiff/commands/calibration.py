"""From finished runs with known truth to a calibration: patients, their split, the factor."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from scipy import stats

from invdiff.commands.intervals import Factor, Points, comparable, conformal_factor, score
from invdiff.commands.run_folder import CELLS, read_run
from invdiff.files import load_arrays

__all__ = ["Cases", "calibrated", "read_cases"]

LEVELS = (0.5, 0.8, 0.9, 0.95)
Parts = tuple[np.ndarray, np.ndarray, np.ndarray]  # mean, deviation, truth


@dataclass(frozen=True)
class Cases:
    """Finished items with known truth.

    Arguments:
        patients: For each patient the files of the items' pictures.
        modality: Of all of them.
        run: What their runs depended on.
        samples: Of every item.
    """

    patients: tuple[tuple[Path, ...], ...]
    modality: str
    run: Mapping[str, Any]
    samples: int


def read_cases(results: Sequence[Path], groups: Path | None) -> Cases:
    """Those of one or more runs with the same settings.

    Raises:
        OSError: If a file cannot be read.
        ValueError: If a folder is no finished run, an item has no truth or no deviation, runs
            differ, or groups do not name every item.
    """
    if groups is not None and len(results) > 1:
        raise ValueError("--groups is for one folder: labels of several would be the same.")
    names = None if groups is None else _read_groups(groups)
    patients: dict[str, list[Path]] = {}
    kinds: list[tuple[str, dict[str, Any]]] = []
    for number, folder in enumerate(results):
        run, items = _read_items(folder)
        kinds += [(modality, comparable(identity)) for modality, identity in run.items()]
        for item in items:
            if names is not None and item["label"] not in names:
                raise ValueError(f"The groups do not name {item['label']}. Name every item.")
            own = f"{number}/{item['file']}" if names is None else names[item["label"]]
            file = folder / CELLS / f"{item['cell']}.images.npz"
            patients.setdefault(own, []).append(file)
    if any(kind != kinds[0] for kind in kinds):
        raise ValueError(
            "The runs differ in their settings or modality. A calibration is for one: run recon "
            "with the same settings for all."
        )
    modality, identity = kinds[0]
    members = tuple(tuple(files) for _, files in sorted(patients.items()))
    return Cases(members, modality, identity, int(identity["samples"]))


def calibrated(
    cases: Cases, pixels: float, confidence: float, held_out: float, seed: int
) -> Factor:
    """The factor from a random part of the patients, and the coverage on the others.

    Raises ValueError if there are too few patients, or pictures lack truth or deviation.
    """
    order = np.random.Generator(np.random.Philox(seed)).permutation(len(cases.patients))
    testing = math.ceil(held_out * len(order))
    scores = [score(*_whole(cases.patients[k]), pixels) for k in order[testing:]]
    factor = conformal_factor(scores, confidence)
    tested = [_whole(cases.patients[k]) for k in order[:testing]]
    widening = factor / _width(pixels, cases.samples)
    return Factor(
        factor,
        pixels,
        confidence,
        len(scores),
        cases.modality,
        dict(cases.run),
        coverage=_curve(tested, cases.samples, 1.0),
        calibrated=_curve(tested, cases.samples, widening),
        tested=len(tested),
        kept=sum(score(*patient, pixels) <= factor for patient in tested),
    )


def _curve(patients: Sequence[Parts], samples: int, widening: float) -> Points:
    """How often the truth lies within mean +- widening x width x deviation, at each level.

    The shares of pixels are averaged over patients.
    """
    points = []
    for level in LEVELS:
        width = widening * _width(level, samples)
        inside = [(np.abs(truth - mean) <= width * std).mean() for mean, std, truth in patients]
        points.append((level, round(float(np.mean(inside)), 6)))
    return tuple(points)


def _width(level: float, samples: int) -> float:
    r"""Half the width of an interval in deviations: :math:`t \sqrt{1 + 1/k}`.

    With Student's t of k - 1 degrees: what k Gaussian samples say of one more draw, exactly.
    """
    return float(stats.t.ppf((1 + level) / 2, samples - 1)) * math.sqrt(1 + 1 / samples)


def _whole(files: Sequence[Path]) -> Parts:
    """Mean, deviation and truth of all pixels of a patient, flat."""
    parts: dict[str, list[np.ndarray]] = {"mean": [], "std": [], "truth": []}
    for file in files:
        arrays, _ = load_arrays(file, "cell")
        for name, found in parts.items():
            if name not in arrays:
                raise ValueError(
                    f"An item has no {name}. Calibration needs scans with known truth, and two "
                    "or more posterior samples of each."
                )
            found.append(arrays[name].astype(np.float64).ravel())
    mean, std, truth = (np.concatenate(found) for found in parts.values())
    return mean, std, truth


def _read_items(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    run = read_run(folder)
    try:
        found = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if run is None or not isinstance(found, dict) or found.get("format") != "invdiff recon":
        raise ValueError("A folder holds no finished run of invdiff recon. Check the paths.")
    items = [item for item in found["items"] if item["status"] == "done"]
    if not items:
        raise ValueError("A run has no item that is done.")
    return run, items


def _read_groups(file: Path) -> dict[str, str]:
    if not file.is_file():
        raise FileNotFoundError("There is no such file of groups. Check the path.")
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        found = None
    if not isinstance(found, dict):
        raise ValueError("The groups are no lines 'item-0001: patient'. Write them as YAML.")
    return {str(label): str(group) for label, group in found.items()}
