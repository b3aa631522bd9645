"""The one format of measurements: it comes back without loss, or says what is wrong."""

from dataclasses import fields, replace

import h5py
import numpy as np
import pytest
import torch

from invdiff.datasets import measurement_file
from invdiff.datasets.ct_measurement import CTMeasurement
from invdiff.datasets.hdf5 import one_worker
from invdiff.datasets.kspace import KSpace
from invdiff.datasets.measurement_file import (
    inspect_measurement,
    read_measurement,
    write_measurement,
)
from invdiff.datasets.mri_measurement import MRIMeasurement
from invdiff.datasets.sinogram import Sinogram
from invdiff.errors import ShapeError
from invdiff.operators import Geometry

rng = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def fast():
    with one_worker():
        yield


def geometry(beam="parallel"):
    if beam == "parallel":
        return Geometry.parallel((6, 7), 5, pixel_size=1.1)
    if beam == "fan":
        place = {"source_to_axis": 50.0, "source_to_detector": 90.0}
        return Geometry.fan((6, 7), 5, pixel_size=(1.1, 0.9), **place)
    place = {"source_to_axis": 50.0, "source_to_detector": 90.0}
    return Geometry.cone(
        (3, 6, 7), 5, pixel_size=1.0, detectors=(4, 9), detector_spacing=(1.5, 1.5), **place
    )


def ct(beam="parallel", dtype=np.float32, items=3):
    scan = geometry(beam)
    data = rng.random((items, *scan.sinogram_shape)).astype(dtype)
    truth = rng.random((items, *scan.image_shape)).astype(dtype)
    names = tuple(f"folder/ü-{k}" for k in range(items))
    about = {"seed": 3, "photons": 1e5, "steps": ["a", {"b": None}]}
    return CTMeasurement(names, data, (0.1 + data).astype(dtype), scan, 0.021, truth, about)


def mri(dtype=np.complex64, items=2, shared=True):
    mask = rng.random((1 if shared else items, 12, 16)) < 0.5
    mask[:, 2:11, 4:13] = True
    shape = (items, 3, 12, 16)
    data = (rng.normal(size=shape) + 1j * rng.normal(size=shape)) * mask[:, None]
    maps = rng.normal(size=(1, *shape[1:])) + 1j
    truth = (rng.normal(size=(items, 12, 16)) + 1j).astype(dtype)
    names = tuple(f"slice-{k}" for k in range(items))
    return MRIMeasurement(
        names, data.astype(dtype), np.full((1, 3, 1, 1), 0.1), mask, maps.astype(dtype), 2e-7,
        (1.5, 0.75), truth, {"seed": 1},
    )  # fmt: skip


def same(one, two):
    assert type(one) is type(two)
    for field in fields(one):
        a, b = getattr(one, field.name), getattr(two, field.name)
        if isinstance(a, np.ndarray):
            assert np.array_equal(a, b), field.name
            assert a.dtype == b.dtype, field.name
        else:
            assert a == b, field.name


CASES = {
    "parallel": lambda: ct(),
    "fan": lambda: ct("fan"),
    "cone": lambda: ct("cone", np.float64),
    "one-item": lambda: ct(items=1),
    "bare": lambda: replace(ct(), truth=None, provenance={}, sigma=np.full((1, 1, 1), 0.1)),
    "mri": lambda: mri(),
    "mri-double": lambda: mri(np.complex128, shared=False),
    "mri-bare": lambda: replace(mri(), maps=None, truth=None, pixel_size=None),
}


@pytest.mark.parametrize("case", CASES)
def test_round_trip_without_loss_and_the_same_bytes(case, tmp_path):
    measurement = CASES[case]()
    for name in ("a.h5", "b.h5"):
        write_measurement(tmp_path / name, measurement)
    same(read_measurement(tmp_path / "a.h5"), measurement)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    contents = inspect_measurement(tmp_path / "a.h5")
    assert contents.modality == measurement.modality
    assert contents.shape == measurement.data.shape
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.h5", "b.h5"]


@pytest.mark.parametrize("case", ["parallel", "bare", "mri", "mri-double"])
def test_some_items_are_the_same_as_of_all(case, tmp_path):
    measurement = CASES[case]()
    write_measurement(tmp_path / "a.h5", measurement)
    part, n = read_measurement(tmp_path / "a.h5", 1, 2), len(measurement)
    for field in fields(part):
        whole, one = getattr(measurement, field.name), getattr(part, field.name)
        if isinstance(whole, np.ndarray) and len(whole) == n:
            assert np.array_equal(one, whole[1:2])
    assert part.items == measurement.items[1:2]
    with pytest.raises(ValueError, match="Items 1 to 9"):
        read_measurement(tmp_path / "a.h5", 1, 9)


