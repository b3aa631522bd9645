"""From stored numbers to values: padding, stray bits, sign, rescale."""

from __future__ import annotations

import numpy as np

from invdiff.datasets.dicom_limits import DicomError
from invdiff.datasets.dicom_planes import Plane

__all__ = ["padding_of", "values_of"]


def padding_of(raw: np.ndarray, plane: Plane) -> np.ndarray:
    """Where stored numbers lie in the padding range, bool, the same shape."""
    if plane.padding is None:
        return np.zeros(raw.shape, bool)
    allocated = plane.bits[0]
    stored = _signed(raw.astype(np.int64), allocated, plane.signed)
    # Writers disagree about the sign of PixelPaddingValue; only its bits are certain.
    first, last = sorted(
        int(_signed(np.array(bound), allocated, plane.signed)) for bound in plane.padding
    )
    return (stored >= first) & (stored <= last)


def values_of(raw: np.ndarray, plane: Plane) -> np.ndarray:
    """Float32 values: the stored bits alone, with their sign, times slope plus intercept.

    Bits outside of the stored ones may hold an overlay.

    Raises:
        DicomError: If the array is not of the declared size.
    """
    if raw.shape != plane.shape:
        raise DicomError("holds pixels of another size than its header declares.")
    numbers = _signed(raw.astype(np.int64), plane.bits[1], plane.signed)
    return (numbers * plane.slope + plane.intercept).astype(np.float32)


def _signed(numbers: np.ndarray, bits: int, signed: bool) -> np.ndarray:
    """The lowest bits, as two's complement if signed."""
    kept = numbers & ((1 << bits) - 1)
    half = 1 << (bits - 1)
    return (kept ^ half) - half if signed else kept
