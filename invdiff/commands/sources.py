"""What is at a path: which modality, how many items, and how each is read when its turn comes.

An item is one slice to reconstruct. It has a number and a digest, and no name: a file's name, and
the name of an item inside of it, may name a patient.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from invdiff.commands.privacy import EXPECTED
from invdiff.datasets.collection import Collection
from invdiff.datasets.ct_measurement import CTMeasurement
from invdiff.datasets.measurement_parts import to_parts
from invdiff.datasets.mri_measurement import MRIMeasurement

if TYPE_CHECKING:
    from invdiff.commands.readers import Opened

__all__ = ["Item", "Measurement", "Source", "content_digest", "find_source"]

Measurement = CTMeasurement | MRIMeasurement
ENDINGS = (".h5", ".hdf5", ".npz", ".mrd", ".cfl")
UNREADABLE = "unreadable"
NAMED = {"items", "provenance", "truth"}  # they change no result


@dataclass(frozen=True)
class Item:
    """One slice.

    Arguments:
        number: From 0 on, over all files.
        file: The number of its file, from 0 on: its patient, as far as anybody knows.
        modality: "ct" or "mri".
        path: The file.
        read: Loads its measurement, of this one item.
    """

    number: int
    file: int
    modality: str
    path: Path = field(repr=False)
    read: Callable[[], Measurement] = field(repr=False)

    @property
    def label(self) -> str:
        """What outputs call it."""
        return f"item-{self.number + 1:04d}"


@dataclass(frozen=True)
class Source:
    """All items at a path.

    Arguments:
        items: In the order of the files' names, and within each file.
        kind: What was found, in words.
        series: The folder of the DICOM series with the same slices, if there is one.
    """

    items: tuple[Item, ...]
    kind: str
    series: Path | None = field(default=None, repr=False)

    @property
    def modality(self) -> str:
        """ "ct", "mri", or "ct and mri"."""
        return " and ".join(sorted({item.modality for item in self.items} - {"unknown"}))


def find_source(path: Path) -> Source:
    """Looks at a file, or at the files of a folder; reads no data yet.

    Raises:
        FileNotFoundError: If there is nothing at the path.
        ImportError: If a library for the file is missing.
        ValueError: If it is no measurement; with the reason.
    """
    from invdiff.commands.bart_kspace import is_beside
    from invdiff.commands.readers import open_file

    if path.is_file():
        paths, parts = [path], [open_file(path)]
        where = "a file"
    elif path.is_dir():
        try:
            names = Collection.of_folder(path, ENDINGS)
        except ValueError:
            raise ValueError(_nothing(path)) from None
        paths = [each for _, each in names if not is_beside(each)]
        if not paths:
            raise ValueError(_nothing(path))
        parts = [_opened(each, len(paths)) for each in paths]
        if all(part.kind == UNREADABLE for part in parts):
            parts[0].readers[0]()  # which says why
        where = f"{len(parts)} file{'s' if len(parts) > 1 else ''}"
    else:
        raise FileNotFoundError("There is nothing at the path that was given. Check it.")
    readers = [(file, read) for file, part in enumerate(parts) for read in part.readers]
    items = tuple(
        Item(number, file, parts[file].modality, paths[file], read)
        for number, (file, read) in enumerate(readers)
    )
    kinds = " and ".join(sorted({part.kind for part in parts}))
    series = path if path.is_dir() and len(parts) == 1 and _has_dicom(path) else None
    return Source(items, f"{where}: {kinds}", series)


def _opened(path: Path, count: int) -> Opened:
    """A file among others: if it cannot be read, that is the failure of one item."""
    from invdiff.commands.readers import Opened, open_file

    try:
        return open_file(path)
    except EXPECTED as error:
        if count == 1:
            raise
        return Opened("unknown", UNREADABLE, (partial(_fail, error),))


def _fail(error: Exception) -> Measurement:
    raise error


def content_digest(measurement: Measurement) -> str:
    """The SHA-256 of everything in a measurement that changes its reconstruction."""
    whole = hashlib.sha256(measurement.modality.encode())
    for name, value in sorted(to_parts(measurement).items()):
        if name in NAMED:
            continue
        if isinstance(value, list):
            whole.update(f"{name}|{value}".encode())
        else:
            array = np.ascontiguousarray(value)
            whole.update(f"{name}|{array.dtype.str}|{array.shape}|".encode())
            whole.update(array.tobytes())
    return whole.hexdigest()


def _nothing(path: Path) -> str:
    if _has_dicom(path):
        return (
            "The folder has DICOM images but no measurement: images are what a reconstruction "
            "gives, not what it needs. Put the raw data beside them, as a file of one of the "
            f"formats of docs/formats.md ({', '.join(ENDINGS)})."
        )
    return f"The folder has no file that ends in {', '.join(ENDINGS)}. Check the path."


def _has_dicom(path: Path) -> bool:
    from invdiff.datasets.dicom_files import list_files
    from invdiff.datasets.dicom_limits import DicomError, DicomLimits

    try:
        return len(list_files(path, DicomLimits()).paths) > 0
    except DicomError:
        return False
