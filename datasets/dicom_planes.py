"""What one DICOM image, or one frame of a multi-frame image, says about its place and values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pydicom import Dataset

from invdiff.datasets.dicom_facts import Facts
from invdiff.datasets.dicom_limits import DicomError

__all__ = ["Plane", "planes_of"]

# Images that differ in one of these are of different volumes.
SPLITTING = (
    "SeriesInstanceUID",
    "SOPClassUID",
    "FrameOfReferenceUID",
    "StackID",
    "EchoNumbers",
    "EchoTime",
    "EffectiveEchoTime",
    "DiffusionBValue",
    "TemporalPositionIdentifier",
    "TemporalPositionIndex",
)


@dataclass(frozen=True)
class Plane:
    """One slice, without its pixels.

    Arguments:
        file, frame: The position of its file, and of the frame in it, both from 0.
        multiframe: Whether the file is of an Enhanced multi-frame kind.
        shape: Rows and columns.
        position: Of the centre of the first pixel, LPS, in mm.
        orientation: Unit vectors along a row (x, y, z) and along a column (x, y, z).
        spacing: Between rows and between columns, in mm.
        thickness: In mm, or None.
        slope, intercept: From stored numbers to values.
        bits: Allocated for each number, and stored.
        signed: Whether stored numbers are.
        padding: First and last stored number that mean no value, or None.
        group: What images of one volume share; it identifies, so it is not shown.
        acquisition: The acquisition's number.
    """

    file: int
    frame: int
    multiframe: bool
    shape: tuple[int, int]
    position: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing: tuple[float, ...]
    thickness: float | None
    slope: float
    intercept: float
    bits: tuple[int, int]
    signed: bool
    padding: tuple[int, int] | None
    group: tuple[str, ...] = field(repr=False)
    acquisition: str = field(repr=False)

    @property
    def label(self) -> str:
        """How a message names it."""
        frame = f", frame {self.frame + 1}" if self.multiframe else ""
        return f"file {self.file + 1}{frame}"


def planes_of(header: Dataset, file: int, modality: str, multiframe: bool) -> list[Plane]:
    """The planes of a file, without localizers; ``file`` is its position.

    Raises:
        DicomError: If its geometry, its rescale or its pixel description is missing or wrong.
    """
    frames = [Facts(header, item) for item in _frames(header, multiframe)]
    return [
        _plane(facts, file, frame, modality, multiframe)
        for frame, facts in enumerate(frames)
        if "LOCALIZER" not in facts.frame_type()[2:]
    ]


def _frames(header: Dataset, multiframe: bool) -> Sequence[Dataset | None]:
    declared = int(header.get("NumberOfFrames") or 1)
    if not multiframe:
        if declared != 1:
            raise DicomError("declares several frames, but its kind of image has one. Refused.")
        return (None,)
    items = header.get("PerFrameFunctionalGroupsSequence") or []
    if len(items) != declared:
        raise DicomError("declares another number of frames than it describes. It is damaged.")
    return list(items)


def _plane(facts: Facts, file: int, frame: int, modality: str, multiframe: bool) -> Plane:
    slope, intercept = _rescale(facts, modality)
    kind = facts.frame_type()
    row_spacing, column_spacing = facts.numbers("PixelSpacing", 2)
    signed = facts.integer("PixelRepresentation")
    if signed not in (0, 1):
        raise DicomError("has a PixelRepresentation that is neither 0 nor 1. It is damaged.")
    return Plane(
        file=file,
        frame=frame,
        multiframe=multiframe,
        shape=(facts.integer("Rows"), facts.integer("Columns")),
        position=facts.numbers("ImagePositionPatient", 3),
        orientation=facts.numbers("ImageOrientationPatient", 6),
        spacing=(row_spacing, column_spacing),
        thickness=facts.number("SliceThickness", None),
        slope=slope,
        intercept=intercept,
        bits=_bits(facts),
        signed=bool(signed),
        padding=_padding(facts),
        group=(*(str(facts.get(name)) for name in SPLITTING), *kind),
        acquisition=str(facts.get("FrameAcquisitionNumber") or facts.get("AcquisitionNumber")),
    )


def _rescale(facts: Facts, modality: str) -> tuple[float, float]:
    """CT has no values without a rescale; in MR it is optional."""
    if facts.get("ModalityLUTSequence"):
        raise DicomError("maps its values by a table (ModalityLUTSequence), which is not read.")
    # Single-frame CT may call HU "unspecified", US; Enhanced CT then holds perfusion and the like.
    known = (None, "", "HU") if facts.groups else (None, "", "HU", "US")
    if modality == "CT" and facts.get("RescaleType") not in known:
        raise DicomError("is not in Hounsfield units (RescaleType). Expected a CT image in HU.")
    default = (None, None) if modality == "CT" else (1.0, 0.0)
    slope = facts.number("RescaleSlope", default[0])
    intercept = facts.number("RescaleIntercept", default[1])
    if not slope or intercept is None:
        raise DicomError("lacks a RescaleSlope other than 0 and a RescaleIntercept.")
    return slope, intercept


def _bits(facts: Facts) -> tuple[int, int]:
    allocated, stored, high = map(facts.integer, ("BitsAllocated", "BitsStored", "HighBit"))
    if allocated not in (8, 16, 32) or not 0 < stored == high + 1 <= allocated:
        raise DicomError(
            "has bits allocated, stored and high bit that do not fit together; expected 8, 16 or "
            "32 bits, the stored ones lowest."
        )
    return allocated, stored


def _padding(facts: Facts) -> tuple[int, int] | None:
    first = facts.header.get("PixelPaddingValue")
    last = facts.header.get("PixelPaddingRangeLimit", first)
    if not isinstance(first, int) or not isinstance(last, int):
        return None
    return int(first), int(last)
