"""NIfTI: values and places come back exactly, and are those that nibabel sees."""

import gzip

import nibabel
import numpy as np
import pytest

from invdiff.datasets import nifti
from invdiff.datasets.nifti import NiftiVolume, read_nifti, write_nifti
from invdiff.errors import ShapeError

rng = np.random.default_rng(0)


def oblique():
    """A rotation, three spacings and an offset: (slice, row, column) to LPS."""
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = turn * (5.0, 0.8, 0.7)
    affine[:3, 3] = (-90.0, 33.0, 12.0)
    return affine


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("kind", ["int16", "uint8", "float32", "float64", "complex64", "uint16"])
def test_round_trip(kind, name, tmp_path):
    values = (100 * rng.normal(size=(3, 4, 5))).astype(kind)
    affine = oblique()
    write_nifti(tmp_path / name, NiftiVolume(values, affine))
    again = read_nifti(tmp_path / name)
    assert again.pixels.dtype == values.dtype
    assert np.array_equal(again.pixels, values)
    # The file holds the affine in single precision.
    assert np.allclose(again.affine, affine, atol=1e-5)
    assert again.spacing == pytest.approx((5.0, 0.8, 0.7), rel=1e-6)


def test_same_volume_same_bytes(tmp_path):
    volume = NiftiVolume(rng.normal(size=(3, 4, 5)), oblique())
    for name in ("a.nii.gz", "b.nii.gz"):
        write_nifti(tmp_path / name, volume)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_a_voxel_is_where_nibabel_sees_it(tmp_path):
    """The point of a voxel in RAS is that in LPS with x and y reversed."""
    values, affine = rng.normal(size=(3, 4, 5)).astype(np.float32), oblique()
    write_nifti(tmp_path / "a.nii", NiftiVolume(values, affine))
    image = nibabel.load(tmp_path / "a.nii")
    for k, i, j in ((0, 0, 0), (2, 1, 4), (1, 3, 0)):
        assert np.asanyarray(image.dataobj)[j, i, k] == values[k, i, j]
        ras = image.affine @ (j, i, k, 1)
        lps = affine @ (k, i, j, 1)
        assert np.allclose(ras[:3] * (-1, -1, 1), lps[:3], atol=1e-4)
    assert int(image.header["qform_code"]) == int(image.header["sform_code"]) == 1


def test_axes_of_a_head_that_lies_straight(tmp_path):
    """nibabel's RAS identity: columns to the right, so x falls; slices up."""
    nibabel.Nifti1Image(np.zeros((5, 4, 3), np.int16), np.diag([2.0, 3, 4, 1])).to_filename(
        tmp_path / "a.nii"
    )
    volume = read_nifti(tmp_path / "a.nii")
    assert volume.pixels.shape == (3, 4, 5)
    expected = [[0, 0, -2, 0], [0, -3, 0, 0], [4, 0, 0, 0], [0, 0, 0, 1]]
    assert volume.affine.tolist() == expected


@pytest.mark.parametrize(("unit", "factor"), [("mm", 1), ("meter", 1000), ("micron", 0.001)])
def test_lengths_are_in_mm(tmp_path, unit, factor):
    image = nibabel.Nifti1Image(np.zeros((2, 2, 2), np.int16), np.diag([2.0, 2, 2, 1]))
    image.header.set_xyzt_units(unit)
    image.to_filename(tmp_path / "a.nii")
    assert read_nifti(tmp_path / "a.nii").spacing == pytest.approx((2 * factor,) * 3)


def test_scaling_of_the_header_is_applied(tmp_path):
    """nibabel stores scaled integers for floats in an int16 file."""
    values = rng.normal(size=(5, 4, 3))
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.int16)
    image = nibabel.Nifti1Image(values, np.eye(4), header)
    image.to_filename(tmp_path / "a.nii")
    again = read_nifti(tmp_path / "a.nii")
    assert again.pixels.dtype == np.float64
    assert np.array_equal(
        again.pixels.transpose(2, 1, 0), nibabel.load(tmp_path / "a.nii").get_fdata()
    )


