"""Writing DICOM series: derived from one that was read, or of a simulated volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.valuerep import format_number_as_ds

from invdiff.datasets.dicom_derivation import Derivation, SeriesLabel, new_uid
from invdiff.datasets.dicom_folder import new_folder, save_image
from invdiff.datasets.dicom_images import add_pixels, add_source, derived_header, place
from invdiff.datasets.dicom_limits import quiet_pydicom
from invdiff.datasets.dicom_planes import Plane
from invdiff.datasets.dicom_quantise import Rescale, quantise, rescale_for, window_for
from invdiff.datasets.dicom_simulated import simulated_header, simulated_planes
from invdiff.datasets.dicom_volume import DicomVolume
from invdiff.errors import ShapeError

__all__ = [
    "DEVIATION",
    "MEAN",
    "SIMULATED",
    "WrittenSeries",
    "write_derived_series",
    "write_series",
    "write_uncertainty_series",
]

MEAN = SeriesLabel("invdiff posterior mean, not for diagnosis", 901)
DEVIATION = SeriesLabel("invdiff posterior SD, not for diagnosis", 902)
SIMULATED = SeriesLabel("invdiff simulated phantom", 1)


@dataclass(frozen=True)
class WrittenSeries:
    """What was written.

    Arguments:
        images: How many files.
        clipped: How many values did not fit into 16 bits and were clipped.
        rescale: Slope and intercept; reading returns the values to within half of the slope.
        series_uid: Of the new series.
    """

    images: int
    clipped: int
    rescale: Rescale
    series_uid: str = field(repr=False)


@quiet_pydicom()
def write_derived_series(
    folder: str | Path,
    values: np.ndarray,
    source: DicomVolume,
    derivation: Derivation,
    label: SeriesLabel = MEAN,
    rescale: Rescale | None = None,
) -> WrittenSeries:
    """Writes values on the grid of ``source`` as a new series of the same patient and study.

    Single-frame CT or MR images, DERIVED and SECONDARY, with new UIDs, references to the source
    images, and no other attributes than those listed in ``dicom_attributes``.

    Arguments:
        folder: A new one; its files are numbered by position.
        values: (slices, rows, columns) in HU for CT.
        source: What they were derived from.
        derivation: How.
        label: How the series appears.
        rescale: Slope and intercept of the integers; by default ``rescale_for``.

    Raises:
        ShapeError: If the values do not have the shape of the source.
        NotFinite: If a value is NaN or infinite.
        ValueError: If the source lacks a StudyInstanceUID, or its header cannot be encoded.
        FileExistsError: If the folder exists.
        OSError: If it cannot be written; nothing is left then.
    """
    if values.shape != source.pixels.shape:
        raise ShapeError(
            f"The values have shape {values.shape}, but the source {source.pixels.shape} (slices, "
            "rows, columns). A derived series lies on the grid of its source."
        )
    headers = []
    for header, plane in zip(source.headers, source.planes, strict=True):
        if not header.get("StudyInstanceUID"):
            raise ValueError("The source lacks a StudyInstanceUID, so nothing can join its study.")
        headers.append(derived_header(header, source.modality))
        add_source(headers[-1], header, plane, derivation.description)
    rescale = rescale or rescale_for(values, source.modality)
    window = label.window or window_for(values, source.modality)
    return _write(
        folder, values, headers, source.planes, source.spacing[0], label, rescale, window
    )


def write_uncertainty_series(
    folder: str | Path,
    deviation: np.ndarray,
    source: DicomVolume,
    derivation: Derivation,
    label: SeriesLabel = DEVIATION,
    rescale: Rescale | None = None,
) -> WrittenSeries:
    """Writes standard deviations as a series that ordinary viewers show.

    In CT the integers are ten times the standard deviation in HU (slope 0.1). Arguments and
    errors as ``write_derived_series``; ValueError also if a deviation is negative.
    """
    if (deviation < 0).any():
        raise ValueError("A standard deviation is negative. Expected all to be at least 0.")
    if rescale is None and source.modality == "CT":
        rescale = (0.1, 0.0)
    if label.window is None:
        label = SeriesLabel(**vars(label) | {"window": window_for(deviation, "SD")})
    return write_derived_series(folder, deviation, source, derivation, label, rescale)


@quiet_pydicom()
def write_series(
    folder: str | Path,
    values: np.ndarray,
    spacing: tuple[float, float, float],
    modality: str,
    label: SeriesLabel = SIMULATED,
    rescale: Rescale | None = None,
) -> WrittenSeries:
    """Writes a simulated volume as axial slices of a study of its own, of a patient "SIMULATED".

    Arguments:
        folder: A new one.
        values: (slices, rows, columns): slices towards the head, rows towards the back, columns
            towards the left of the patient; in HU for CT.
        spacing: Of slices, rows and columns, in mm. The volume is centred at the origin.
        modality: "CT" or "MR".
        label: How the series appears.
        rescale: As for ``write_derived_series``.

    Raises:
        ShapeError, NotFinite, ValueError, FileExistsError, OSError: As ``write_derived_series``.
    """
    if values.ndim != 3 or 0 in values.shape:
        raise ShapeError(
            f"The values have shape {values.shape}, expected (slices, rows, columns)."
        )
    if modality not in ("CT", "MR") or not min(spacing) > 0:
        raise ValueError(
            f"The modality is {modality!r} and the spacing {spacing}; expected CT or MR, and "
            "three positive numbers."
        )
    planes = simulated_planes(values.shape, spacing)
    study = simulated_header(modality, label)
    headers = [derived_header(study, modality) for _ in planes]
    for header in headers:
        header.DerivationDescription = "Simulated by invdiff: no patient; not for diagnostic use"
    rescale = rescale or rescale_for(values, modality)
    window = label.window or window_for(values, modality)
    return _write(folder, values, headers, planes, spacing[0], label, rescale, window)


def _write(
    folder: str | Path,
    values: np.ndarray,
    headers: Sequence[Dataset],
    planes: Sequence[Plane],
    distance: float,
    label: SeriesLabel,
    rescale: Rescale,
    window: tuple[float, float],
) -> WrittenSeries:
    slope, intercept = (format_number_as_ds(float(number)) for number in rescale)
    rescale = float(slope), float(intercept)  # what a reader will see
    stored, clipped = quantise(values, rescale)
    series = new_uid(label.identity, "series")
    frame_of_reference = new_uid(label.identity, "frame of reference")
    moment = label.moment
    with new_folder(folder) as temporary:
        for k, (header, plane) in enumerate(zip(headers, planes, strict=True)):
            header.SOPInstanceUID = new_uid(label.identity, f"image {k}")
            header.SeriesInstanceUID = series
            header.SeriesNumber = label.number
            header.SeriesDescription = label.description
            header.InstanceNumber = k + 1
            header.FrameOfReferenceUID = header.get("FrameOfReferenceUID") or frame_of_reference
            header.ContentDate = header.InstanceCreationDate = moment[:8]
            header.ContentTime = header.InstanceCreationTime = moment[8:]
            place(header, plane, distance, len(planes) == 1)
            add_pixels(header, stored[k], (slope, intercept), window)
            save_image(temporary / f"{k + 1:05}.dcm", header)
    return WrittenSeries(len(planes), clipped, rescale, series)
