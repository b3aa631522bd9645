"""The formats of measurement files, told by what is in a file: only BART's have no mark inside."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from invdiff.commands.bart_kspace import bart_slices
from invdiff.commands.raw_kspace import COILS, measurement_of_raw
from invdiff.commands.sources import Measurement
from invdiff.datasets.ct_measurement import CTMeasurement
from invdiff.datasets.fastmri import FastMRIFile, is_hdf5
from invdiff.datasets.hdf5 import HDF5File
from invdiff.datasets.kspace import KSpace
from invdiff.datasets.measurement_file import inspect_measurement, read_measurement
from invdiff.datasets.mrd import read_mrd
from invdiff.datasets.mrd_measurement import measurement_of_mrd
from invdiff.datasets.mri_measurement import MRIMeasurement
from invdiff.datasets.sinogram import KEYS, Sinogram

__all__ = ["Opened", "open_file"]

ITEM = "item"
BART = (".cfl", ".hdr")  # which have no mark inside


@dataclass(frozen=True)
class Opened:
    """A file: its modality, its format in words, and what reads each of its items."""

    modality: str
    kind: str
    readers: tuple[Callable[[], Measurement], ...]


def open_file(path: Path) -> Opened:
    """Looks at one file. Raises OSError, ImportError, or ValueError if it is no measurement."""
    if path.suffix in BART:
        return Opened("mri", "k-space in BART's cfl", tuple(bart_slices(path)))
    if not is_hdf5(path):
        return _open_npz(path)
    with HDF5File(path) as file:
        names, attributes = set(file.entries), file.attributes()
    if attributes.get("format") == "invdiff measurement":
        contents = inspect_measurement(path)
        readers = tuple(partial(_measurement, path, k) for k in range(contents.shape[0]))
        return Opened(contents.modality, "measurement in HDF5", readers)
    if {"kspace", "ismrmrd_header"} <= names:
        raw = FastMRIFile.open(path)
        return Opened(
            "mri", "raw k-space in HDF5", tuple(partial(_raw, raw, k) for k in range(raw.shape[0]))
        )
    if any(name.rsplit("/", 1)[-1] == "xml" for name in names):
        whole = measurement_of_mrd(read_mrd(path), COILS)
        readers = tuple(partial(_part, whole, k) for k in range(len(whole)))
        return Opened("mri", "raw scan in ISMRMRD", readers)
    raise ValueError(
        "It is an HDF5 file, but no measurement: neither one of invdiff's own, nor raw k-space "
        "as fastMRI or ISMRMRD have it. docs/formats.md has the formats."
    )


def _open_npz(path: Path) -> Opened:
    names = _names(path)
    for modality, main, required, read in NPZ:
        if main in names:
            missing = sorted({*required, "format_version"} - names)
            if missing:  # said here, without the other names that are in the file
                raise ValueError(f"It lacks the arrays {missing}. docs/formats.md has all.")
            return Opened(modality, f"{main} in npz", (partial(read, path),))
    raise ValueError(
        "It is neither an HDF5 file, nor a .cfl file, nor an npz file with the array 'sinogram' "
        "or 'kspace', or it is damaged. docs/formats.md has the formats."
    )


def _names(path: Path) -> set[str]:
    """Those of the arrays of an npz file; none if it is no such file."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {name.removesuffix(".npy") for name in archive.namelist()}
    except (zipfile.BadZipFile, ValueError, EOFError):
        return set()


def _measurement(path: Path, number: int) -> Measurement:
    return read_measurement(path, number, number + 1)


def _raw(raw: FastMRIFile, number: int) -> Measurement:
    measurement = measurement_of_raw(raw, number)
    return replace(measurement, provenance={"simulated": _simulated(raw.path)})


def _simulated(path: Path) -> bool:
    """Whether ``invdiff simulate`` made it, which says so beside it."""
    try:
        about = json.loads((path.parent / "simulation.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(about, dict) and about.get("simulated") is True


def _sinogram(path: Path) -> Measurement:
    return CTMeasurement.from_sinogram(Sinogram.load(path), ITEM)


def _kspace(path: Path) -> Measurement:
    return MRIMeasurement.from_kspace(KSpace.load(path), ITEM)


def _part(whole: MRIMeasurement, number: int) -> Measurement:
    """One item of a measurement in memory; what is shared by all has one entry."""
    parts = {
        name: array[number : number + 1] if len(array) == len(whole) else array
        for name in ("data", "sigma", "mask", "maps")
        if (array := getattr(whole, name)) is not None
    }
    return replace(whole, items=(ITEM,), **parts)


NPZ: tuple[tuple[str, str, tuple[str, ...], Callable[[Path], Measurement]], ...] = (
    ("ct", "sinogram", KEYS, _sinogram),
    ("mri", "kspace", ("kspace", "sigma"), _kspace),
)
