"""One DICOM file: its header, then its pixels, within limits.

Nothing here is safe against a decoder that crashes: ``dicom_worker`` runs it in another process.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from pydicom import Dataset
from pydicom.filereader import read_file_meta_info
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    LegacyConvertedEnhancedMRImageStorage,
    MRImageStorage,
    RLELossless,
)

from invdiff.datasets.dicom_attributes import READ
from invdiff.datasets.dicom_decoding import plugin_of, without_complaints
from invdiff.datasets.dicom_kept import pack
from invdiff.datasets.dicom_limits import (
    DicomError,
    DicomLimits,
    clear_errors,
    quiet_pydicom,
)
from invdiff.datasets.dicom_planes import Plane, planes_of

__all__ = ["KINDS", "Description", "describe", "frame_bytes", "frames"]

KINDS = {  # SOP class: modality, whether multi-frame
    CTImageStorage: ("CT", False),
    EnhancedCTImageStorage: ("CT", True),
    LegacyConvertedEnhancedCTImageStorage: ("CT", True),
    MRImageStorage: ("MR", False),
    EnhancedMRImageStorage: ("MR", True),
    LegacyConvertedEnhancedMRImageStorage: ("MR", True),
}
RLE_EXPANSION = 64  # two bytes of a run become at most 128


@dataclass(frozen=True)
class Description:
    """A file without its pixels.

    Arguments:
        modality: "CT", "MR", or "" for a file of another kind, of which nothing more is read.
        planes: Of its frames.
        localizers: How many frames are scouts; they have no planes.
        header: The attributes that a derived image keeps, as DICOM in Explicit VR Little Endian.
        lossy: Whether it was ever compressed with loss.
    """

    modality: str
    planes: tuple[Plane, ...] = ()
    localizers: int = 0
    header: bytes = b""
    lossy: bool = False


def describe(path: Path, file: int, limits: DicomLimits) -> Description:
    """Reads the header of a file; ``file`` is its position. Raises DicomError."""
    with quiet_pydicom(), clear_errors("header data"):
        header = _read(path, limits, pixels=False)
        modality, multiframe = KINDS.get(header.get("SOPClassUID"), ("", False))
        if not modality:
            return Description("")
        _check_size(header, limits)
        planes = planes_of(header, file, modality, multiframe)
        localizers = int(header.get("NumberOfFrames") or 1) - len(planes)
        lossy = header.get("LossyImageCompression") == "01"
        return Description(modality, tuple(planes), localizers, pack(header), lossy)


def frames(path: Path, wanted: Sequence[int], limits: DicomLimits) -> Iterator[np.ndarray]:
    """The stored numbers of the wanted frames, (rows, columns), neither masked nor rescaled.

    Raises:
        DicomError: If pixels are missing, truncated, more or fewer than declared, or cannot be
            decoded.
    """
    with quiet_pydicom(), clear_errors("pixel data"):
        header = _read(path, limits, pixels=True)
        _check_size(header, limits)
        syntax = UID(header.file_meta.TransferSyntaxUID)
        _check_pixels(header, syntax)
        shape = (header.Rows, header.Columns)
        decoder, plugin = get_decoder(syntax), plugin_of(syntax)
        decoded = decoder.iter_array(
            header, indices=list(wanted), raw=True, decoding_plugin=plugin
        )
    for _ in wanted:  # not a loop over the decoder: what it raises is to be seen
        with quiet_pydicom(), clear_errors(f"pixel data ({syntax.name})"):
            with without_complaints(plugin):
                array = next(decoded)[0]
            if array.shape != shape or array.dtype.kind not in "iu":
                raise DicomError("decodes to another size than the header declares.")
        yield array


def frame_bytes(path: Path, limits: DicomLimits) -> int:
    """The declared size of one frame. Raises DicomError."""
    with quiet_pydicom(), clear_errors("header data"):
        return _check_size(_read(path, limits, pixels=False), limits)


def _read(path: Path, limits: DicomLimits, pixels: bool) -> Dataset:
    if path.stat().st_size > limits.file_bytes:
        raise DicomError(f"is larger than {limits.file_bytes} bytes (DicomLimits.file_bytes).")
    _check_syntax(read_file_meta_info(path).get("TransferSyntaxUID"))
    wanted = [*READ, "PixelData"] if pixels else list(READ)
    return pydicom.dcmread(path, stop_before_pixels=not pixels, specific_tags=wanted)


def _check_syntax(syntax: object) -> None:
    """Before pydicom reads on: it inflates without a limit."""
    if syntax == DeflatedExplicitVRLittleEndian:
        raise DicomError(
            "is deflated, and could unpack to any size. Convert it to Explicit VR Little Endian."
        )
    try:
        get_decoder(str(syntax))
    except NotImplementedError:
        raise DicomError("has no transfer syntax that is known here. Refused.") from None


def _check_size(header: Dataset, limits: DicomLimits) -> int:
    names = ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated")
    sizes = [header.get(name) for name in names]
    frames = int(header.get("NumberOfFrames") or 1)
    if not all(isinstance(size, int) and size > 0 for size in (*sizes, frames)):
        raise DicomError("does not declare the size of its pixels. It is damaged.")
    rows, columns, samples, bits = map(int, sizes)
    if samples != 1 or header.get("PhotometricInterpretation") not in (
        "MONOCHROME1",
        "MONOCHROME2",
    ):
        raise DicomError("is not a monochrome image. Expected CT or MR images.")
    size = rows * columns * ((bits + 7) // 8)
    if size > limits.frame_bytes or size * frames > limits.pixel_bytes or frames > limits.files:
        raise DicomError(
            f"declares more pixels than allowed: at most {limits.frame_bytes} bytes a frame, "
            f"{limits.pixel_bytes} in all, {limits.files} frames (DicomLimits)."
        )
    return size


def _check_pixels(header: Dataset, syntax: UID) -> None:
    if "PixelData" not in header:
        raise DicomError("has no pixel data. It may be truncated: export or copy it again.")
    stored = len(header.PixelData)
    declared = header.Rows * header.Columns * header.BitsAllocated // 8
    declared *= int(header.get("NumberOfFrames") or 1)
    if not syntax.is_encapsulated and stored < declared:
        raise DicomError("holds fewer pixels than it declares. It is truncated: copy it again.")
    if syntax == RLELossless and declared > RLE_EXPANSION * stored:
        raise DicomError("declares more pixels than its run lengths can hold. It is damaged.")
    if syntax.is_encapsulated and not get_decoder(syntax).is_available:
        raise DicomError(
            f"is compressed as {syntax.name}, for which no decoder is installed. "
            "Install those for all kinds of JPEG with: pip install invdiff[dicom]"
        )
