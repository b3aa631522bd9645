"""A volume that was read from a DICOM series."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from pydicom import Dataset

from invdiff.datasets.dicom_planes import Plane

__all__ = ["DicomVolume", "Skipped"]


@dataclass(frozen=True)
class Skipped:
    """How many files were found and not used, by reason.

    Arguments:
        not_dicom: Other files.
        links: Symbolic links, which are not followed.
        other_kinds: DICOM files that are not CT or MR images, a DICOMDIR among them.
        localizers: Scout images.
        other_volumes: Images of volumes that were not asked for.
    """

    not_dicom: int = 0
    links: int = 0
    other_kinds: int = 0
    localizers: int = 0
    other_volumes: int = 0


@dataclass(frozen=True, eq=False)
class DicomVolume:
    r"""Values on a regular grid, and where it lies in the patient.

    Arguments:
        pixels: Float32 (slices, rows, columns): HU for CT, else stored units after the rescale
            that the header asks for. Slices in the direction of the normal, (row direction) x
            (column direction).
        affine: Float64 (4, 4), :math:`(k, i, j, 1) \mapsto (x, y, z, 1)`: slice, row and column
            index to DICOM's patient coordinates (left, posterior, superior) in mm.
        spacing: Of slices, rows and columns, in mm; that of slices from their positions.
        modality: "CT" or "MR".
        padding: Bool, like ``pixels``: where the scanner stored "no value" (PixelPaddingValue).
        lossy: Whether the images were ever compressed with loss.
        skipped: What else was found.
        headers: For each slice, the attributes that a derived image keeps, of the patient too:
            they go into DICOM files only.
        planes: For each slice, its geometry as the header had it, and its frame.
    """

    pixels: np.ndarray = field(repr=False)
    affine: np.ndarray = field(repr=False)
    spacing: tuple[float, float, float]
    modality: str
    padding: np.ndarray = field(repr=False)
    lossy: bool
    skipped: Skipped
    headers: tuple[Dataset, ...] = field(repr=False)
    planes: tuple[Plane, ...] = field(repr=False)

    @property
    def units(self) -> str:
        """ "HU", or "1" for stored units."""
        return "HU" if self.modality == "CT" else "1"
