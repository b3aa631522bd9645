"""The header and pixels of one derived or simulated DICOM image, single-frame CT or MR."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import numpy as np
from pydicom import Dataset
from pydicom.uid import CTImageStorage, MRImageStorage
from pydicom.valuerep import format_number_as_ds

from invdiff.datasets.dicom_attributes import IDENTITY, modality_attributes
from invdiff.datasets.dicom_derivation import software_version
from invdiff.datasets.dicom_planes import Plane

__all__ = [
    "add_pixels",
    "add_source",
    "contributing_equipment",
    "derived_header",
    "place",
    "voi_function",
]

# Attributes that must be there, empty if unknown (type 2), and those that must have a value.
EMPTY = (
    "PatientName PatientID PatientBirthDate PatientSex StudyDate StudyTime AccessionNumber "
    "StudyID ReferringPhysicianName Manufacturer PositionReferenceIndicator PatientPosition "
    "Laterality"
).split()
EMPTY_OF = {
    "CT": ["KVP", "AcquisitionNumber"],
    "MR": "ScanOptions MRAcquisitionType RepetitionTime EchoTime EchoTrainLength".split(),
}
NEEDED_OF = {
    "CT": {},
    # An Enhanced image says it in other words; "RM", research mode, claims nothing.
    "MR": {"ScanningSequence": "RM", "SequenceVariant": "NONE"},
}
CLASS = {"CT": CTImageStorage, "MR": MRImageStorage}


def derived_header(source: Dataset, modality: str) -> Dataset:
    """A new header with what a derived image keeps of its source's."""
    header = Dataset()
    for name in (*IDENTITY, *modality_attributes(modality)):
        if name in source:
            header.add(copy.copy(source[name]))  # an element is shared, and changes with its value
    for name in (*EMPTY, *EMPTY_OF[modality]):
        if name not in header:
            setattr(header, name, None)
    for name, value in NEEDED_OF[modality].items():
        if not header.get(name):
            setattr(header, name, value)
    header.SOPClassUID = CLASS[modality]
    header.Modality = modality
    header.ImageType = ["DERIVED", "SECONDARY", "AXIAL" if modality == "CT" else "OTHER"]
    header.BurnedInAnnotation = "NO"
    return header


def place(header: Dataset, plane: Plane, distance: float, single: bool) -> None:
    """Writes position, orientation and spacing; ``distance`` is that of the slices in mm."""
    header.ImagePositionPatient = _decimals(plane.position)
    header.ImageOrientationPatient = _decimals(plane.orientation)
    header.PixelSpacing = _decimals(plane.spacing)
    thickness = distance if plane.thickness is None else plane.thickness
    (header.SliceThickness,) = _decimals([thickness])
    if header.Modality == "MR" and not single:
        (header.SpacingBetweenSlices,) = _decimals([distance])


def add_source(header: Dataset, source: Dataset, plane: Plane, description: str) -> None:
    """Says which image it was derived from, how, and with what."""
    item = Dataset()
    item.ReferencedSOPClassUID = source.SOPClassUID
    item.ReferencedSOPInstanceUID = source.SOPInstanceUID
    if plane.multiframe:
        item.ReferencedFrameNumber = plane.frame + 1
    item.PurposeOfReferenceCodeSequence = [
        _code("121322", "Source image for image processing operation")
    ]
    header.SourceImageSequence = [item]
    header.DerivationDescription = description
    header.ContributingEquipmentSequence = [contributing_equipment()]


def contributing_equipment() -> Dataset:
    """An item that names this software as what made the image."""
    equipment = Dataset()
    equipment.PurposeOfReferenceCodeSequence = [_code("109103", "Modifying Equipment")]
    equipment.Manufacturer = "invdiff"
    equipment.ManufacturerModelName = "invdiff"
    equipment.SoftwareVersions = software_version()
    equipment.ContributionDescription = "Posterior sampling; not for diagnostic use"
    return equipment


def add_pixels(
    header: Dataset, stored: np.ndarray, rescale: tuple[str, str], window: tuple[float, float]
) -> None:
    """Writes int16 (rows, columns), their slope and intercept, and the grey scale."""
    header.SamplesPerPixel = 1
    header.PhotometricInterpretation = "MONOCHROME2"
    header.Rows, header.Columns = stored.shape
    header.BitsAllocated = header.BitsStored = 16
    header.HighBit = 15
    header.PixelRepresentation = 1
    if header.Modality == "CT" or rescale != ("1.0", "0.0"):  # MR images usually have none
        header.RescaleSlope, header.RescaleIntercept = rescale
        header.RescaleType = "HU" if header.Modality == "CT" else "US"
    header.WindowCenter, header.WindowWidth = _decimals(window)
    if function := voi_function(window):
        header.VOILUTFunction = function
    header.PixelData = stored.astype("<i2").tobytes()


def voi_function(window: tuple[float, float]) -> str | None:
    """The default function does not allow a width below 1."""
    return "LINEAR_EXACT" if window[1] < 1 else None


def _code(value: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue = value
    code.CodingSchemeDesignator = "DCM"
    code.CodeMeaning = meaning
    return code


def _decimals(numbers: Iterable[float]) -> list[str]:
    return [format_number_as_ds(float(number)) for number in numbers]
