"""Reading DICOM series: the right values at the right place, or a reason why not."""

import shutil
from functools import partial

import highdicom
import numpy as np
import pydicom
import pytest
from dicom_helpers import (
    FILES,
    changed,
    enhanced,
    five,
    lossless_jpeg,
    quickly,
    series_of_five,
)
from pydicom.pixels import apply_rescale
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import JPEGLossless, JPEGLosslessSV1

from invdiff.datasets.dicom_limits import DicomError, DicomLimits
from invdiff.datasets.dicom_reader import read_series
from invdiff.datasets.dicom_volume import Skipped

ENCODINGS = sorted(path.name for path in FILES.glob("MR_small*.dcm"))
EXTRA = [  # in the package pydicom-data
    "emri_small.dcm",
    "emri_small_RLE.dcm",
    "emri_small_big_endian.dcm",
    "emri_small_jpeg_2k_lossless.dcm",
    "emri_small_jpeg_ls_lossless.dcm",
]


def extra(name: str) -> str:
    path = pydicom.data.get_testdata_file(name, download=False)
    assert path is not None, "install pydicom-data"
    return path


@pytest.mark.filterwarnings("ignore:The pixel data is:UserWarning")  # of the reference
@pytest.mark.parametrize("name", ["CT_small.dcm", *ENCODINGS, "J2K_pixelrep_mismatch.dcm"])
def test_values_are_those_of_pydicom(name):
    image = pydicom.dcmread(FILES / name)
    volume = quickly(FILES / name)
    assert volume.pixels.dtype == np.float32
    assert np.array_equal(volume.pixels[0], apply_rescale(image.pixel_array, image))
    assert volume.modality == name[:2].replace("J2", "CT")
    assert volume.units == ("1" if volume.modality == "MR" else "HU")
    assert not volume.lossy
    assert not volume.padding.any()


def test_lossy_is_told():
    assert quickly(FILES / "693_J2KI.dcm").lossy


def test_a_series_is_sorted_by_position_and_placed(tmp_path):
    folder = five(tmp_path / "five", lambda k, image: setattr(image, "InstanceNumber", k * 3 % 5))
    volume = read_series(folder)
    images = [pydicom.dcmread(path) for path in series_of_five()]
    images.sort(key=lambda image: float(image.ImagePositionPatient[2]))
    expected = np.stack([apply_rescale(image.pixel_array, image) for image in images])
    assert np.array_equal(volume.pixels, expected)
    assert volume.spacing == (2.5, 0.488281, 0.488281)
    assert volume.skipped == Skipped()


def test_the_affine_agrees_with_highdicom(tmp_path):
    oblique = pydicom.dcmread(series_of_five()[0])
    rows, columns = np.array([0.8, 0.6, 0.0]), np.array([-0.36, 0.48, -0.8])
    normal = np.cross(rows, columns)

    def tilt(k, image):
        image.ImageOrientationPatient = [*rows, *columns]
        place = np.array([10.0, -20.0, 30.0]) + 2.5 * k * normal
        image.ImagePositionPatient = [f"{x:.10g}" for x in place]
        image.PixelSpacing = [0.7, 0.4]

    folder = five(tmp_path / "five", tilt)
    volume = quickly(folder)
    other = highdicom.get_volume_from_series([pydicom.dcmread(p) for p in folder.iterdir()])
    assert oblique.Rows == volume.pixels.shape[1]
    for index in [(0, 0, 0), (4, 0, 0), (0, 15, 0), (0, 0, 15), (2, 3, 5)]:
        place = volume.affine @ [*index, 1]
        voxel = np.rint(np.linalg.solve(other.affine, place)[:3]).astype(int)
        assert np.allclose(other.affine @ [*voxel, 1], place, atol=1e-6)
        assert other.array[tuple(voxel)] * 1.0 == volume.pixels[index]
    assert np.allclose(volume.spacing, (2.5, 0.7, 0.4), rtol=1e-9)


def test_slope_and_intercept_are_of_each_slice(tmp_path):
    def rescale(k, image):
        image.RescaleSlope, image.RescaleIntercept = str(1 + k / 4), str(-1000 + k)

    plain, volume = quickly(five(tmp_path / "a")), quickly(five(tmp_path / "b", rescale))
    k = np.arange(5)[:, None, None]
    assert np.array_equal(volume.pixels, (plain.pixels + 1024) * (1 + k / 4) - 1000 + k)


