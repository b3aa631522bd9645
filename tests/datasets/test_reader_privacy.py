"""A planted name is nowhere but in the file: in no message, log, warning or printed object."""

import logging
import traceback

import h5py
import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image, PngImagePlugin

from invdiff.datasets.bart import read_cfl, write_cfl
from invdiff.datasets.collection import Collection
from invdiff.datasets.ct_measurement import CTMeasurement
from invdiff.datasets.fastmri import FastMRIFile, is_hdf5, write_fastmri
from invdiff.datasets.hdf5 import one_worker
from invdiff.datasets.ismrmrd_header import EncodingLimits, Header, Space
from invdiff.datasets.kspace import KSpace
from invdiff.datasets.kspace_preparation import prepare
from invdiff.datasets.measurement_file import (
    inspect_measurement,
    read_measurement,
    write_measurement,
)
from invdiff.datasets.mrd import read_mrd
from invdiff.datasets.mrd_measurement import measurement_of_mrd
from invdiff.datasets.mrd_writer import write_mrd
from invdiff.datasets.nifti import read_nifti
from invdiff.datasets.pictures import read_picture
from invdiff.datasets.result_file import ResultFile, new_result
from invdiff.datasets.sinogram import Sinogram
from invdiff.operators import Geometry

NAME = "QZXPATIENTQZX"
rng = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def nothing_is_said(capfd, caplog, recwarn):
    """Whatever a test here does, the name is in no output, log or warning."""
    caplog.set_level(logging.DEBUG)
    with one_worker():
        yield
    out, err = capfd.readouterr()
    said = [out, err, caplog.text, *(str(one.message) for one in recwarn)]
    assert not any(NAME in text for text in said)


def quiet_error(read, *arguments):
    """Reads; an error may come, with any message and traceback but the name."""
    try:
        result = read(*arguments)
    except (ValueError, TypeError, OSError, KeyError) as error:
        assert NAME not in "".join(traceback.format_exception(error))
        assert NAME not in str(error) + repr(error)
        return error
    assert NAME not in repr(result)
    return None


def damages(path, count=60):
    """The file, cut or with bytes replaced in different places; the planted name stays."""
    whole = path.read_bytes()
    for number in range(count):
        content = bytearray(whole)
        at = int(rng.integers(0, len(content)))
        if number % 3 == 0:
            del content[at:]
        else:
            content[at : at + 4] = rng.bytes(4)
        path.write_bytes(content)
        yield
    path.write_bytes(whole)


def file(tmp_path, ending):
    return tmp_path / f"{NAME}{ending}"


def ct(names):
    scan = Geometry.parallel((6, 7), 5, pixel_size=1.0)
    data = rng.random((len(names), *scan.sinogram_shape))
    return CTMeasurement(names, data, np.full((1, 1, 1), 0.1), scan)


def test_measurements(tmp_path):
    path = file(tmp_path, ".h5")
    write_measurement(path, ct((NAME, "b")))
    assert read_measurement(path).items[0] == NAME
    assert quiet_error(read_measurement, path) is None
    for _ in damages(path):
        quiet_error(read_measurement, path)
        quiet_error(inspect_measurement, path)
    changes = [
        lambda f: f.attrs.__setitem__(NAME, 1),
        lambda f: f.attrs.__setitem__("format", NAME),
        lambda f: f.attrs.__setitem__("modality", NAME),
        lambda f: f.__setitem__(NAME, 1),
        lambda f: f.create_group(f"{NAME}-group"),
        lambda f: f.__setitem__("x", h5py.ExternalLink(NAME, NAME)),
        lambda f: f.__delitem__("sigma"),
        lambda f: (f.__delitem__("items"), f.__setitem__("items", [NAME, NAME])),
        lambda f: (f.__delitem__("items"), f.__setitem__("items", [NAME, NAME + "\n"])),
        lambda f: (f.__delitem__("geometry"), f.__setitem__("geometry", f'{{"{NAME}": 1}}')),
        lambda f: (f.__delitem__("provenance"), f.__setitem__("provenance", NAME)),
        lambda f: (f.__delitem__("water"), f.__setitem__("water", NAME)),
        lambda f: (f.__delitem__("data"), f.__setitem__("data", np.array([NAME.encode()] * 2))),
    ]
    for change in changes:
        write_measurement(path, ct((NAME, "b")))
        with h5py.File(path, "r+") as opened:
            change(opened)
        assert quiet_error(read_measurement, path) is not None


