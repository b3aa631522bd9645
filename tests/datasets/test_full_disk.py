"""A disk that is full in the middle of a write: an OSError, and the file that was there before."""

import numpy as np
import pytest
from faults import contents, room

from invdiff.datasets.bart import read_cfl, write_cfl
from invdiff.datasets.ct_measurement import CTMeasurement
from invdiff.datasets.dicom_reader import read_series
from invdiff.datasets.dicom_writer import write_series
from invdiff.datasets.fastmri import FastMRIFile
from invdiff.datasets.measurement_file import read_measurement, write_measurement
from invdiff.datasets.mrd import read_mrd
from invdiff.datasets.mrd_writer import write_mrd
from invdiff.datasets.nifti import NiftiVolume, read_nifti, write_nifti
from invdiff.datasets.pictures import read_picture, write_picture
from invdiff.datasets.raw_simulation import simulate_raw_mri
from invdiff.datasets.result_file import ResultFile, new_result
from invdiff.datasets.sinogram import Sinogram
from invdiff.operators import Geometry

SIDE = 64
IMAGE = np.random.default_rng(0).random((SIDE, SIDE))
RAW = simulate_raw_mri(IMAGE, np.ones(SIDE), 0.01, 0, coils=2)
GEOMETRY = Geometry.parallel((SIDE, SIDE), SIDE, pixel_size=1.0)
SHAPE = GEOMETRY.sinogram_shape


def measurement(path):
    data = np.ones((1, *SHAPE)) * np.random.default_rng(1).random((1, *SHAPE))
    write_measurement(path, CTMeasurement(("a",), data, np.full((1, 1, 1), 0.1), GEOMETRY))


def result(path):
    with new_result(path, ["a"], (SIDE, SIDE), 0, "HU", {}) as writer:
        writer.put(0, IMAGE, IMAGE)


def sinogram(path):
    angles = np.linspace(0, 3, SHAPE[0])
    values = np.ones(SHAPE, np.float32)
    Sinogram(values, np.array(0.1), angles, 1.0, (SIDE, SIDE), 1.0, 0.02).save(path)


WRITERS = {
    "bart.cfl": (lambda path: write_cfl(path, IMAGE), read_cfl),
    "dicom": (lambda path: write_series(path, IMAGE[None], (1.0, 1.0, 1.0), "MR"), read_series),
    "fastmri.h5": (RAW.save, FastMRIFile.open),
    "measurement.h5": (measurement, read_measurement),
    "mrd.h5": (
        lambda path: write_mrd(path, RAW.kspace[None], RAW.mask, RAW.header()),
        read_mrd,
    ),
    "nifti.nii": (
        lambda path: write_nifti(path, NiftiVolume(IMAGE[None], np.eye(4))),
        read_nifti,
    ),
    "picture.png": (lambda path: write_picture(path, IMAGE[None], 16), read_picture),
    "picture.tif": (lambda path: write_picture(path, IMAGE[None], 16), read_picture),
    "result.h5": (result, lambda path: ResultFile(path).close()),
    "sinogram.npz": (sinogram, Sinogram.load),
}


@pytest.mark.parametrize("size", [0, 2000], ids=["at-once", "later"])
@pytest.mark.parametrize("name", WRITERS)
def test_a_write_that_fails_leaves_what_was_there(name, size, tmp_path):
    write, read = WRITERS[name]
    with room(size), pytest.raises(OSError):
        write(tmp_path / name)
    assert contents(tmp_path) == {}
    write(tmp_path / name)
    read(tmp_path / name)
    whole = contents(tmp_path)
    if name != "dicom":  # a series never replaces another
        with room(size), pytest.raises(OSError):
            write(tmp_path / name)
        assert contents(tmp_path) == whole
