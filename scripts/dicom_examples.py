"""DICOM files to test and to fuzz readers with: pydicom's own, and Enhanced ones made of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pydicom
from pydicom import Dataset
from pydicom.uid import (
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    JPEGLossless,
    JPEGLosslessSV1,
)

FILES = Path(pydicom.__file__).parent / "data" / "test_files"
SMALL = (
    "CT_small.dcm",
    "MR_small.dcm",
    "MR_small_RLE.dcm",
    "MR_small_bigendian.dcm",
    "MR_small_implicit.dcm",
    "MR_small_jp2klossless.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "MR_small_padded.dcm",
)
PER_FILE = (  # what moves into functional groups
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "RescaleSlope",
    "RescaleIntercept",
    "RescaleType",
)


def enhanced(images: Sequence[Dataset]) -> Dataset:
    """One Enhanced CT or MR image of single-frame ones, in the given order, uncompressed."""
    whole = Dataset()
    whole.update({e.tag: e for e in images[0] if e.keyword not in (*PER_FILE, "PixelData")})
    whole.file_meta = pydicom.dataset.FileMetaDataset()
    whole.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    ct = images[0].Modality == "CT"
    whole.SOPClassUID = EnhancedCTImageStorage if ct else EnhancedMRImageStorage
    whole.NumberOfFrames = len(images)
    measures = _item(images[0], "PixelSpacing", "SliceThickness")
    whole.SharedFunctionalGroupsSequence = [Dataset()]
    whole.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence = [measures]
    whole.PerFrameFunctionalGroupsSequence = [_groups(image) for image in images]
    whole.PixelData = b"".join(image.PixelData for image in images)
    whole["PixelData"].VR = "OW"
    return whole


def lossless_jpeg(source: Path, target: Path, syntax: str) -> Path:
    """A copy of a file, compressed as lossless JPEG (Process 14) by GDCM."""
    import gdcm

    kinds = {
        JPEGLossless: gdcm.TransferSyntax.JPEGLosslessProcess14,
        JPEGLosslessSV1: gdcm.TransferSyntax.JPEGLosslessProcess14_1,
    }
    reader, change, writer = (
        gdcm.ImageReader(),
        gdcm.ImageChangeTransferSyntax(),
        gdcm.ImageWriter(),
    )
    reader.SetFileName(str(source))
    change.SetTransferSyntax(gdcm.TransferSyntax(kinds[syntax]))
    writer.SetFileName(str(target))
    reader.Read()
    change.SetInput(reader.GetImage())
    change.Change()
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    if not writer.Write():
        raise ValueError("GDCM could not compress it. Choose another file.")
    return target


def _groups(image: Dataset) -> Dataset:
    groups = Dataset()
    groups.PlanePositionSequence = [_item(image, "ImagePositionPatient")]
    groups.PlaneOrientationSequence = [_item(image, "ImageOrientationPatient")]
    if "RescaleSlope" in image:
        item = _item(image, "RescaleSlope", "RescaleIntercept")
        item.RescaleType = "HU" if image.Modality == "CT" else "US"
        groups.PixelValueTransformationSequence = [item]
    return groups


def _item(image: Dataset, *names: str) -> Dataset:
    item = Dataset()
    for name in names:
        item[name] = image[name]
    return item


def series_of_five() -> list[Path]:
    """The CT series of five slices, 2.5 mm apart, that pydicom carries."""
    return sorted((FILES / "dicomdirtests" / "98892001" / "CT5N").iterdir())


def seeds(folder: Path) -> list[Path]:
    """Valid files of many encodings, small ones; those that must be made go into the folder."""
    made = folder / "enhanced.dcm"
    slices = [pydicom.dcmread(path) for path in series_of_five()]
    enhanced(slices).save_as(made, enforce_file_format=True)
    jpeg = [
        lossless_jpeg(FILES / "CT_small.dcm", folder / f"jpeg-{k}.dcm", syntax)
        for k, syntax in enumerate((JPEGLossless, JPEGLosslessSV1))
    ]
    return [*(FILES / name for name in SMALL), *series_of_five()[:1], made, *jpeg]