def test_raw_scans(tmp_path):
    path = file(tmp_path, ".mrd")
    kspace = (rng.normal(size=(1, 3, 16, 8)) + 1j).astype(np.complex64)
    space = Space((16, 8, 1), (32.0, 8.0, 5.0))
    header = Header(space, Space((8, 8, 1), (16.0, 8.0, 5.0)), EncodingLimits(0, 7, 4))
    write_mrd(path, kspace, np.ones(8), header, kspace[0].reshape(3, -1))
    with h5py.File(path, "r+") as opened:
        text = opened["dataset/xml"][0].decode()
        subject = f"<subjectInformation><patientName>{NAME}</patientName></subjectInformation>"
        text = text.replace("<acquisitionSystem", f"{subject}<acquisitionSystem")
        opened["dataset/xml"][0] = text
        opened["dataset"].attrs["patient"] = opened.attrs["patient"] = NAME
        opened["dataset"][NAME] = NAME
    scan = read_mrd(path)
    assert quiet_error(read_mrd, path) is None
    made = measurement_of_mrd(scan)
    assert NAME not in repr(made) + repr(made.items) + repr(made.provenance) + repr(scan)
    for _ in damages(path):
        quiet_error(read_mrd, path)
    for spoil in ("cartesian", "matrixSize", "center", "encoding"):
        with h5py.File(path, "r+") as opened:
            opened["dataset/xml"][0] = text.replace(spoil, NAME)
        assert quiet_error(read_mrd, path) is not None


def test_raw_k_space(tmp_path):
    path = file(tmp_path, ".h5")
    kspace = (rng.normal(size=(2, 3, 16, 8)) + 1j).astype(np.complex64)
    space = Space((16, 8, 1), (32.0, 8.0, 5.0))
    header = Header(space, Space((8, 8, 1), (16.0, 8.0, 5.0)), EncodingLimits(0, 7, 4))

    def read(path):
        opened = FastMRIFile.open(path)
        prepare(opened.read(0), opened.mask, opened.header.readout, 2)
        return opened

    def write(change=lambda opened: None):
        write_fastmri(path, kspace, header, np.ones(8))
        with h5py.File(path, "r+") as opened:
            text = opened["ismrmrd_header"][()].decode()
            subject = f"<subjectInformation><patientName>{NAME}</patientName></subjectInformation>"
            del opened["ismrmrd_header"]
            opened["ismrmrd_header"] = text.replace("<encoding>", f"{subject}<encoding>", 1)
            opened.attrs["patient_id"] = opened.attrs[NAME] = NAME
            change(opened)

    def put(name, value):
        return lambda opened: (opened.__delitem__(name), opened.__setitem__(name, value))

    def spoil(word):
        def change(opened):
            text = opened["ismrmrd_header"][()].decode().replace(word, NAME)
            put("ismrmrd_header", text)(opened)

        return change

    write()
    assert quiet_error(read, path) is None
    for _ in damages(path):
        quiet_error(read, path)
    for name in ("kspace", "ismrmrd_header", "mask"):
        for value in (NAME, [NAME, NAME], np.ones(3), [NAME.encode()] * 8):
            write(put(name, value))
            assert quiet_error(read, path) is not None
    for word in ("encodedSpace", "<x>16</x>", "</center>", "matrixSize", "ISMRMRD"):
        write(spoil(word))
        assert quiet_error(read, path) is not None
    write(lambda opened: opened.move("kspace", NAME))
    assert quiet_error(read, path) is not None
    write(lambda opened: opened.__setitem__("x", h5py.ExternalLink(NAME, NAME)))
    assert quiet_error(read, path) is not None


