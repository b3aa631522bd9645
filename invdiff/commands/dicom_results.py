"""Results placed where their DICOM series was: the mean, and the standard deviation."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from invdiff.commands.batch import Outcome
from invdiff.commands.intervals import Factor
from invdiff.commands.settings import Settings
from invdiff.datasets.dicom_derivation import Derivation, SeriesLabel
from invdiff.datasets.dicom_folder import new_folder
from invdiff.datasets.dicom_reader import read_series
from invdiff.datasets.dicom_volume import DicomVolume
from invdiff.datasets.dicom_writer import (
    DEVIATION,
    MEAN,
    write_derived_series,
    write_uncertainty_series,
)

__all__ = ["source_volume", "write_dicom"]

KIND = {"ct": "CT", "mri": "MR"}


def source_volume(
    folder: Path, chosen: Sequence[int], count: int, modality: str, shape: tuple[int, int]
) -> DicomVolume:
    """The chosen slices of the series in a folder, item k being its k-th slice along the normal.

    Raises ValueError if it is not a series of ``count`` slices of this modality and shape.
    """
    volume = read_series(folder)
    if volume.modality != KIND[modality] or volume.pixels.shape != (count, *shape):
        raise ValueError(
            f"The folder has a {volume.modality} series of {volume.pixels.shape} (slices, rows, "
            f"columns), but the measurement is {KIND[modality]} with {(count, *shape)}. Take "
            "away the one that does not belong, or set dicom=false."
        )
    rows = list(chosen)
    return replace(
        volume,
        pixels=volume.pixels[rows],
        padding=volume.padding[rows],
        headers=tuple(volume.headers[k] for k in rows),
        planes=tuple(volume.planes[k] for k in rows),
    )


def write_dicom(
    folder: Path,
    volume: DicomVolume,
    mean: np.ndarray,
    deviation: np.ndarray | None,
    outcomes: Sequence[Outcome],
    settings: Settings,
    factor: Factor | None,
) -> dict[str, Any]:
    """Writes ``mean/`` and ``deviation/`` to a folder, whole, in place of an older one.

    Arguments:
        folder: Where to.
        volume: The source, of as many slices.
        mean, deviation: (slices, rows, columns) in the unit of the display.
        outcomes: Of the slices.
        settings: Of the run.
        factor: A calibration, which the deviation's headers tell of; its values stay.

    Raises:
        ValueError: If the source's header cannot be written again.
        OSError: If the disk is full, or the folder cannot be written.
    """
    record = outcomes[0]
    trust = _trust(factor)
    whole = "".join(each["cell"] for each in outcomes) + "".join(trust)
    identity = hashlib.sha256(whole.encode()).hexdigest()
    prior, digest = record["prior"], record["prior_sha256"]
    sampler = f"{record['sampler'].partition('(')[0]}, {settings.steps} steps"

    def derivation(what: str) -> Derivation:
        method = f"{what} of {record['samples']} posterior samples from raw data"
        return Derivation(method, prior, digest, sampler, settings.seed)

    if folder.exists():  # of this very run: the folder is claimed
        shutil.rmtree(folder)
    with new_folder(folder) as temporary:
        label = replace(MEAN, identity=f"{identity}/{MEAN.number}")
        written = write_derived_series(temporary / "mean", mean, volume, derivation("Mean"), label)
        about: dict[str, Any] = {"images": written.images, "clipped": written.clipped}
        if deviation is not None:
            what = derivation(f"Standard deviation ({trust[1]})")
            about |= _write_deviation(temporary, deviation, volume, what, trust[0], identity)
    return about | {"agreement": agreement(mean, volume.pixels)}


def agreement(mean: np.ndarray, source: np.ndarray) -> float:
    """The correlation of result and source: near 1 if each slice lies where it belongs."""
    a, b = mean.ravel().astype(np.float64), source.ravel().astype(np.float64)
    a, b = a - a.mean(), b - b.mean()
    size = float(np.sqrt((a @ a) * (b @ b)))
    return round(float(a @ b) / size, 4) if size > 0 else 0.0


def _trust(factor: Factor | None) -> tuple[str, str]:
    """What a deviation is worth: for a viewer's list, and in full."""
    if factor is None:
        return "NOT calibrated", "NOT calibrated: intervals from it may be too narrow"
    return f"{factor.pixels:.0%} in +-{factor.factor:.2f} SD", factor.guarantee.rstrip(".")


def _write_deviation(
    folder: Path,
    deviation: np.ndarray,
    volume: DicomVolume,
    what: Derivation,
    trust: str,
    identity: str,
) -> dict[str, Any]:
    """As a series; where highdicom is installed, as a floating-point map too."""

    def label(of: SeriesLabel) -> SeriesLabel:
        text = of.description.replace(",", f", {trust},", 1)
        return SeriesLabel(text, of.number, identity=f"{identity}/{of.number}")

    series = folder / "deviation"
    written = write_uncertainty_series(series, deviation, volume, what, label(DEVIATION))
    about = {"deviation_clipped": written.clipped, "parametric_map": False}
    if importlib.util.find_spec("highdicom") is not None:
        from invdiff.datasets.dicom_parametric_map import DEVIATION_MAP, write_parametric_map

        path = folder / "deviation-map.dcm"
        write_parametric_map(path, deviation, volume, what, label(DEVIATION_MAP))
        about["parametric_map"] = True
    return about
