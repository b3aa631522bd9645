"""The npz formats of measurements: they come back whole, or say what is wrong."""

import zipfile
from dataclasses import replace

import numpy as np
import pytest

from invdiff.datasets import npz, sinogram
from invdiff.datasets.kspace import KSpace
from invdiff.datasets.sinogram import Sinogram
from invdiff.errors import ShapeError


@pytest.fixture
def scan() -> Sinogram:
    values = np.linspace(0, 3, 20, dtype=np.float32).reshape(4, 5)
    return Sinogram(values, np.float32(0.1) + 0 * values, np.arange(4.0), 0.9, (6, 7), 1.1, 0.02)


@pytest.fixture
def mri() -> KSpace:
    rng = np.random.default_rng(0)
    mask = np.zeros((12, 16), bool)
    mask[:, 4:13] = True
    values = rng.normal(size=(3, 12, 16)) + 1j * rng.normal(size=(3, 12, 16))
    return KSpace((values * mask).astype(np.complex64), 0.1, mask)


def test_sinogram_round_trip(scan, tmp_path):
    scan.save(tmp_path / "a.npz")
    again = Sinogram.load(tmp_path / "a.npz")
    assert np.array_equal(again.sinogram, scan.sinogram)
    assert again.sinogram.dtype == np.float32
    assert again.operator() == scan.operator()
    assert (again.water, again.image_shape) == (0.02, (6, 7))
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]
    A = scan.operator()
    assert A.range == (1, 4, 5)
    assert A.views == (0.0, 1.0, 2.0, 3.0)


WRONG_SCANS = [
    ("sinogram", np.zeros((2, 4, 5), np.float32), ShapeError, "one slice"),
    ("sinogram", np.zeros((4, 5), np.int16), TypeError, "counts"),
    ("sinogram", np.full((4, 5), np.nan, np.float32), ValueError, "NaN"),
    ("sinogram", np.full((4, 5), 5e4, np.float32), ValueError, "logarithms"),
    ("sinogram", np.full((4, 5), -9.0, np.float32), ValueError, "logarithms"),
    ("sigma", np.ones((4, 4)), ShapeError, "sigma"),
    ("sigma", np.zeros((4, 5)), ValueError, "positive"),
    ("sigma", np.array(np.inf), ValueError, "positive"),
    ("angles", np.arange(3.0), ShapeError, "one per view"),
    ("angles", np.arange(4.0) * 45, ValueError, "deg2rad"),
    ("angles", np.full(4, np.nan), ValueError, "finite"),
    ("detector_spacing", -1.0, ValueError, "mm"),
    ("pixel_size", float("nan"), ValueError, "mm"),
    ("water", 20.0, ValueError, "1/mm"),
    ("image_shape", (6, 100000), ShapeError, "rows"),
    ("image_shape", (0, 6), ShapeError, "rows"),
]


@pytest.mark.parametrize(("field", "value", "error", "match"), WRONG_SCANS)
def test_wrong_sinograms_are_refused(scan, field, value, error, match):
    with pytest.raises(error, match=match):
        replace(scan, **{field: value})


def test_one_sigma_for_all_rays(scan, tmp_path):
    replace(scan, sigma=np.array(0.2)).save(tmp_path / "a.npz")
    assert Sinogram.load(tmp_path / "a.npz").sigma.shape == ()


def stored(scan, tmp_path, **changes):
    """The file of a scan, with arrays replaced or (None) removed."""
    path = tmp_path / "a.npz"
    scan.save(path)
    arrays = dict(np.load(path)) | changes
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})
    return path


@pytest.mark.parametrize(
    "array",
    [b"", b"text", b"\x93NUMPY\x03\0", b"\x93NUMPY\x01\0\x04\0((((", b"\x93NUMPY\x01\0\xff\xff{"],
    ids=["empty", "text", "version", "nonsense", "cut"],
)
def test_arrays_that_are_none_are_refused(scan, tmp_path, array):
    """In an archive that is whole; fuzzing found that numpy's own words came out."""
    scan.save(tmp_path / "a.npz")
    with zipfile.ZipFile(tmp_path / "a.npz") as whole:
        parts = {name: whole.read(name) for name in whole.namelist()}
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as broken:
        for name, content in (parts | {"sinogram.npy": array}).items():
            broken.writestr(name, content)
    with pytest.raises(ValueError, match="sinogram is no plain array"):
        Sinogram.load(tmp_path / "b.npz")


