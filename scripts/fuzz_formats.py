"""All formats but DICOM, for ``fuzz_readers``: valid files, and how to read them."""

from __future__ import annotations

import gzip
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import invdiff

__all__ = ["FORMATS", "Refused"]

OWN = Path(invdiff.__file__).resolve().parents[1]
SEPARATOR = b"\0\0\0\0"  # between the two files of BART


class Refused(Exception):
    """A clear error: one that the package raised itself, not a library beneath it."""


def _reader(load: Callable[[], Callable[[Path], object]]) -> Callable[[Path], object]:
    """Reads with what ``load`` gives; errors of the package itself become Refused."""
    read = load()

    def checked(path: Path) -> object:
        try:
            return read(path)
        except (ValueError, TypeError) as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            own = Path(frame.filename).resolve().is_relative_to(OWN)
            if own and str(error).endswith("."):  # Python's own messages have no full stop
                raise Refused(str(error)) from None
            raise

    return checked


def _refusals() -> tuple[type[Exception], ...]:
    return (Refused,)


def _example(kind: str, folder: Path) -> list[Path]:
    """Valid files of a format."""
    write: dict[str, Callable[[Path], Any]] = {
        "fastmri": _fastmri,
        "measurement": _measurements,
        "result": _result,
        "mrd": _mrd,
        "npz": _npz,
        "bart": _bart,
        "nifti": _nifti,
        "picture": _pictures,
        "list": lambda folder: (folder / "list.txt").write_text("a.txt\nb/c.txt\n# no\n\nd.txt\n"),
    }
    write[kind](folder)
    return sorted(path for path in folder.iterdir() if path.is_file())


def _fastmri(folder: Path) -> None:
    from invdiff.datasets.fastmri import write_fastmri

    kspace, header = _raw()
    mask = np.arange(8) % 2 == 0
    write_fastmri(folder / "a.h5", kspace, header)
    write_fastmri(folder / "b.h5", kspace * mask, header, mask)


def _measurements(folder: Path) -> None:
    from invdiff.datasets.ct_measurement import CTMeasurement
    from invdiff.datasets.measurement_file import write_measurement
    from invdiff.datasets.mri_measurement import MRIMeasurement
    from invdiff.operators import Geometry

    rng = np.random.default_rng(0)
    geometry = Geometry.parallel((6, 7), 5, pixel_size=1.0)
    data = rng.random((2, *geometry.sinogram_shape), dtype=np.float32)
    sigma = np.full((1, 1, 1), 0.1)
    write_measurement(folder / "a.h5", CTMeasurement(("a", "b"), data, sigma, geometry))
    kspace = rng.random((2, 2, 8, 9)) + 1j
    mask, noise = np.ones((1, 8, 9), bool), np.full((1, 1, 1, 1), 0.1)
    scan = MRIMeasurement(("a", "b"), kspace, noise, mask, kspace[:1], truth=kspace[:, 0])
    write_measurement(folder / "b.h5", scan)


def _result(folder: Path) -> None:
    from invdiff.datasets.result_file import new_result

    with new_result(folder / "a.h5", ["a", "b"], (8, 9), 2, "HU", {"seed": 1}) as writer:
        for index in range(2):
            one = np.ones((8, 9), np.float32)
            writer.put(index, one, one, np.ones((2, 8, 9), np.float32))


def _mrd(folder: Path) -> None:
    from invdiff.datasets.mrd_writer import write_mrd

    kspace, header = _raw()
    write_mrd(folder / "a.h5", kspace, np.ones(8), header, kspace[0].reshape(3, -1))


def _raw() -> tuple[np.ndarray, Any]:
    """k-space of two slices, three coils, and its header."""
    from invdiff.datasets.ismrmrd_header import EncodingLimits, Header, Space

    rng = np.random.default_rng(0)
    kspace = (rng.random((2, 3, 16, 8)) + 1j).astype(np.complex64)
    space = Space((16, 8, 1), (32.0, 8.0, 5.0))
    recon = Space((8, 8, 1), (16.0, 8.0, 5.0))
    return kspace, Header(space, recon, EncodingLimits(0, 7, 4))


def _npz(folder: Path) -> None:
    from invdiff.datasets.kspace import KSpace
    from invdiff.datasets.sinogram import Sinogram

    values = np.linspace(0, 3, 20, dtype=np.float32).reshape(4, 5)
    scan = Sinogram(values, np.array(0.1), np.arange(4.0), 0.9, (6, 7), 1.1, 0.02)
    scan.save(folder / "a.npz")
    KSpace(values[None] + 1j, 0.1, np.ones((4, 5), bool)).save(folder / "b.npz")


