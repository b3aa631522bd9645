"""The header and geometry of a volume that was never in a scanner."""

from __future__ import annotations

from collections.abc import Sequence

from pydicom import Dataset

from invdiff.datasets.dicom_derivation import SeriesLabel, new_uid
from invdiff.datasets.dicom_planes import Plane

__all__ = ["simulated_header", "simulated_planes"]


def simulated_header(modality: str, label: SeriesLabel) -> Dataset:
    """What would come from the scanner: a study of its own, of a patient "SIMULATED"."""
    moment = label.moment
    header = Dataset()
    header.PatientName = "SIMULATED^PHANTOM"
    header.PatientID = "SIMULATED"
    header.PatientSex = "O"
    header.PatientBirthDate = None
    header.StudyInstanceUID = new_uid(label.identity, "study")
    header.StudyID = "1"
    header.StudyDate, header.StudyTime = moment[:8], moment[8:]
    header.Manufacturer = "invdiff"
    header.PatientPosition = "HFS"
    return header


def simulated_planes(shape: Sequence[int], spacing: Sequence[float]) -> tuple[Plane, ...]:
    """Axial planes around the origin."""
    corner = [-(count - 1) / 2 * step for count, step in zip(shape, spacing, strict=True)]
    return tuple(
        Plane(
            file=k,
            frame=0,
            multiframe=False,
            shape=(shape[1], shape[2]),
            position=(corner[2], corner[1], corner[0] + k * spacing[0]),
            orientation=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
            spacing=(spacing[1], spacing[2]),
            thickness=spacing[0],
            slope=1.0,
            intercept=0.0,
            bits=(16, 16),
            signed=True,
            padding=None,
            group=(),
            acquisition="",
        )
        for k in range(shape[0])
    )
