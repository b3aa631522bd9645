"""Written DICOM: valid, read back exactly, whole or absent, and true about where it comes from."""

from dataclasses import replace

import numpy as np
import pydicom
import pytest
from dicom_helpers import (
    FILES,
    changed,
    enhanced,
    five,
    quickly,
    series_of_five,
    validate,
    validate_together,
)

from invdiff.datasets.dicom_derivation import Derivation, SeriesLabel
from invdiff.datasets.dicom_parametric_map import DEVIATION_MAP, write_parametric_map
from invdiff.datasets.dicom_quantise import quantise, rescale_for
from invdiff.datasets.dicom_writer import (
    MEAN,
    SIMULATED,
    write_derived_series,
    write_series,
    write_uncertainty_series,
)
from invdiff.errors import NotFinite, ShapeError

HOW = Derivation("mean of 16 posterior samples", "ct", "ab" * 32, "DPS(steps=100)", 3)
STALE = [
    "PixelPaddingValue",
    "SmallestImagePixelValue",
    "LargestImagePixelValue",
    "IconImageSequence",
    "DataSetTrailingPadding",
    "DigitalSignaturesSequence",
    "OtherPatientIDs",
    "ConvolutionKernel",
]


def enhanced_five(folder, modality):
    """The series of five as one Enhanced CT or MR file, frames in another order."""
    images = [pydicom.dcmread(path) for path in series_of_five()]
    for image in images:
        image.Modality = modality
        image.ImageType = ["ORIGINAL", "PRIMARY", "M", "NONE"]
    folder.mkdir()
    order = [images[k] for k in (1, 4, 0, 3, 2)]
    enhanced(order).save_as(folder / "all.dcm", enforce_file_format=True)
    return folder


@pytest.fixture(params=["CT", "MR", "CT series", "Enhanced CT", "Enhanced MR"])
def source(request, tmp_path):
    match request.param.split():
        case ["Enhanced", modality]:
            return quickly(enhanced_five(tmp_path / "source", modality))
        case [_, "series"]:
            return quickly(series_of_five())
        case [modality]:
            return quickly(FILES / f"{modality}_small.dcm")


def test_integers_come_back_exactly_in_place_and_valid(source, tmp_path):
    values = np.random.default_rng(0).integers(-1000, 3000, source.pixels.shape)
    written = write_derived_series(tmp_path / "out", values, source, HOW)
    again = quickly(tmp_path / "out")
    assert np.array_equal(again.pixels, values)
    assert np.array_equal(again.affine, source.affine)
    assert (again.spacing, again.modality) == (source.spacing, source.modality)
    assert (written.images, written.clipped) == (len(values), 0)
    files = sorted((tmp_path / "out").iterdir())
    assert [file.name for file in files] == [f"{k + 1:05}.dcm" for k in range(len(values))]
    assert [validate(file) for file in files[:2]] == [[]] * len(files[:2])


def test_real_values_come_back_within_half_of_the_slope(source, tmp_path):
    values = np.random.default_rng(0).normal(size=source.pixels.shape) * 300
    written = write_derived_series(tmp_path / "mean", values, source, HOW)
    # float32 of a value below 2000 adds at most 2^-13
    assert (
        np.abs(quickly(tmp_path / "mean").pixels - values).max() <= written.rescale[0] / 2 + 2e-4
    )
    deviation = np.abs(values) / 100
    written = write_uncertainty_series(tmp_path / "sd", deviation, source, HOW)
    assert written.rescale[0] == 0.1 or source.modality == "MR"
    again = quickly(tmp_path / "sd")
    assert np.abs(again.pixels - deviation).max() <= written.rescale[0] / 2 + 1e-6
    assert validate(tmp_path / "sd" / "00001.dcm") == []
    low, high = np.quantile(deviation, [0.005, 0.995])
    header = pydicom.dcmread(tmp_path / "sd" / "00001.dcm")
    assert header.WindowCenter == pytest.approx((low + high) / 2, rel=1e-6)


