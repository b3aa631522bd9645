"""What ``fuzz_coverage`` fuzzes: for each target valid inputs, and a function that reads one."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from fuzz_formats import FORMATS, Refused
from fuzz_stand_ins import OwnProgram, Told, dicom_answers, tell_dicom, tell_hdf5

__all__ = ["TARGETS", "Target"]

Read = Callable[[bytes], object]
NAME = "QZXPATIENT"  # of the file; it must be in no message
HDF5 = ("fastmri", "measurement", "mrd", "result")  # read through a process


@dataclass(frozen=True)
class Target:
    """One reader, or one part of it.

    Arguments:
        seeds: Valid inputs; gets a folder to work in.
        load: Imports the reader and gives what reads an input; gets a folder to work in.
        modules: What is instrumented, as far as it is written in Python.
        protected: What users call, for inputs that crash or hang a library in this process.
        seconds: For one input.
    """

    seeds: Callable[[Path], list[bytes]]
    load: Callable[[Path], Read]
    modules: tuple[str, ...] = ("invdiff.datasets",)
    protected: Callable[[Path], Callable[[Path], object]] | None = None
    seconds: int = 20


def _contents(name: str, folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in FORMATS[name][0](folder)]


def _file_reader(name: str, folder: Path) -> Read:
    """Reads an input as a file."""
    read = FORMATS[name][1]()
    return lambda data: _read_file(read, folder, data)


def _read_file(read: Callable[[Path], object], folder: Path, data: bytes) -> None:
    path = folder / f"{NAME}.damaged"
    path.write_bytes(data)
    _refusing_well(read, path)


def _refusing_well(read: Callable[[Path], object], path: Path) -> None:
    """Reads, or finds fault with the refusal: it is a sentence, and does not name the file."""
    try:
        read(path)
    except Refused as refusal:
        text = str(refusal)
        if NAME in text or not text.endswith("."):  # Python's own have no full stop
            raise AssertionError(f"A refusal is unclear, or names the file: {text}") from None


def _hdf5_answers(name: str, folder: Path) -> list[bytes]:
    """All that the process answers while valid files are read."""
    seeds, load, _ = FORMATS[name]
    read, found = load(), []
    for path in seeds(folder):
        process = OwnProgram()
        tell_hdf5(process)
        read(path)
        found.append(process.said)
    return found


def _answers_reader(name: str, folder: Path) -> Read:
    """The answers are the input; the file is any."""
    read = FORMATS[name][1]()
    path = folder / NAME
    path.write_bytes(b"\x89HDF\r\n\x1a\n")

    def told(data: bytes) -> None:
        tell_hdf5(Told(io.BytesIO(data)))
        _refusing_well(read, path)

    return told


def _all_hdf5(folder: Path) -> list[bytes]:
    found = []
    for name in HDF5:
        (folder / name).mkdir()
        found += _contents(name, folder / name)
    return found


def _worker_reader(folder: Path) -> Read:
    """What the process for HDF5 does with a file: everything in it is read."""
    from fuzz_formats import _reader

    from invdiff.datasets.hdf5 import HDF5File

    def read_all(path: Path) -> None:
        tell_hdf5(OwnProgram())
        with HDF5File(path, 2**26) as file:
            file.attributes()
            for name, entry in file.entries.items():
                if entry is not None:
                    file.fields(name)

    read = _reader(lambda: read_all)
    return lambda data: _read_file(read, folder, data)


def _worker_protected(folder: Path) -> Callable[[Path], object]:
    from invdiff.datasets import hdf5_process
    from invdiff.datasets.hdf5 import HDF5File

    hdf5_process.PATIENCE = 5.0

    def read_all(path: Path) -> None:
        with HDF5File(path) as file:
            for name, entry in file.entries.items():
                if entry is not None:
                    file.fields(name)

    return read_all


def _dicom_seeds(folder: Path) -> list[bytes]:
    from dicom_examples import seeds

    return [path.read_bytes() for path in seeds(folder)]


def _dicom_reader(folder: Path) -> Read:
    from invdiff.datasets.dicom_files import Listing
    from invdiff.datasets.dicom_limits import DicomLimits
    from invdiff.datasets.dicom_reader import InThisProcess, assemble

    opener = InThisProcess(DicomLimits(frame_bytes=2**26, pixel_bytes=2**28))
    read = _refusing(lambda path: assemble(Listing((path,)), opener))
    return lambda data: _read_file(read, folder, data)


def _dicom_protected(folder: Path) -> Callable[[Path], object]:
    from invdiff.datasets.dicom_limits import DicomLimits
    from invdiff.datasets.dicom_reader import read_series

    return lambda path: read_series(path, limits=DicomLimits(seconds=10))


def _dicom_said(folder: Path) -> list[bytes]:
    from dicom_examples import seeds

    return [dicom_answers(path) for path in seeds(folder)[-4:]]


def _dicom_told(folder: Path) -> Read:
    from invdiff.datasets.dicom_limits import DicomLimits
    from invdiff.datasets.dicom_reader import read_series

    limits = DicomLimits(frame_bytes=2**26, pixel_bytes=2**28)
    path = folder / NAME
    path.write_bytes(bytes(128) + b"DICM")
    read = _refusing(lambda path: read_series(path, limits=limits))

    def told(data: bytes) -> None:
        tell_dicom(Told(io.BytesIO(data)))
        _refusing_well(read, path)

    return told


def _refusing(read: Callable[[Path], object]) -> Callable[[Path], object]:
    """DICOM has one error for all refusals."""
    from invdiff.datasets.dicom_limits import DicomError

    def checked(path: Path) -> object:
        try:
            return read(path)
        except DicomError as error:
            raise Refused(str(error)) from None

    return checked


LIBRARIES = {
    "nifti": ("nibabel",),
    "npz": ("numpy.lib._format_impl", "zipfile"),
    "picture": ("PIL", "tifffile"),
}

TARGETS = {
    name: Target(
        partial(_contents, name),
        partial(_file_reader, name),
        ("invdiff.datasets", *LIBRARIES.get(name, ())),
    )
    for name in sorted(set(FORMATS) - set(HDF5))
}
TARGETS |= {
    f"{name}-answers": Target(partial(_hdf5_answers, name), partial(_answers_reader, name))
    for name in HDF5
}
TARGETS["hdf5-worker"] = Target(
    _all_hdf5, _worker_reader, ("invdiff.datasets", "h5py"), _worker_protected, seconds=6
)
TARGETS["dicom"] = Target(
    _dicom_seeds, _dicom_reader, ("invdiff.datasets", "pydicom"), _dicom_protected
)
TARGETS["dicom-answers"] = Target(_dicom_said, _dicom_told, ("invdiff.datasets", "pydicom"))
