"""What names a patient appears in no message, warning, log, repr or output but DICOM.

A string is planted in every text attribute of the inputs, in their private attributes and in the
names of files and folders; then reading and writing succeed and fail in many ways.
"""

import logging
import traceback
import warnings

import numpy as np
import pydicom
import pytest
from dicom_helpers import FILES, changed, enhanced, five, quickly, series_of_five
from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.tag import BaseTag

from invdiff.datasets.dicom_derivation import Derivation
from invdiff.datasets.dicom_limits import DicomLimits
from invdiff.datasets.dicom_parametric_map import write_parametric_map
from invdiff.datasets.dicom_planes import SPLITTING
from invdiff.datasets.dicom_reader import read_series
from invdiff.datasets.dicom_writer import write_derived_series, write_uncertainty_series

SECRET = "ZQXSECRET"
NUMBER = "9988776655"  # for UIDs, which hold digits
MARKS = (SECRET, NUMBER)
HOW = Derivation("mean of 4 posterior samples", "ct", "cd" * 32, "DPS()", 1)
TEXT = {"LO", "SH", "PN", "LT", "ST", "UT", "UC", "AE", "CS", "UR"}
# A reader or highdicom acts on these; each is spoilt alone, below.
MEANINGFUL = {
    "SpecificCharacterSet",
    "ImageType",
    "PhotometricInterpretation",
    "RescaleType",
    "LossyImageCompression",
    "PatientSex",
}


def plant(k, image):
    """Marks in every text attribute there is, and in those that a derived image keeps."""
    names = {keyword_for_tag(element.tag) for element in image if element.VR in TEXT}
    names |= {"PatientName", "PatientID", "IssuerOfPatientID", "StudyDescription", "StationName"}
    names |= {"AccessionNumber", "StudyID", "InstitutionName", "ReferringPhysicianName"}
    for name in names - MEANINGFUL - {""}:
        image[name] = pydicom.DataElement(name, dictionary_VR(name), SECRET)
    for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        image[name].value = f"2.25.{NUMBER}.{name.count('e')}"
    image.SOPInstanceUID = f"2.25.{NUMBER}.{k + 10}"
    image["PatientAge"] = pydicom.DataElement("PatientAge", "AS", SECRET)  # not valid either
    block = image.private_block(0x0029, SECRET, create=True)
    block.add_new(1, "LO", SECRET)


def planted_folder(tmp_path, also=lambda k, image: None):
    folder = tmp_path / f"{SECRET}^JOHN" / SECRET

    def both(k, image):
        plant(k, image)
        also(k, image)

    five(folder, both)
    for path in sorted(folder.iterdir()):
        path.rename(path.with_name(f"{SECRET}{path.name}"))
    return folder


def spoil(name, value):
    """The attribute of the third slice becomes something that is not valid."""

    def change(k, image):
        if k == 2:
            kind = dictionary_VR(name)
            raw = value.encode() + b" " * (len(value) % 2)
            tag = tag_for_keyword(name)
            image[name] = RawDataElement(BaseTag(tag), kind, len(raw), raw, 0, False, True)

    return change


def cut(k, image):
    if k == 2:
        image.PixelData = image.PixelData[:100]


SPOILT = {
    name: spoil(name, SECRET)
    for name in (
        *MEANINGFUL,
        *("PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient", "RescaleSlope"),
        *("RescaleIntercept", "SliceThickness", "NumberOfFrames", "PatientWeight", "KVP"),
        *(name for name in SPLITTING if "UID" not in name and "Index" not in name),
    )
    if dictionary_VR(name) not in ("FD", "US")
} | {
    "series": spoil("SeriesInstanceUID", f"2.25.{NUMBER}.99"),
    "SOP class": spoil("SOPClassUID", f"2.25.{NUMBER}.98"),
    "position": spoil("ImagePositionPatient", "0\\0\\77"),
    "orientation": spoil("ImageOrientationPatient", "0\\1\\0\\0\\0\\1"),
    "pixels": cut,
}


class Witness:
    """Tries things, and keeps whatever could be seen of them."""

    def __init__(self, capfd, caplog):
        self.capfd, self.caplog = capfd, caplog
        self.texts: list[str] = []

    def attempt(self, action, *arguments, **options):
        """What it returns, or None after a failure, of which the whole traceback is seen."""
        self.caplog.clear()
        self.capfd.readouterr()
        result = None
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                result = action(*arguments, **options)
                self.texts.append(repr(result))
            except Exception:
                self.texts.append(traceback.format_exc())
        self.texts.append("\n".join(str(one.message) for one in caught))
        self.texts += [self.caplog.text, *self.capfd.readouterr()]
        return result

    def count(self, word):
        return sum(word in text for text in self.texts)