def test_a_parametric_map_keeps_float32(source, tmp_path):
    deviation = np.random.default_rng(0).random(source.pixels.shape, np.float32)
    write_parametric_map(tmp_path / "map.dcm", deviation, source, HOW)
    assert validate(tmp_path / "map.dcm") == []
    image = pydicom.dcmread(tmp_path / "map.dcm")
    frames = np.frombuffer(image.FloatPixelData, "<f4").reshape(deviation.shape)
    for frame, groups in zip(frames, image.PerFrameFunctionalGroupsSequence, strict=True):
        place = [*groups.PlanePositionSequence[0].ImagePositionPatient, 1]
        k = np.rint(np.linalg.solve(source.affine, place)).astype(int)
        assert k[1:].tolist() == [0, 0, 1]
        assert np.array_equal(frame, deviation[k[0]])
        reference = groups.DerivationImageSequence[0].SourceImageSequence[0]
        assert reference.ReferencedSOPInstanceUID == source.headers[k[0]].SOPInstanceUID
        if source.planes[k[0]].multiframe:
            assert reference.ReferencedFrameNumber == source.planes[k[0]].frame + 1
    assert b"2.25.1." not in (tmp_path / "map.dcm").read_bytes()
    originals = {header.SOPInstanceUID for header in source.headers}
    assert {item.ReferencedSOPInstanceUID for item in image.SourceImageSequence} == originals


def test_the_header_says_what_it_is(tmp_path):
    source = quickly(series_of_five())
    write_derived_series(tmp_path / "out", source.pixels, source, HOW)
    uids = set()
    for k, header in enumerate(source.headers):
        image = pydicom.dcmread(tmp_path / "out" / f"{k + 1:05}.dcm")
        original = next(
            one
            for one in map(pydicom.dcmread, series_of_five())
            if one.SOPInstanceUID == header.SOPInstanceUID
        )
        for name in (
            "StudyInstanceUID PatientName PatientID FrameOfReferenceUID ImagePositionPatient "
            "ImageOrientationPatient PixelSpacing SliceThickness AccessionNumber Manufacturer"
        ).split():
            assert image.get(name) == original.get(name)
        assert image.ImageType == ["DERIVED", "SECONDARY", "AXIAL"]
        assert image.DerivationDescription == HOW.description
        assert image.SourceImageSequence[0].ReferencedSOPInstanceUID == original.SOPInstanceUID
        equipment = image.ContributingEquipmentSequence[0]
        assert equipment.PurposeOfReferenceCodeSequence[0].CodeValue == "109103"
        assert equipment.Manufacturer == "invdiff"
        assert image.BurnedInAnnotation == "NO"
        assert (image.WindowCenter, image.WindowWidth) == (40, 400)
        assert image.SeriesInstanceUID != original.SeriesInstanceUID
        assert image.SOPInstanceUID == image.file_meta.MediaStorageSOPInstanceUID
        uids |= {image.SOPInstanceUID, original.SOPInstanceUID}
        assert image.preamble == bytes(128)
    assert len(uids) == 10
    for part in ("16 posterior samples", "not for diagnostic use", "ab" * 32, "DPS", "seed 3"):
        assert part in HOW.description


def test_source_and_derived_series_agree_on_patient_and_study(tmp_path):
    folder = five(tmp_path / "source")
    source = quickly(folder)
    write_derived_series(tmp_path / "mean", source.pixels, source, HOW)
    write_uncertainty_series(tmp_path / "sd", np.abs(source.pixels), source, HOW)
    together = [folder, tmp_path / "mean", tmp_path / "sd"]
    assert validate_together(together) == []
    missing = validate_together(together[1:])  # what this test would see of a wrong reference
    assert len(missing) == 10
    assert all("Missing SOPInstanceUID that was referenced" in line for line in missing)


