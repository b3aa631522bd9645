"""Which header attributes are read, and which of them a derived image keeps.

Everything else, private attributes above all, is never read.
"""

from __future__ import annotations

__all__ = ["IDENTITY", "KEPT", "READ", "modality_attributes"]

# Who and what: a derived image must carry them as they are, so an unreadable one is an error.
IDENTITY = (
    "SpecificCharacterSet",
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
)

PATIENT_AND_STUDY = (
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "StudyDescription",
    "ReferringPhysicianName",
)

SERIES = (
    "BodyPartExamined",
    "Laterality",
    "PatientPosition",
    "PositionReferenceIndicator",
    "InstitutionName",
    "Manufacturer",
    "ManufacturerModelName",
    "StationName",
    "DeviceSerialNumber",
    "SoftwareVersions",
)

ACQUISITION = (
    "AcquisitionNumber",
    "AcquisitionDate",
    "AcquisitionTime",
    "ContrastBolusAgent",
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
)

CT = ("KVP", "GantryDetectorTilt", "RotationDirection", "XRayTubeCurrent", "ExposureTime")

MR = (
    "ScanningSequence",
    "SequenceVariant",
    "ScanOptions",
    "MRAcquisitionType",
    "RepetitionTime",
    "EchoTime",
    "InversionTime",
    "EchoNumbers",
    "EchoTrainLength",
    "FlipAngle",
    "ImagedNucleus",
    "ImagingFrequency",
    "MagneticFieldStrength",
)

# Needed to place the pixels and to know what they mean.
IMAGE = (
    "ImageType",
    "InstanceNumber",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "NumberOfFrames",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "RescaleSlope",
    "RescaleIntercept",
    "RescaleType",
    "ModalityLUTSequence",
    "TemporalPositionIdentifier",
    "DiffusionBValue",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)

KEPT = PATIENT_AND_STUDY + SERIES + ACQUISITION + CT + MR
READ = IDENTITY + KEPT + IMAGE


def modality_attributes(modality: str) -> tuple[str, ...]:
    """What a derived image of this modality keeps of its source, beside its identity."""
    of_the_modality = {"CT": CT, "MR": MR}[modality]
    return tuple(name for name in KEPT if name not in (*CT, *MR) or name in of_the_modality)