def test_padding_is_masked_whatever_sign_its_header_gives_it(tmp_path):
    def pad(image):
        numbers = np.frombuffer(image.PixelData, "<i2").copy()
        numbers[:7] = -2000
        numbers[7:9] = -1998
        image.PixelData = numbers.tobytes()
        image["PixelPaddingValue"] = pydicom.DataElement("PixelPaddingValue", "US", 63536)

    source = series_of_five()[0]
    volume = quickly(changed(source, tmp_path / "a.dcm", pad))
    assert volume.padding[0].ravel().nonzero()[0].tolist() == list(range(7))
    assert (volume.pixels[0].ravel()[:7] == -3024).all()

    def pad_range(image):
        pad(image)
        image["PixelPaddingRangeLimit"] = pydicom.DataElement(
            "PixelPaddingRangeLimit", "SS", -1998
        )

    volume = quickly(changed(source, tmp_path / "b.dcm", pad_range))
    assert volume.padding.sum() == 9


@pytest.mark.parametrize("signed", [0, 1])
def test_bits_outside_of_the_stored_ones_are_ignored(tmp_path, signed):
    """12 bits of 16, an overlay in the others."""
    rng = np.random.default_rng(0)
    lowest = -2048 if signed else 0
    numbers = rng.integers(lowest, lowest + 4096, (64, 64))
    stored = (numbers & 0xFFF) | (rng.integers(0, 16, (64, 64)) << 12)

    def store(image):
        image.BitsStored, image.HighBit, image.PixelRepresentation = 12, 11, signed
        image.PixelData = stored.astype("<u2").tobytes()

    volume = quickly(changed(FILES / "MR_small.dcm", tmp_path / "a.dcm", store))
    assert np.array_equal(volume.pixels[0], numbers)


def test_enhanced_multi_frame_is_the_same_volume(tmp_path):
    images = [pydicom.dcmread(path) for path in series_of_five()]
    images = [images[k] for k in (3, 0, 4, 1, 2)]  # frames are in any order
    whole = enhanced(images)
    whole.PerFrameFunctionalGroupsSequence[1].PixelValueTransformationSequence[0].RescaleSlope = 2
    whole.save_as(tmp_path / "whole.dcm", enforce_file_format=True)
    volume = read_series(tmp_path)
    expected = quickly(series_of_five())
    k = [plane.frame for plane in volume.planes].index(1)
    expected.pixels[k] = 2 * expected.pixels[k] + 1024
    assert np.array_equal(volume.pixels, expected.pixels)
    assert np.array_equal(volume.affine, expected.affine)
    assert volume.spacing == expected.spacing


@pytest.mark.parametrize("name", EXTRA)
def test_enhanced_mr_in_every_encoding(tmp_path, name):
    """pydicom's ten frames lack their geometry, which is added here."""

    def describe(image):
        image.PerFrameFunctionalGroupsSequence = []
        for k in range(10):
            groups, place = pydicom.Dataset(), pydicom.Dataset()
            place.ImagePositionPatient = [0, 0, -2 * k]
            groups.PlanePositionSequence = [place]
            image.PerFrameFunctionalGroupsSequence.append(groups)
        shared, measures, plane = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
        measures.PixelSpacing = [1, 1]
        plane.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [plane]
        image.SharedFunctionalGroupsSequence = [shared]

    volume = quickly(changed(extra(name), tmp_path / name, describe))
    frames = pydicom.dcmread(extra("emri_small.dcm")).pixel_array
    assert np.array_equal(volume.pixels, frames[::-1])
    assert volume.spacing == (2, 1, 1)


def test_what_is_no_slice_is_counted(tmp_path):
    folder = five(tmp_path / "five")
    for path in (FILES / "dicomdirtests" / "98892001" / "CT2N").iterdir():
        shutil.copy(path, folder / f"scout{path.name}")
    shutil.copy(FILES / "test-SR.dcm", folder)
    (folder / "notes.txt").write_text("hello")
    (folder / "deeper").mkdir()
    (folder / "deeper" / "short").write_bytes(b"")
    (folder / "link.dcm").symlink_to(FILES / "CT_small.dcm")
    (folder / "folder").symlink_to(FILES)
    volume = quickly(folder)
    assert volume.skipped == Skipped(not_dicom=2, links=2, other_kinds=1, localizers=2)
    assert volume.pixels.shape == (5, 16, 16)