def test_nothing_private_or_stale_is_kept(tmp_path):
    def dirty(image):
        block = image.private_block(0x0029, "SECRET", create=True)
        block.add_new(1, "LO", "SECRET")
        for name in ("SmallestImagePixelValue", "LargestImagePixelValue"):
            image[name] = pydicom.DataElement(name, "SS", 5)
        image.IconImageSequence = image.DigitalSignaturesSequence = [pydicom.Dataset()]
        image.OtherPatientIDs = image.ConvolutionKernel = "SECRET"
        image.add_new(0x60003000, "OW", b"SECRET")
        image.preamble = b"SECRET" + bytes(122)

    path = changed(FILES / "CT_small.dcm", tmp_path / "a.dcm", dirty)
    assert path.read_bytes().startswith(b"SECRET")
    source = quickly(path)
    write_derived_series(tmp_path / "out", source.pixels, source, HOW)
    assert b"SECRET" not in (tmp_path / "out" / "00001.dcm").read_bytes()
    image = pydicom.dcmread(tmp_path / "out" / "00001.dcm")
    assert not any(name in image for name in STALE)
    assert not any(element.tag.is_private for element in image)


def test_lossy_compression_of_the_source_is_told(tmp_path):
    source = quickly(FILES / "693_J2KI.dcm")
    write_derived_series(tmp_path / "out", source.pixels, source, HOW)
    assert pydicom.dcmread(tmp_path / "out" / "00001.dcm").LossyImageCompression == "01"
    assert quickly(tmp_path / "out").lossy


def test_writing_leaves_the_source_as_it_was(tmp_path):
    source = quickly(series_of_five())
    before = [header.to_json() for header in source.headers]
    write_derived_series(tmp_path / "a", source.pixels, source, HOW)
    write_uncertainty_series(tmp_path / "b", np.abs(source.pixels), source, HOW)
    write_parametric_map(tmp_path / "c.dcm", np.abs(source.pixels), source, HOW)
    assert [header.to_json() for header in source.headers] == before


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_a_simulated_volume_needs_no_source(tmp_path, modality):
    values = np.random.default_rng(0).integers(-1000, 2000, (3, 6, 8))
    written = write_series(tmp_path / "out", values, (2.0, 1.0, 0.5), modality)
    assert (written.images, written.clipped) == (3, 0)
    volume = quickly(tmp_path / "out")
    assert np.array_equal(volume.pixels, values)
    assert volume.spacing == (2.0, 1.0, 0.5)
    assert np.allclose(volume.affine @ [1, 2.5, 3.5, 1], [0, 0, 0, 1])
    assert validate(tmp_path / "out" / "00001.dcm") == []
    # and it is a source like any other
    write_derived_series(tmp_path / "again", values, volume, HOW)
    assert validate(tmp_path / "again" / "00001.dcm") == []


def test_the_same_bytes_for_the_same_identity(tmp_path):
    source = quickly(series_of_five())
    label = replace(MEAN, identity="hash of inputs and seed", date_time="20260102030405")
    for name in "ab":
        write_derived_series(tmp_path / name, source.pixels, source, HOW, label)
        write_parametric_map(
            tmp_path / f"{name}.dcm", source.pixels, source, HOW, replace(label, number=5)
        )
    write_derived_series(tmp_path / "c", source.pixels, source, HOW, replace(label, identity="x"))
    first, second, third = (
        [path.read_bytes() for path in sorted((tmp_path / name).iterdir())] for name in "abc"
    )
    assert first == second
    assert not set(first) & set(third)
    assert (tmp_path / "a.dcm").read_bytes() == (tmp_path / "b.dcm").read_bytes()


def test_values_beyond_16_bits_are_clipped_and_counted(tmp_path):
    values = np.zeros((1, 4, 5))
    values[0, 0] = [1e6, -1e6, 31743, 31743.6, -33792.6]
    written = write_series(tmp_path / "out", values, (1, 1, 1), "CT")
    assert written.clipped == 4
    assert quickly(tmp_path / "out").pixels[0, 0].tolist() == [31743, -33792, 31743, 31743, -33792]


