"""The part of a header that a derived image keeps, as bytes: from one process to the other."""

from __future__ import annotations

import io
from typing import Any

import pydicom
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.filereader import read_dataset

from invdiff.datasets.dicom_attributes import IDENTITY, KEPT
from invdiff.datasets.dicom_limits import DicomError, quiet_pydicom

__all__ = ["pack", "unpack"]


def pack(header: Dataset) -> bytes:
    """The kept attributes in Explicit VR Little Endian.

    One that cannot be read is left out, but not one that identifies the patient, study or image:
    those come out as they went in.

    Raises:
        DicomError: If that cannot be, such as for characters that are not of the declared set.
    """
    before: dict[str, Any] = {n: header.get_item(n) for n in IDENTITY if n in header}
    kept = Dataset()
    for name in (*IDENTITY, *KEPT):
        if name not in header:
            continue
        try:
            kept.add(header[name])
        except Exception:
            if name in IDENTITY:
                raise _lost(name) from None
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, kept, implicit_vr=False, little_endian=True)
    after = unpack(buffer.getvalue())
    for name, element in before.items():
        if isinstance(element, RawDataElement) and _bytes(element) != _bytes(after.get_item(name)):
            raise _lost(name)
    return buffer.getvalue()


@quiet_pydicom()
def unpack(packed: bytes) -> Dataset:
    """What ``pack`` packed."""
    return read_dataset(io.BytesIO(packed), is_implicit_VR=False, is_little_endian=True)


def _bytes(element: object) -> bytes:
    """Without padding, which has no meaning."""
    value = getattr(element, "value", None) or b""
    return value.strip(b" \0") if isinstance(value, bytes) else b""


def _lost(name: str) -> DicomError:
    return DicomError(f"has a damaged {name}, which must not be lost. Correct it at its source.")