def test_volumes_of_a_folder_are_chosen_by_number(tmp_path):
    five(tmp_path / "a")
    five(tmp_path / "b", lambda k, image: setattr(image, "SeriesInstanceUID", "2.25.7"))
    with pytest.raises(DicomError, match=r"2 volumes .*1: 5 images, 2: 5 images.*volume=1 to 2"):
        quickly(tmp_path)
    assert np.array_equal(quickly(tmp_path, volume=2).pixels, quickly(tmp_path / "b").pixels)
    assert quickly(tmp_path, volume=1).skipped.other_volumes == 5
    with pytest.raises(DicomError, match="Volume 3 was asked for; there are 2"):
        quickly(tmp_path, volume=3)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("EchoNumbers", "2"),
        ("EchoTime", "80"),
        ("DiffusionBValue", 1000.0),
        ("TemporalPositionIdentifier", "2"),
        ("AcquisitionNumber", "77"),
        ("ImageType", ["ORIGINAL", "PRIMARY", "P"]),
        ("FrameOfReferenceUID", "2.25.8"),
    ],
)
def test_one_series_of_two_volumes_is_told_apart(tmp_path, name, value):
    def change(k, image, **values):
        for name in values:
            setattr(image, name, values[name])

    five(tmp_path / "a", partial(change, AcquisitionNumber=1))
    five(tmp_path / "b", partial(change, **({"AcquisitionNumber": 1} | {name: value})))
    with pytest.raises(DicomError, match="2 volumes"):
        quickly(tmp_path)
    assert quickly(tmp_path, volume=2).pixels.shape == (5, 16, 16)


def test_slices_may_be_acquisitions_of_their_own(tmp_path):
    folder = five(tmp_path / "a", lambda k, image: setattr(image, "AcquisitionNumber", k))
    assert quickly(folder).pixels.shape == (5, 16, 16)


def move(k, change):
    def moved(number, image):
        if number == k:
            change(image)

    return moved


def shift(axis, distance):
    def shifted(image):
        image.ImagePositionPatient[axis] = float(image.ImagePositionPatient[axis]) + distance

    return shifted


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (move(4, shift(2, 2.5)), "lie 5 mm apart.*usual distance is 2.5 mm: about 1 slices miss"),
        (move(2, shift(2, 0.1)), "uneven spacing"),
        (move(2, shift(2, -2.5)), "Duplicates: file . and file . lie at the same position"),
        (move(2, shift(0, 0.1)), "off the line of the others"),
        (lambda k, image: shift(1, 0.3 * k)(image), r"shifted by 0.3 mm .*allow_tilt=True"),
        (
            move(3, lambda i: setattr(i, "ImageOrientationPatient", [0, 1, 0, 0, 0, -1])),
            "different orientations in one volume \\(file . and file .\\)",
        ),
        (move(1, lambda i: setattr(i, "PixelSpacing", [0.5, 0.5])), "different pixel spacings"),
        (
            move(1, lambda i: (setattr(i, "Rows", 8), setattr(i, "PixelData", bytes(256)))),
            "different sizes",
        ),
        (move(0, lambda i: setattr(i, "ImageOrientationPatient", [1, 0, 0, 1, 0, 0])), "orient"),
        (move(0, lambda i: setattr(i, "RescaleType", "OD")), "not in Hounsfield units"),
        (move(0, lambda i: delattr(i, "RescaleSlope")), "lacks a RescaleSlope"),
        (move(0, lambda i: setattr(i, "RescaleSlope", "0")), "lacks a RescaleSlope"),
        (move(0, lambda i: delattr(i, "ImagePositionPatient")), "lacks ImagePositionPatient"),
        (move(0, lambda i: setattr(i, "PixelSpacing", [1])), "lacks PixelSpacing as 2 finite"),
        (move(0, lambda i: setattr(i, "SamplesPerPixel", 3)), "not a monochrome"),
        (move(0, lambda i: setattr(i, "BitsStored", 17)), "do not fit together"),
        (move(0, lambda i: setattr(i, "HighBit", 14)), "do not fit together"),
        (move(0, lambda i: delattr(i, "PixelData")), "has no pixel data"),
        (move(0, lambda i: setattr(i, "ModalityLUTSequence", [pydicom.Dataset()])), "by a table"),
        (move(0, lambda i: setattr(i, "NumberOfFrames", 2)), "declares several frames"),
    ],
)
def test_what_is_no_volume_is_refused_with_the_reason(tmp_path, change, reason):
    with pytest.raises(DicomError, match=reason):
        quickly(five(tmp_path / "five", change))


def test_all_directions_not_orthogonal(tmp_path):
    skew = [1, 0, 0, 0.1, 1, 0]
    folder = five(tmp_path, lambda k, image: setattr(image, "ImageOrientationPatient", skew))
    with pytest.raises(DicomError, match="not orthogonal unit vectors"):
        quickly(folder)