@pytest.mark.parametrize("scale", [3e-7, 0.02, 1.0, 7.3e5, 8e8])
def test_a_slope_holds_the_largest_value_and_wastes_little(scale):
    values = scale * np.random.default_rng(0).normal(size=1000)
    slope, intercept = rescale_for(values, "MR")
    stored, clipped = quantise(values, (slope, intercept))
    assert (clipped, intercept) == (0, 0)
    assert 32767 * 0.99 < np.abs(stored).max() <= 32767
    assert rescale_for(np.zeros(3), "MR") == (1, 0)
    assert rescale_for(np.arange(-5, 32768), "MR") == (1, 0)


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    source = quickly(series_of_five())
    from invdiff.datasets import dicom_writer

    saved = []

    def full(path, image):
        saved.append(path)
        path.write_bytes(b"half")
        if len(saved) == 3:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(dicom_writer, "save_image", full)
    with pytest.raises(OSError, match="No space"):
        write_derived_series(tmp_path / "out", source.pixels, source, HOW)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path):
    source = quickly(FILES / "CT_small.dcm")
    (tmp_path / "out").mkdir()
    (tmp_path / "map.dcm").write_text("kept")
    with pytest.raises(FileExistsError, match="exists"):
        write_derived_series(tmp_path / "out", source.pixels, source, HOW)
    with pytest.raises(FileExistsError, match="exists"):
        write_parametric_map(tmp_path / "map.dcm", source.pixels, source, HOW)
    assert (tmp_path / "map.dcm").read_text() == "kept"
    assert list((tmp_path / "out").iterdir()) == []


def test_what_cannot_be_written_is_refused(tmp_path):
    source = quickly(FILES / "CT_small.dcm")
    with pytest.raises(ShapeError, match=r"\(2, 128, 128\), but the source \(1, 128, 128\)"):
        write_derived_series(tmp_path / "a", np.zeros((2, 128, 128)), source, HOW)
    with pytest.raises(ShapeError, match="grid of its source"):
        write_parametric_map(tmp_path / "a", np.zeros((2, 128, 128)), source, HOW)
    broken = np.full((1, 128, 128), np.nan)
    with pytest.raises(NotFinite, match="16384 values"):
        write_derived_series(tmp_path / "a", broken, source, HOW)
    with pytest.raises(NotFinite):
        write_parametric_map(tmp_path / "a", broken, source, HOW)
    with pytest.raises(ValueError, match="deviation is negative"):
        write_uncertainty_series(tmp_path / "a", -np.ones((1, 128, 128)), source, HOW)
    with pytest.raises(ValueError, match="positive slope"):
        write_derived_series(tmp_path / "a", source.pixels, source, HOW, rescale=(0, 0))
    with pytest.raises(ValueError, match="modality is 'PT'"):
        write_series(tmp_path / "a", np.zeros((1, 2, 3)), (1, 1, 1), "PT")
    with pytest.raises(ShapeError, match="slices, rows, columns"):
        write_series(tmp_path / "a", np.zeros((2, 3)), (1, 1, 1), "CT")
    for header in source.headers:
        del header.StudyInstanceUID
    with pytest.raises(ValueError, match="StudyInstanceUID"):
        write_derived_series(tmp_path / "a", source.pixels, source, HOW)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "x" * 65, "na\nme", "a\\b", "Schädel"])
def test_texts_must_fit_a_header(text):
    with pytest.raises(ValueError, match=r"printable ASCII|backslash"):
        SeriesLabel(text, 1)
    if len(text) != 65 and text:
        with pytest.raises(ValueError, match=r"printable ASCII|backslash"):
            replace(HOW, prior=text)


@pytest.mark.parametrize(
    "change", [{"window": (0.0, 0.0)}, {"date_time": "2026"}, {"date_time": "2026-01-02 03:0"}]
)
def test_labels_are_checked(change):
    with pytest.raises(ValueError, match=r"width|YYYYMMDDHHMMSS"):
        replace(MEAN, **change)


def test_series_have_numbers_of_their_own():
    assert len({MEAN.number, DEVIATION_MAP.number, SIMULATED.number}) == 3


def test_the_series_may_be_named_and_windowed(tmp_path):
    folder = five(tmp_path / "five")
    source = quickly(folder)
    label = SeriesLabel("sample 1", 77, window=(50.0, 350.0))
    write_derived_series(tmp_path / "out", source.pixels, source, HOW, label)
    image = pydicom.dcmread(tmp_path / "out" / "00003.dcm")
    assert (image.SeriesDescription, image.SeriesNumber) == ("sample 1", 77)
    assert (image.WindowCenter, image.WindowWidth) == (50, 350)