def test_problem_of_a_sinogram_file_is_that_of_the_measurement():
    values = np.linspace(0, 3, 20, dtype=np.float32).reshape(4, 5)
    scan = Sinogram(values, np.array(0.1), np.arange(4.0), 0.9, (6, 7), 1.1, 0.02)
    measurement = CTMeasurement.from_sinogram(scan, "a")
    problem, operator = measurement.problem(), scan.operator()
    x = torch.rand(1, 1, 6, 7)
    assert torch.equal(problem.operator(x), operator(x))
    assert torch.equal(problem.y[0, 0], torch.from_numpy(values))
    assert float(problem.noise.sigma.max()) == pytest.approx(0.1)
    varied = replace(scan, sigma=0.1 + values)
    assert CTMeasurement.from_sinogram(varied, "a").sigma.shape == (1, 4, 5)


def test_problem_of_a_kspace_file_is_that_of_the_measurement():
    whole = mri()
    scan = KSpace(whole.data[0], 0.1, whole.mask[0], whole.maps[0])
    measurement = MRIMeasurement.from_kspace(scan, "a")
    problem = measurement.problem()
    x = torch.rand(1, 2, 12, 16)
    expected = scan.operator()(torch.complex(x[:, :1], x[:, 1:]))
    assert torch.equal(problem.operator(x), expected)
    assert torch.equal(problem.y[0], torch.from_numpy(whole.data[0]))
    estimated = replace(measurement, maps=None)
    maps = replace(scan, maps=None).operator().maps
    assert torch.equal(estimated.operator().maps, maps)


def test_names_are_not_in_what_is_printed():
    assert "folder" not in repr(ct())
    assert "slice" not in repr(mri())


WRONG = [
    ("ct", {"items": ("a", "a", "b")}, ValueError, "Randomness follows names"),
    ("ct", {"items": ("a", "b")}, ShapeError, "2 names for 3 items"),
    ("ct", {"items": ("a", "", "b")}, ValueError, "name of item 1"),
    ("ct", {"items": ("a", "x\n", "b")}, ValueError, "name of item 1"),
    ("ct", {"items": ("a", "\udc80", "b")}, ValueError, "name of item 1"),
    ("ct", {"items": ("a", 3, "b")}, TypeError, "must be texts"),
    ("ct", {"data": np.zeros((3, 5, 4), np.float32)}, ShapeError, "sinogram has shape"),
    ("ct", {"data": np.zeros((3, 5, 10), np.int32)}, TypeError, "floating-point"),
    ("ct", {"data": np.full((3, 5, 10), np.nan)}, ValueError, "NaN"),
    ("ct", {"data": np.full((3, 5, 10), 900.0)}, ValueError, "logarithms"),
    ("ct", {"sigma": np.array(0.1)}, ShapeError, "axes of the data"),
    ("ct", {"sigma": np.zeros((1, 1, 1))}, ValueError, "not positive"),
    ("ct", {"sigma": np.full((1, 1, 1), np.inf)}, ValueError, "NaN or infinite"),
    ("ct", {"water": 20.0}, ValueError, "1/mm"),
    ("ct", {"truth": np.zeros((3, 7, 6))}, ShapeError, "truth"),
    ("ct", {"provenance": {"a": np.nan}}, ValueError, "provenance"),
    ("ct", {"provenance": {"a": {1, 2}}}, TypeError, "provenance"),
    ("mri", {"data": np.zeros((2, 3, 12, 16), np.float32)}, TypeError, "complex"),
    ("mri", {"data": np.ones((2, 3, 12, 16), np.complex64)}, ValueError, "nothing was measured"),
    ("mri", {"mask": np.ones((1, 16, 12), bool)}, ShapeError, "mask"),
    ("mri", {"mask": np.ones((1, 12, 16))}, ShapeError, "bool"),
    ("mri", {"mask": np.zeros((1, 12, 16), bool)}, ValueError, "empty"),
    ("mri", {"maps": np.ones((1, 2, 12, 16), np.complex64)}, ShapeError, "maps"),
    ("mri", {"scale": 0.0}, ValueError, "scale"),
    ("mri", {"pixel_size": (1.0, -1.0)}, ValueError, "pixel_size"),
    ("mri", {"pixel_size": (1.0,)}, ShapeError, "pixel_size"),
    ("mri", {"truth": np.zeros((2, 12, 16))}, TypeError, "truth"),
]