def _bart(folder: Path) -> None:
    from invdiff.datasets.bart import write_cfl

    write_cfl(folder / "a", np.arange(60.0).reshape(3, 4, 1, 5))
    parts = [(folder / f"a.{ending}").read_bytes() for ending in ("hdr", "cfl")]
    (folder / "both").write_bytes(SEPARATOR.join(parts))
    (folder / "a.hdr").unlink()
    (folder / "a.cfl").unlink()


def _nifti(folder: Path) -> None:
    from invdiff.datasets.nifti import NiftiVolume, write_nifti

    for name, kind in (("a.nii", np.int16), ("b.nii", np.float32), ("c.nii.gz", np.complex64)):
        write_nifti(folder / name, NiftiVolume(np.ones((3, 4, 5), kind), np.eye(4)))
    packed = (folder / "c.nii.gz").read_bytes()
    (folder / "d.nii").write_bytes(gzip.decompress(packed))


def _pictures(folder: Path) -> None:
    import tifffile

    from invdiff.datasets.pictures import write_picture

    rng = np.random.default_rng(0)
    for bits in (8, 16):
        write_picture(folder / f"a{bits}.png", rng.random((1, 9, 7)), bits)
        write_picture(folder / f"b{bits}.tif", rng.random((3, 9, 7)), bits)
    write_picture(folder / "c.png", rng.random((3, 9, 7)), 8)
    codes = rng.integers(0, 2**16, (40, 30), dtype=np.uint16)
    tifffile.imwrite(folder / "d.tif", codes, compression="zlib", rowsperstrip=8)


def _fastmri_reader() -> Callable[[Path], object]:
    from invdiff.datasets.fastmri import FastMRIFile
    from invdiff.datasets.kspace_preparation import prepare

    _one_process()

    def read(path: Path) -> None:
        file = FastMRIFile.open(path)
        for index in range(file.shape[0]):
            prepare(file.read(index), file.mask, file.header.readout, 2)

    return read


def _measurement_reader() -> Callable[[Path], object]:
    from invdiff.datasets.measurement_file import read_measurement

    _one_process()
    return read_measurement


def _result_reader() -> Callable[[Path], object]:
    from invdiff.datasets.result_file import ResultFile

    _one_process()

    def read(path: Path) -> None:
        with ResultFile(path) as file:
            for index in range(len(file.items)):
                for name in ("mean", "std"):
                    file.read(index, name)

    return read


def _mrd_reader() -> Callable[[Path], object]:
    from invdiff.datasets.mrd import read_mrd
    from invdiff.datasets.mrd_measurement import measurement_of_mrd

    _one_process()
    return lambda path: measurement_of_mrd(read_mrd(path))


def _npz_reader() -> Callable[[Path], object]:
    from invdiff.datasets.kspace import KSpace
    from invdiff.datasets.sinogram import Sinogram

    def read(path: Path) -> object:
        try:
            return Sinogram.load(path)
        except ValueError as error:
            if "lacks" in str(error):
                return KSpace.load(path)
            raise

    return read


def _bart_reader() -> Callable[[Path], object]:
    from invdiff.datasets.bart import kspace_from_cfl, read_cfl

    def read(path: Path) -> object:
        header, _, numbers = path.read_bytes().partition(SEPARATOR)
        path.with_suffix(".hdr").write_bytes(header)
        path.with_suffix(".cfl").write_bytes(numbers)
        try:
            return kspace_from_cfl(read_cfl(path.with_suffix("")))
        finally:
            path.with_suffix(".hdr").unlink()
            path.with_suffix(".cfl").unlink()

    return read


def _nifti_reader() -> Callable[[Path], object]:
    from invdiff.datasets.nifti import read_nifti

    return read_nifti


def _picture_reader() -> Callable[[Path], object]:
    from invdiff.datasets.pictures import read_picture

    return read_picture


def _list_reader() -> Callable[[Path], object]:
    from invdiff.datasets.collection import Collection

    def read(path: Path) -> object:
        (path.parent / "b").mkdir(exist_ok=True)
        for name in ("a.txt", "b/c.txt", "d.txt"):
            (path.parent / name).touch()
        try:
            return Collection.of_list(path)
        except FileNotFoundError as error:
            raise Refused(str(error)) from None

    return read


def _one_process() -> None:
    """One process reads all the HDF5 files, and a hanging one is given up early."""
    from invdiff.datasets import hdf5, hdf5_process

    hdf5_process.PATIENCE = 5.0
    hdf5._shared.set(hdf5.Process(2**28))


LOADERS = {
    "bart": _bart_reader,
    "fastmri": _fastmri_reader,
    "list": _list_reader,
    "measurement": _measurement_reader,
    "mrd": _mrd_reader,
    "nifti": _nifti_reader,
    "npz": _npz_reader,
    "picture": _picture_reader,
    "result": _result_reader,
}

FORMATS = {
    name: (partial(_example, name), partial(_reader, load), _refusals)
    for name, load in LOADERS.items()
}
