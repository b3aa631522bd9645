"""The one file format of measurements: HDF5 with all that a reconstruction needs.

The file's attributes are ``format`` ("invdiff measurement"), ``format_version`` (1) and
``modality`` ("ct" or "mri"); its arrays are the fields of ``CTMeasurement`` or
``MRIMeasurement``, under their names. docs/formats.md has them with shapes and units. Nothing
else may be in the file, and nothing is guessed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from invdiff.datasets.ct_measurement import CTMeasurement
from invdiff.datasets.hdf5 import HDF5File, h5py_module
from invdiff.datasets.hdf5_writing import written_hdf5
from invdiff.datasets.measurement_parts import from_parts, missing_and_extra, to_parts
from invdiff.datasets.mri_measurement import MRIMeasurement

__all__ = ["Contents", "inspect_measurement", "read_measurement", "write_measurement"]

FORMAT = "invdiff measurement"
VERSION = 1
LIMIT = 2 * 1024**3  # bytes of one array
ROOT = {"format", "format_version", "modality"}
CHUNK = 2**22  # bytes that one checksum covers, about
UNITS = {
    "ct": {"data": "1", "sigma": "1", "water": "1/mm", "truth": "1/mm"},
    "mri": {"pixel_size": "mm"},
}

Measurement = CTMeasurement | MRIMeasurement


@dataclass(frozen=True)
class Contents:
    """What a file says it holds: "ct" or "mri", and the data's shape, the items first."""

    modality: str
    shape: tuple[int, ...]


def write_measurement(path: str | Path, measurement: Measurement) -> None:
    """Writes a file whole or not at all; the same measurement gives the same bytes.

    Raises ImportError without h5py, OSError if the disk is full or the folder cannot be written.
    """
    modality = measurement.modality
    # The newest format of the library's first major version has checksums of all its parts.
    with written_hdf5(Path(path), libver=("v110", "v110")) as file:
        file.attrs["format"] = FORMAT
        file.attrs["format_version"] = VERSION
        file.attrs["modality"] = modality
        for name, value in to_parts(measurement).items():
            _store(file, name, value)
            if name in UNITS[modality]:
                file[name].attrs["units"] = UNITS[modality][name]


def inspect_measurement(path: str | Path) -> Contents:
    """What is in a file, without its arrays.

    Raises:
        FileNotFoundError, ImportError: If there is no such file, or no h5py.
        ValueError: If it is not such a file.
    """
    with HDF5File(path) as file:
        return _contents(file)


def read_measurement(path: str | Path, start: int = 0, stop: int | None = None) -> Measurement:
    """The items from ``start`` to ``stop``, or all, in memory.

    Raises:
        FileNotFoundError, ImportError: If there is no such file, or no h5py.
        ShapeError, TypeError, ValueError: If it is not such a file, is damaged, an array is larger
            than 2 GiB (read fewer items), or the parts are not what they must be.
    """
    with HDF5File(path, LIMIT) as file:
        contents = _contents(file)
        count = contents.shape[0]
        end = count if stop is None else stop
        if not 0 <= start < end <= count:
            raise ValueError(f"Items {start} to {end} were asked for, but there are {count}.")
        parts = {name: _part(file, name, start, end, count) for name in file.entries}
    return from_parts(contents.modality, parts)


def _contents(file: HDF5File) -> Contents:
    attributes = file.attributes()
    if attributes.get("format") != FORMAT:
        raise ValueError(
            "It is an HDF5 file, but not a measurement: its attribute 'format' is not "
            f"{FORMAT!r}. Write one with write_measurement, or convert it: docs/formats.md."
        )
    if attributes.get("format_version") != VERSION:
        raise ValueError(
            f"Its format_version is not {VERSION}: it was written by another version of the "
            "package. Write it again."
        )
    modality = attributes.get("modality")
    if not isinstance(modality, str) or modality not in UNITS:
        raise ValueError("Its modality is neither 'ct' nor 'mri'. Write it again.")
    missing, extra = missing_and_extra(modality, set(file.entries))
    extra += len(set(attributes) - ROOT)
    if missing or extra:
        raise ValueError(
            f"It lacks {missing} and has {extra} arrays, groups or attributes that do not belong. "
            "Write it with exactly the parts of docs/formats.md."
        )
    if any(entry is None for entry in file.entries.values()):
        raise ValueError("It has a group in place of an array. Write it again.")
    data = file.entries["data"]
    assert data is not None
    if not data.shape:
        raise ValueError("Its data has no axis of items. Write it again.")
    return Contents(modality, data.shape)


def _part(file: HDF5File, name: str, start: int, stop: int, count: int) -> Any:
    """One part: texts as a list, arrays with the asked items if they have any."""
    if name in ("items", "geometry", "provenance"):
        texts = file.texts(name)
        return texts[start:stop] if name == "items" and len(texts) == count else texts
    entry = file.entries[name]
    assert entry is not None
    # What is shared by all items has one entry.
    by_item = name not in ("water", "scale", "pixel_size") and entry.shape[:1] == (count,)
    return file.array(name, start, stop) if by_item else file.array(name)


def _store(file: Any, name: str, value: np.ndarray | list[str]) -> None:
    """An array in chunks of whole items with checksums; texts as UTF-8 of fixed length."""
    if isinstance(value, list):
        coded = [text.encode() for text in value]
        kind = h5py_module().string_dtype("utf-8", max(map(len, coded)))
        file.create_dataset(name, data=np.array(coded, dtype=kind), fletcher32=True)
    else:
        chunks = _chunks(value.shape, value.dtype.itemsize)
        file.create_dataset(name, data=value, chunks=chunks, fletcher32=True)


def _chunks(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Whole last axes, as many as make about ``CHUNK`` bytes; never more than one item."""
    chunks, size = list(shape), itemsize
    for axis in range(len(shape) - 1, -1, -1):
        most = 1 if axis == 0 and len(shape) > 1 else max(1, CHUNK // size)
        chunks[axis] = min(shape[axis], most)
        size *= chunks[axis]
    return tuple(chunks)