def test_results(tmp_path):
    path, image = file(tmp_path, ".h5"), np.ones((4, 4))
    with new_result(path, [NAME], (4, 4), 0, "HU", {"note": NAME}) as writer:
        writer.put(0, image, image)
    for _ in damages(path):
        quiet_error(ResultFile, path)
    assert quiet_error(lambda: new_result(path, [NAME, NAME], (4,), 0, "", {}).__enter__())


def test_pictures_and_volumes(tmp_path):
    path = file(tmp_path, ".png")
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Patient", NAME)
    texts.add_itxt(NAME, NAME)
    Image.fromarray(rng.integers(0, 255, (9, 9), np.uint8)).save(path, pnginfo=texts)
    assert quiet_error(read_picture, path) is None
    for _ in damages(path):
        quiet_error(read_picture, path)
    path = file(tmp_path, ".tif")
    tifffile.imwrite(path, np.ones((9, 9), np.uint8), description=NAME, software=NAME)
    assert quiet_error(read_picture, path) is None
    for _ in damages(path):
        quiet_error(read_picture, path)
    path = file(tmp_path, ".nii")
    image = nibabel.Nifti1Image(np.ones((3, 3, 3), np.int16), np.eye(4))
    for field in ("descrip", "aux_file", "db_name", "intent_name"):
        image.header[field] = NAME.encode()
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", NAME.encode()))
    image.to_filename(path)
    assert quiet_error(read_nifti, path) is None
    for _ in damages(path):
        quiet_error(read_nifti, path)


def test_plain_arrays(tmp_path):
    path = file(tmp_path, ".npz")
    values = np.linspace(0, 3, 20, dtype=np.float32).reshape(4, 5)
    scan = Sinogram(values, np.array(0.1), np.arange(4.0), 0.9, (6, 7), 1.1, 0.02)
    scan.save(path)
    for _ in damages(path):
        quiet_error(Sinogram.load, path)
    records = np.ones(3, [(NAME, "<f8")])
    np.savez(path, sigma=1, angles=1, detector_spacing=1, image_shape=1, pixel_size=1, water=1,
             sinogram=records, format_version=1)  # fmt: skip
    assert "no plain array" in str(quiet_error(Sinogram.load, path))
    np.savez(path, **{NAME: np.ones(3), "sigma": 1.0})
    assert quiet_error(Sinogram.load, path) is not None
    stored = {"sinogram": values, "format_version": np.array(NAME)}
    np.savez(
        path, sigma=1, angles=1, detector_spacing=1, image_shape=1, pixel_size=1, water=1, **stored
    )
    assert quiet_error(Sinogram.load, path) is not None
    path = file(tmp_path, "")
    write_cfl(path, np.ones(5))
    header = path.with_name(f"{NAME}.hdr")
    header.write_text(header.read_text() + f"# Command\n{NAME}\n")
    for _ in damages(header, 20):
        quiet_error(read_cfl, path)
    header.write_text(NAME)
    assert quiet_error(read_cfl, path) is not None


def test_lists(tmp_path):
    (tmp_path / NAME).mkdir()
    listing = tmp_path / NAME / f"{NAME}.txt"
    for text in (f"{NAME}.h5", f"../{NAME}", f"{NAME}.txt\n{NAME}.txt", f"/{NAME}", NAME * 99, ""):
        listing.write_text(text)
        assert quiet_error(Collection.of_list, listing) is not None
    assert quiet_error(Collection.of_folder, tmp_path / NAME, [".txt"]) is None


@pytest.mark.parametrize(
    "read",
    [read_measurement, read_mrd, ResultFile, read_picture, read_nifti, read_cfl, Sinogram.load,
     KSpace.load, FastMRIFile.open, is_hdf5, Collection.of_list],
)  # fmt: skip
def test_files_that_are_missing_folders_or_forbidden(read, tmp_path, monkeypatch):
    assert isinstance(quiet_error(read, file(tmp_path, ".x")), OSError)
    (tmp_path / NAME).mkdir()
    assert isinstance(quiet_error(read, tmp_path / NAME), OSError)
    for ending in (".x", ".x.cfl", ".x.hdr"):
        file(tmp_path, ending).write_bytes(b"x")
    monkeypatch.setattr("os.access", lambda *_: False)
    assert isinstance(quiet_error(read, file(tmp_path, ".x")), PermissionError)
