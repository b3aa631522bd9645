"""Large results in HDF5: samples, their mean and standard deviation, slice by slice.

====================  =====================================================================
``samples``           (n, k, *shape), one chunk per image (last two axes); optional
``mean``, ``std``     (n, *shape), one chunk per image
``items``             the n names
``about``             JSON: unit, and where the result comes from
attributes            ``format`` "invdiff result", ``format_version`` 1
====================  =====================================================================

HDF5 and not Zarr: a result is one file, which takes its place in one step, whole, whereas a Zarr
array is a folder of files; one process writes it, so that nothing is gained by writing chunks in
parallel; chunks have checksums in both; and h5py is needed for measurements anyway.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from invdiff.datasets.hdf5 import HDF5File
from invdiff.datasets.hdf5_writing import written_hdf5
from invdiff.datasets.measurement_checks import check_items, check_provenance, read_provenance
from invdiff.errors import ShapeError

__all__ = ["ResultFile", "ResultWriter", "new_result"]

FORMAT = "invdiff result"
VERSION = 1


class ResultWriter:
    """Takes the results of items in any order; made by ``new_result``."""

    def __init__(self, file: Any, items: int, samples: int, shape: tuple[int, ...]) -> None:
        self._file, self._missing = file, set(range(items))
        self._samples, self._shape = samples, shape

    def put(
        self, index: int, mean: np.ndarray, std: np.ndarray, samples: np.ndarray | None = None
    ) -> None:
        """Stores those of one item: mean and std (*shape), samples (k, *shape).

        Raises:
            IndexError: If there is no such item, or it was stored before.
            ShapeError, TypeError, ValueError: If shapes do not fit, numbers are not floating
                point, or not finite.
        """
        if index not in self._missing:
            raise IndexError(f"Item {index} is not one of those that are still missing.")
        parts = {"mean": (mean, self._shape), "std": (std, self._shape)}
        if (samples is None) != (self._samples == 0):
            raise ShapeError(f"Expected {self._samples} samples per item, as declared before.")
        if samples is not None:
            parts["samples"] = (samples, (self._samples, *self._shape))
        for name, (array, shape) in parts.items():
            if array.shape != shape or array.dtype.kind != "f":
                raise ShapeError(
                    f"{name} has shape {array.shape} and dtype {array.dtype}, expected {shape} "
                    "and floating-point numbers."
                )
            if not np.isfinite(array).all():
                raise ValueError(f"{name} of item {index} has NaN or infinite values.")
        for name, (array, _) in parts.items():
            self._file[name][index] = array
        self._missing.remove(index)

    def finish(self) -> None:
        """Raises ValueError if an item is missing."""
        if self._missing:
            raise ValueError(
                f"{len(self._missing)} items of the result are missing (first: "
                f"{min(self._missing)}); expected all. Nothing was written."
            )


@contextmanager
def new_result(
    path: str | Path,
    items: Sequence[str],
    shape: Sequence[int],
    samples: int,
    unit: str,
    about: Mapping[str, Any],
) -> Iterator[ResultWriter]:
    """A new file that appears when the block ends, if every item was stored; else nothing does.

    Arguments:
        path: Where to.
        items: Their names, all different.
        shape: Of an image, (rows, columns) or (channels, rows, columns).
        samples: How many of each item are stored; 0: only mean and standard deviation.
        unit: Of the values, such as "HU".
        about: Where the result comes from: plain values, as JSON has them.

    Raises:
        ImportError: Without h5py.
        OSError: If the disk is full or the folder cannot be written.
        ShapeError, TypeError, ValueError: If the arguments are not what they must be, or an item
            is missing at the end.
    """
    check_items(items, len(items))
    size = tuple(int(n) for n in shape)
    if not size or min(size) < 1 or samples < 0:
        raise ShapeError(f"shape is {size} and samples {samples}, expected positive sizes.")
    text = check_provenance({"unit": unit, "about": dict(about)})
    with written_hdf5(Path(path), libver=("v110", "v110")) as file:
        file.attrs["format"], file.attrs["format_version"] = FORMAT, VERSION
        for name, texts in (("about", [text]), ("items", items)):
            coded = np.array([one.encode() for one in texts])
            file.create_dataset(name, data=coded, fletcher32=True)
        leads = {"mean": (), "std": ()} | ({"samples": (samples,)} if samples else {})
        for name, lead in leads.items():
            whole = (len(items), *lead, *size)
            flat = min(2, len(size))  # an image, or a slice of a volume
            chunk = (*[1] * (len(whole) - flat), *whole[-flat:])
            file.create_dataset(name, whole, np.float32, chunks=chunk, fletcher32=True)
        writer = ResultWriter(file, len(items), samples, size)
        yield writer
        writer.finish()


class ResultFile:
    """A result on disk; one item in memory at a time. Raises ValueError if it is no such file."""

    def __init__(self, path: str | Path) -> None:
        self._file = HDF5File(path)
        try:
            attributes = self._file.attributes()
            known = attributes.get("format") == FORMAT
            known = known and attributes.get("format_version") == VERSION
            if not known or not {"mean", "std", "items", "about"} <= set(self._file.entries):
                raise ValueError(
                    "It is no result file of this version. Expected one from new_result."
                )
            self.items = tuple(self._file.texts("items"))
            self.about = read_provenance("about", self._file.texts("about"))
        except BaseException:
            self.close()
            raise

    def read(self, index: int, name: str = "mean") -> np.ndarray:
        """``mean`` or ``std`` of an item, (*shape), or its ``samples``, (k, *shape).

        Raises IndexError or KeyError if there is none, ValueError if it is damaged.
        """
        if not 0 <= index < len(self.items):
            raise IndexError(f"Item {index} was asked for, of {len(self.items)}.")
        if name not in ("mean", "std", "samples") or name not in self._file.entries:
            raise KeyError(f"The result has no {name}.")
        part: np.ndarray = self._file.array(name, index, index + 1)[0]
        return part

    def close(self) -> None:
        """Ends reading."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
