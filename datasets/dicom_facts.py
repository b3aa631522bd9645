"""Looking up the attributes of one frame, single-frame or Enhanced multi-frame."""

from __future__ import annotations

from typing import Any

from pydicom import Dataset

from invdiff.datasets.dicom_limits import DicomError

__all__ = ["Facts"]

LARGEST = 1e9  # of a number in a header; squares and products of two stay finite in float32
# Where an Enhanced multi-frame image keeps, for each frame, what a single-frame image has on top.
MACROS = {
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "SliceThickness": "PixelMeasuresSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
    "RescaleType": "PixelValueTransformationSequence",
    "EffectiveEchoTime": "MREchoSequence",
    "DiffusionBValue": "MRDiffusionSequence",
    "TemporalPositionIndex": "FrameContentSequence",
    "FrameAcquisitionNumber": "FrameContentSequence",
    "StackID": "FrameContentSequence",
}


class Facts:
    """Attributes of one frame: its own, else those shared by all frames, else the file's.

    Arguments:
        header: Of the file.
        item: The frame's functional groups, or None for a single-frame image.
    """

    def __init__(self, header: Dataset, item: Dataset | None) -> None:
        shared = header.get("SharedFunctionalGroupsSequence") or [Dataset()]
        self.header = header
        self.groups = () if item is None else (item, shared[0])

    def get(self, name: str) -> Any:
        """The attribute's value, or None."""
        for group in self.groups:
            macro = group.get(MACROS[name]) if name in MACROS else None
            if macro and macro[0].get(name) is not None:
                return macro[0].get(name)
        return self.header.get(name)

    def frame_type(self) -> tuple[str, ...]:
        """Its parts, such as ORIGINAL, PRIMARY, AXIAL."""
        for group in self.groups:
            for name in ("MRImageFrameTypeSequence", "CTImageFrameTypeSequence"):
                if group.get(name):
                    return _texts(group.get(name)[0].get("FrameType"))
        return _texts(self.header.get("ImageType"))

    def numbers(self, name: str, count: int) -> tuple[float, ...]:
        """That many finite numbers. Raises DicomError if there are others, or none."""
        value = self.get(name)
        parts = [value] if isinstance(value, int | float) else list(value or [])
        found = tuple(float(part) for part in parts)
        if len(found) != count or not all(abs(number) <= LARGEST for number in found):
            raise DicomError(f"lacks {name} as {count} finite numbers. It cannot be used.")
        return found

    def number(self, name: str, default: float | None) -> float | None:
        """One finite number, or the default if there is none. Raises DicomError."""
        return default if self.get(name) in (None, "") else self.numbers(name, 1)[0]

    def integer(self, name: str) -> int:
        """A whole number of the file. Raises DicomError."""
        value = self.header.get(name)
        if not isinstance(value, int):
            raise DicomError(f"lacks {name} as a number. Its pixels cannot be read.")
        return int(value)


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(str(part) for part in ([value] if isinstance(value, str) else value or []))