def test_wrong_files_are_refused(scan, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"lacks the arrays \['sigma'\]"):
        Sinogram.load(stored(scan, tmp_path, sigma=None))
    with pytest.raises(ValueError, match="format_version"):
        Sinogram.load(stored(scan, tmp_path, format_version=np.array(2)))
    with pytest.raises(ShapeError, match="whole numbers"):
        Sinogram.load(stored(scan, tmp_path, image_shape=np.array([6.5, 7.0])))
    with pytest.raises(ValueError, match="real number"):
        Sinogram.load(stored(scan, tmp_path, pixel_size=np.array([1.0, 2.0])))
    with pytest.raises(ValueError, match="no plain array"):
        Sinogram.load(stored(scan, tmp_path, sinogram=np.array([{}], dtype=object)))
    path = stored(scan, tmp_path)
    monkeypatch.setattr(sinogram, "LIMIT", 100)
    with pytest.raises(ValueError, match="unpacks to"):
        Sinogram.load(path)


def test_damaged_files_are_refused(scan, tmp_path):
    path = stored(scan, tmp_path)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[whole.index(b"NUMPY") + 150] ^= 255
    for content in (b"", whole[:50], whole[:-60], bytes(flipped), b"not a file at all"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="not a readable npz file"):
            Sinogram.load(path)
    with pytest.raises(FileNotFoundError):
        Sinogram.load(tmp_path / "missing.npz")


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, scan):
    """64 MiB of zeros in 64 kB."""
    path = stored(scan, tmp_path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data.npy", bytes(64 * 1024**2))
    assert path.stat().st_size < 100_000
    with pytest.raises(ValueError, match="unpacks to"):
        npz.read_npz(path, ("data",), limit=1024**2)


def test_a_header_that_promises_too_much(tmp_path):
    """A tiny file whose header declares a huge array must not allocate it."""
    path = tmp_path / "a.npz"
    np.savez(path, data=np.zeros(10))
    header = {"descr": "<f8", "fortran_order": False, "shape": (10**12,)}
    with zipfile.ZipFile(path, "w") as archive, archive.open("data.npy", "w") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.write(bytes(80))
    with pytest.raises(ValueError, match="header declares"):
        npz.read_npz(path, ("data",), limit=1024**2)


def test_kspace_round_trip(mri, tmp_path):
    mri.save(tmp_path / "k.npz")
    again = KSpace.load(tmp_path / "k.npz")
    assert np.array_equal(again.kspace, mri.kspace)
    assert np.array_equal(again.mask, mri.mask)
    assert again.maps is None
    assert again.operator() == mri.operator()
    with_maps = replace(mri, maps=np.ones_like(mri.kspace))
    with_maps.save(tmp_path / "k.npz")
    assert (KSpace.load(tmp_path / "k.npz").operator().maps == 1).all()


def test_the_mask_may_be_left_out(mri, tmp_path):
    np.savez(tmp_path / "k.npz", kspace=mri.kspace, sigma=0.1, format_version=1)
    assert np.array_equal(KSpace.load(tmp_path / "k.npz").mask, mri.mask)


def test_calibration_width(mri):
    """Columns 4 to 12 of 16 are measured; centred on 8: the square of 9 is 4 to 12."""
    assert mri.calibration_width == 9
    narrow = mri.mask.copy()
    narrow[:, :6] = False
    small = replace(mri, mask=narrow, kspace=mri.kspace * narrow)
    assert small.calibration_width == 5
    with pytest.raises(ValueError, match="coil maps"):
        small.operator()


WRONG_KSPACE = [
    ("kspace", np.zeros((12, 16), np.complex64), ShapeError, "coils"),
    ("kspace", np.ones((3, 12, 16), np.float32), TypeError, "not k-space"),
    ("kspace", np.full((3, 12, 16), np.nan, np.complex64), ValueError, "NaN"),
    ("kspace", np.ones((3, 12, 16), np.complex64), ValueError, "nothing was measured"),
    ("sigma", 0.0, ValueError, "sigma"),
    ("mask", np.ones((16, 12), bool), ShapeError, "mask"),
    ("mask", np.full((12, 16), 2), ValueError, "zeros and ones"),
    ("maps", np.ones((2, 12, 16), np.complex64), ShapeError, "maps"),
]


@pytest.mark.parametrize(("field", "value", "error", "match"), WRONG_KSPACE)
def test_wrong_kspace_is_refused(mri, field, value, error, match):
    with pytest.raises(error, match=match):
        replace(mri, **{field: value})