@pytest.fixture
def witness(capfd, caplog):
    caplog.set_level(logging.DEBUG)
    one = Witness(capfd, caplog)
    yield one
    assert [text for text in one.texts if any(mark in text for mark in MARKS)] == []


def test_the_marks_are_there_and_go_into_dicom_only(tmp_path, witness):
    folder = planted_folder(tmp_path)
    assert all(SECRET.encode() in path.read_bytes() for path in folder.iterdir())
    volume = witness.attempt(read_series, folder)
    assert volume.headers[0].PatientID == SECRET
    witness.texts += [str(part) for part in (volume.planes, volume.skipped, volume.affine)]
    out = tmp_path / "out"
    deviation = np.abs(volume.pixels)
    witness.attempt(write_derived_series, out / "mean", volume.pixels, volume, HOW)
    witness.attempt(write_uncertainty_series, out / "sd", deviation, volume, HOW)
    witness.attempt(write_parametric_map, out / "map.dcm", deviation, volume, HOW)
    files = [path for path in out.rglob("*") if path.is_file()]
    assert len(files) == 11
    assert all(SECRET.encode() in path.read_bytes() for path in files)
    witness.texts += [str(path.relative_to(tmp_path)) for path in files]
    # and a second time, where all of it exists
    for write in (write_derived_series, write_uncertainty_series):
        witness.attempt(write, out / "mean", deviation, volume, HOW)
    witness.attempt(write_parametric_map, out / "map.dcm", deviation, volume, HOW)
    witness.attempt(write_derived_series, out / "mean2", deviation[:2], volume, HOW)
    assert witness.count("Traceback") == 4


def test_every_kind_of_failure_is_silent_about_the_patient(tmp_path, witness):
    for name, change in SPOILT.items():
        folder = planted_folder(tmp_path / name, change)
        witness.attempt(read_series if name == "pixels" else quickly, folder)
    assert witness.count("DicomError") >= 15
    assert witness.count("Traceback") == witness.count("DicomError")


def test_the_process_that_reads_says_nothing(tmp_path, witness):
    """The same failures as users meet them: with all that pydicom logs and warns of."""
    names = (
        "PixelSpacing",
        "SpecificCharacterSet",
        "PatientWeight",
        "SOP class",
        "NumberOfFrames",
    )
    for name in names:
        witness.attempt(read_series, planted_folder(tmp_path / name, SPOILT[name]))


def test_damaged_compressed_and_multi_frame_files(tmp_path, witness):
    folder = tmp_path / SECRET
    folder.mkdir()
    for name in ("MR_small_RLE.dcm", "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm"):
        path = changed(FILES / name, folder / f"{SECRET}{name}", lambda image: plant(0, image))
        data = path.read_bytes()
        path.write_bytes(data[:-900] + bytes(900))
    slices = [pydicom.dcmread(path) for path in series_of_five()]
    with pydicom.config.disable_value_validation():
        plant(0, slices[0])
        whole = enhanced(slices)
        whole.NumberOfFrames = 4
        whole.save_as(folder / f"{SECRET}.dcm", enforce_file_format=True)
    for path in sorted(folder.iterdir()):
        witness.attempt(quickly, path)
    witness.attempt(quickly, folder)
    witness.attempt(quickly, folder, DicomLimits(file_bytes=10))
    witness.attempt(quickly, folder, DicomLimits(files=1))
    witness.attempt(quickly, folder / "missing")
    witness.attempt(quickly, [folder / f"{SECRET}nothing.dcm"])
    assert witness.count("DicomError") >= 8


def test_an_identity_that_would_be_changed_is_refused(tmp_path, witness):
    """Bytes that are not of the declared characters: better no image than another name."""

    def change(image):
        plant(0, image)
        image.SpecificCharacterSet = "ISO_IR 192"

    path = changed(FILES / "CT_small.dcm", tmp_path / "a.dcm", change)
    data = path.read_bytes()
    at = data.index(b"\x10\x00\x20\x00LO") + 8
    assert data[at : at + len(SECRET)] == SECRET.encode()
    path.write_bytes(data[:at] + b"\xff\xfe\xfd" + data[at + 3 :])
    assert witness.attempt(quickly, path) is None
    assert "has a damaged PatientID, which must not be lost" in witness.texts[0]