def test_a_tilted_gantry_is_a_sheared_volume(tmp_path):
    folder = five(tmp_path, lambda k, image: shift(1, 0.3 * k)(image))
    volume = quickly(folder, allow_tilt=True)
    assert np.allclose(volume.affine[:3, 0], [0, 0.3, 2.5])
    assert volume.spacing[0] == pytest.approx(2.5)


def test_a_single_image_needs_a_thickness(tmp_path):
    path = changed(FILES / "CT_small.dcm", tmp_path / "a", lambda i: delattr(i, "SliceThickness"))
    with pytest.raises(DicomError, match="single image, file 1, without a slice thickness"):
        quickly(path)


@pytest.mark.parametrize(
    ("folder", "reason"),
    [
        ("77654033/CT2", "about 161 slices missing"),  # a scout mixed with three slices
        ("98892001/CT2N", "2 localizers and 0 DICOM files of other kinds"),
        ("98892003/MR700", "different orientations.*rotating"),  # rotating projections
        ("98892003/MR1", "3 volumes"),
        ("77654033/CR1", "0 localizers and 1 DICOM files of other kinds"),
        ("TINY_ALPHA", "does not declare the size of its pixels"),
    ],
)
def test_other_series_of_pydicom_are_refused(folder, reason):
    with pytest.raises(DicomError, match=reason):
        quickly(FILES / "dicomdirtests" / folder)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("MR_truncated.dcm", "holds fewer pixels than it declares"),
        ("image_dfl.dcm", "is deflated"),
        ("no_meta.dcm", "not a DICOM file"),
        ("rtplan_truncated.dcm", "other kinds"),
        ("SC_rgb_rle.dcm", "other kinds"),
        ("meta_missing_tsyntax.dcm", "no transfer syntax"),
        ("missing.dcm", "File 1 of 1 is not there"),
    ],
)
def test_other_files_of_pydicom_are_refused(name, reason):
    with pytest.raises(DicomError, match=reason):
        quickly(FILES / name)


def test_perfusion_maps_are_not_hounsfield_units():
    with pytest.raises(DicomError, match="not in Hounsfield units"):
        quickly(extra("eCT_Supplemental.dcm"))


def test_missing_decoders_are_named(monkeypatch):
    monkeypatch.setattr(get_decoder(JPEGLosslessSV1), "_available", {})
    said = r"JPEG Lossless.* no decoder is installed.*pip install invdiff\[dicom\]"
    with pytest.raises(DicomError, match=said):
        quickly(extra("bad_sequence.dcm"))


@pytest.mark.parametrize("syntax", [JPEGLossless, JPEGLosslessSV1], ids=["57", "70"])
@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small.dcm"])
def test_lossless_jpeg_is_exact(tmp_path, name, syntax):
    """Process 14, with any and with the first prediction; in the process of its own too."""
    path = lossless_jpeg(FILES / name, tmp_path / "a.dcm", syntax)
    assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == syntax
    found, plain = quickly(path), quickly(FILES / name)
    assert np.array_equal(found.pixels, plain.pixels)
    assert not found.lossy
    assert np.array_equal(read_series(path).pixels, plain.pixels)


def test_lossless_jpeg_that_is_damaged(tmp_path, capfd):
    """GDCM only prints that codes are missing, and fills the image up: that is refused too."""
    path = lossless_jpeg(FILES / "CT_small.dcm", tmp_path / "a.dcm", JPEGLosslessSV1)
    whole = path.read_bytes()
    start = whole.index(b"\xff\xd8\xff")
    for at, new in ((0, b"\0\0"), (20, b"\xff\xff"), (2, b"\xff\xd9"), (9000, b"\xff\xd9")):
        path.write_bytes(whole[: start + at] + new + whole[start + at + 2 :])
        with pytest.raises(DicomError, match=r"File 1 of 1 "):
            read_series(path)
        with pytest.raises(DicomError, match=r"File 1 of 1 "):
            quickly(path)
    assert "decoder complains" in refusal_of(path)
    assert capfd.readouterr().err == ""


def refusal_of(path) -> str:
    with pytest.raises(DicomError) as caught:
        quickly(path)
    return str(caught.value)


def test_empty_folders_and_lists(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(DicomError, match="no DICOM file \\(1 other files, 0 links"):
        quickly(tmp_path)
    with pytest.raises(DicomError, match="list of files is empty"):
        quickly([])


@pytest.mark.parametrize("name", ["files", "seconds"])
def test_limits_are_positive(name):
    with pytest.raises(ValueError, match="not positive"):
        DicomLimits(**{name: 0})