@pytest.mark.parametrize(
    ("kind", "changes", "error", "match"),
    [pytest.param(*row, id=f"{row[0]}-{next(iter(row[1]))}-{k}") for k, row in enumerate(WRONG)],
)
def test_wrong_parts_are_refused(kind, changes, error, match):
    with pytest.raises(error, match=match):
        replace(ct() if kind == "ct" else mri(), **changes)


def change(name, value=None):
    """What spoils a file: an array replaced, added or (None) removed."""

    def spoil(file):
        if name in file:
            del file[name]
        if value is not None:
            file[name] = value

    return spoil


def attribute(name, value):
    def spoil(file):
        file.attrs[name] = value

    return spoil


SPOILT = {
    "no-sigma": (change("sigma"), ValueError, r"lacks \['sigma'\] and has 0"),
    "no-geometry": (change("geometry"), ValueError, r"lacks \['geometry'\]"),
    "extra": (change("patient", "x"), ValueError, r"lacks \[\] and has 1"),
    "extra-attribute": (attribute("patient", "x"), ValueError, r"lacks \[\] and has 1"),
    "group": (lambda f: change("data")(f) or f.create_group("data"), ValueError, "group"),
    "other-format": (attribute("format", "other"), ValueError, "not a measurement"),
    "later-version": (attribute("format_version", 2), ValueError, "format_version"),
    "modality": (attribute("modality", "pet"), ValueError, "neither 'ct' nor 'mri'"),
    "modality-kind": (attribute("modality", [1, 2]), ValueError, "neither 'ct' nor 'mri'"),
    "mri-parts": (attribute("modality", "mri"), ValueError, r"lacks \['mask', 'scale'\]"),
    "scalar": (change("data", 1.0), ValueError, "no axis"),
    "geometry-text": (change("geometry", "{}"), ValueError, "geometry is none"),
    "geometry-deep": (change("geometry", "[" * 10**5), ValueError, "geometry is none"),
    "geometry-number": (change("geometry", 3.0), ValueError, "texts"),
    "provenance": (change("provenance", "[1]"), ValueError, "JSON object"),
    "water": (change("water", 0.02), ValueError, "one floating-point number"),
    "items": (change("items", ["a", "b"]), ShapeError, "2 names for 3 items"),
    "items-bytes": (change("items", np.array([b"\xff", b"b", b"c"])), ValueError, "UTF-8"),
    "data-integers": (change("data", np.zeros((3, 5, 10), int)), TypeError, "floating-point"),
}


@pytest.mark.parametrize("case", SPOILT)
def test_wrong_files_are_refused(case, tmp_path):
    spoil, error, match = SPOILT[case]
    path = tmp_path / "a.h5"
    write_measurement(path, ct())
    with h5py.File(path, "r+") as file:
        spoil(file)
    with pytest.raises(error, match=match):
        read_measurement(path)


@pytest.mark.parametrize("case", ["parallel", "mri-double"])
def test_a_flipped_bit_is_noticed_or_harmless(case, tmp_path):
    """Checksums cover all parts: what can be read after a flip, anywhere, is what was written."""
    path, measurement = tmp_path / "a.h5", CASES[case]()
    write_measurement(path, measurement)
    whole, noticed = path.read_bytes(), 0
    places = np.random.default_rng(1).integers(0, len(whole), 250).tolist()
    places += range(whole.index(measurement.data[1].tobytes()), len(whole), 797)
    for at in places:
        changed = bytearray(whole)
        changed[at] ^= 1 << at % 8
        path.write_bytes(changed)
        try:
            same(read_measurement(path), measurement)
        except ValueError:
            noticed += 1
    assert noticed > len(places) / 4  # the rest hits what is unused


def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    path = tmp_path / "a.h5"
    write_measurement(path, ct())
    before = path.read_bytes()

    def full(*_):
        raise OSError("disk full")

    monkeypatch.setattr(measurement_file, "_store", full)
    with pytest.raises(OSError, match="disk full"):
        write_measurement(path, mri())
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.h5"]


def test_large_arrays_are_in_chunks_of_less_than_an_item():
    assert measurement_file._chunks((40, 12, 640, 372), 8)[0] == 1
    for shape in ((40, 12, 640, 372), (1000,), (3, 5000, 5000), (1, 1, 10**7)):
        chunks = measurement_file._chunks(shape, 8)
        assert 8 * np.prod(chunks) <= measurement_file.CHUNK
        assert all(1 <= c <= n for c, n in zip(chunks, shape, strict=True))