def test_version_two_and_big_endian_and_one_time_point(tmp_path):
    values = rng.normal(size=(5, 4, 3, 1)).astype(np.float32)
    nibabel.Nifti2Image(values, np.eye(4)).to_filename(tmp_path / "a.nii")
    assert np.array_equal(read_nifti(tmp_path / "a.nii").pixels.transpose(2, 1, 0), values[..., 0])
    header = nibabel.Nifti1Header(endianness=">")
    header.set_data_dtype(">f4")
    nibabel.Nifti1Image(values, np.eye(4), header).to_filename(tmp_path / "b.nii")
    assert np.array_equal(read_nifti(tmp_path / "b.nii").pixels.transpose(2, 1, 0), values[..., 0])


def spoilt(tmp_path, change=None, cut=None, image=None):
    image = image or nibabel.Nifti1Image(np.ones((5, 4, 3), np.int16), np.eye(4))
    content = bytearray(image.to_bytes())
    if change:
        at, new = change
        content[at : at + len(new)] = new
    path = tmp_path / "a.nii"
    path.write_bytes(content[:cut])
    return path


def test_wrong_files_are_refused(tmp_path):
    cases = [
        ({"cut": 100}, "damaged"),
        ({"cut": -2}, "damaged"),
        ({"change": (0, b"\0\0\0\0")}, "not a NIfTI"),
        ({"change": (42, b"\xff\x7f\xff\x7f\xff\x7f")}, "damaged"),  # 32767 voxels an axis
        ({"change": (70, b"\xff\xff")}, "damaged"),  # a dtype that is none
        ({"change": (252, bytes(4))}, "lies in the patient"),
        ({"change": (280, bytes(48))}, "singular"),
        ({"image": nibabel.Nifti1Image(np.ones((2, 2, 2, 3), np.int16), np.eye(4))}, "one volume"),
    ]
    for how, match in cases:
        path = spoilt(tmp_path, **how)
        with pytest.raises((ValueError, TypeError), match=match):
            read_nifti(path)
    colours = np.zeros((2, 2, 2), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    path = spoilt(tmp_path, image=nibabel.Nifti1Image(colours, np.eye(4)))
    with pytest.raises(TypeError, match="colours"):
        read_nifti(path)
    with pytest.raises(FileNotFoundError):
        read_nifti(tmp_path / "missing.nii")


def test_a_bomb_is_refused(tmp_path, monkeypatch):
    """64 MiB of zeros in 64 kB: the limit holds for what is unpacked."""
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(bytes(2**26)))
    monkeypatch.setattr(nifti, "LIMIT", 2**22)
    with pytest.raises(ValueError, match="unpacks to more than"):
        read_nifti(tmp_path / "a.nii.gz")
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(bytes(1000))[:-12])
    with pytest.raises(ValueError, match="unpacked"):
        read_nifti(tmp_path / "a.nii.gz")


def test_what_cannot_be_written(tmp_path):
    volume = NiftiVolume(np.ones((2, 2, 2)), np.eye(4))
    with pytest.raises(ValueError, match="must end"):
        write_nifti(tmp_path / "a.img", volume)
    with pytest.raises(TypeError, match="float16"):
        write_nifti(tmp_path / "a.nii", NiftiVolume(np.ones((2, 2, 2), np.float16), np.eye(4)))
    with pytest.raises(ShapeError):
        NiftiVolume(np.ones((2, 2)), np.eye(4))
    with pytest.raises(TypeError):
        NiftiVolume(np.ones((2, 2, 2), bool), np.eye(4))
    for affine in (np.eye(3), np.eye(4) * np.nan, 2 * np.eye(4), np.diag([1.0, 1, 0, 1])):
        with pytest.raises(ValueError, match="affine"):
            NiftiVolume(np.ones((2, 2, 2)), affine)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("sizes", [(0, 3, 3), (3, -1, 0), (3, 3, 0)])
def test_sizes_that_are_not_positive_are_refused(tmp_path, sizes):
    """Fuzzing found that an empty array was not reshaped."""
    path = tmp_path / "a.nii"
    write_nifti(path, NiftiVolume(np.ones((3, 3, 3), np.int16), np.eye(4)))
    content = bytearray(path.read_bytes())
    content[42:48] = np.array(sizes, "<i2").tobytes()  # dim[1] to dim[3] of the header
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"one volume|damaged"):
        read_nifti(path)
