"""Images of any format as slices of numbers: (slices, channels, rows, columns), float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from invdiff.datasets.collection import Collection
from invdiff.datasets.dicom_files import list_files
from invdiff.datasets.dicom_limits import DicomError, DicomLimits
from invdiff.datasets.dicom_reader import read_series
from invdiff.datasets.nifti import read_nifti
from invdiff.datasets.pictures import read_picture
from invdiff.datasets.result_file import ResultFile
from invdiff.errors import ShapeError

__all__ = ["Images", "find_images"]

ENDINGS = (".npz", ".npy", ".png", ".tif", ".tiff", ".nii", ".nii.gz", ".h5")
MEANS = ("mean", "posterior_mean", "image", "images", "x")  # tried in this order
SERIES = "series"


@dataclass(frozen=True)
class Images:
    """One item: a file, or a folder with a series."""

    path: Path = field(repr=False)
    read: Callable[[], np.ndarray] = field(repr=False)


def find_images(folder: Path, array: str | None) -> dict[str, Images]:
    """All images below a folder by their relative names without endings; a DICOM series is one.

    Raises OSError if there is no such folder, ValueError if it has no images.
    """
    if not folder.is_dir():
        raise NotADirectoryError("There is no such folder. Check the path.")
    try:
        files = list(Collection.of_folder(folder, ENDINGS))
    except ValueError:
        files = []
    if not files:
        if _is_series(folder):
            return {SERIES: Images(folder, partial(_series, folder))}
        raise ValueError(
            f"The folder has no images: no file ends in {', '.join(ENDINGS)}, and there is no "
            "DICOM series."
        )
    found: dict[str, Images] = {}
    for name, path in files:
        plain = _without_ending(name)
        if plain in found:
            raise ValueError("Two images have the same name but for its ending. Rename one.")
        found[plain] = Images(path, partial(_read, path, array))
    return found


def _is_series(folder: Path) -> bool:
    try:
        return len(list_files(folder, DicomLimits()).paths) > 0
    except DicomError:
        return False


def _without_ending(name: str) -> str:
    ending = max((e for e in ENDINGS if name.lower().endswith(e)), key=len)
    return name[: -len(ending)]


def _read(path: Path, array: str | None) -> np.ndarray:
    name = path.name.lower()
    if name.endswith((".png", ".tif", ".tiff")):
        return read_picture(path)[None].astype(np.float64)
    if name.endswith((".nii", ".nii.gz")):
        return _slices(read_nifti(path).pixels)
    if name.endswith(".h5"):
        with ResultFile(path) as file:
            items = [file.read(k, array or "mean") for k in range(len(file.items))]
        return np.stack(items).astype(np.float64)
    return _slices(_numpy(path, array))


def _series(folder: Path) -> np.ndarray:
    return _slices(read_series(folder).pixels)


def _numpy(path: Path, array: str | None) -> np.ndarray:
    try:
        with path.open("rb") as raw:
            loaded = np.load(raw, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return loaded
            with loaded as file:
                known = [name for name in file.files if name != "about"]
                wanted = [array] if array else [*MEANS, *(known if len(known) == 1 else [])]
                for name in wanted:
                    if name in known:
                        found: np.ndarray = file[name]
                        return found
    except (EOFError, OSError, ValueError):
        raise ValueError("It is not a readable npz or npy file of plain numbers.") from None
    raise ValueError(
        f"It has {len(known)} arrays, and none is called {', '.join(wanted)}. Choose one with "
        "--array."
    )


def _slices(values: np.ndarray) -> np.ndarray:
    """(rows, columns), (slices, rows, columns) or (slices, channels, rows, columns)."""
    if values.dtype.kind not in "fiu" or not 2 <= values.ndim <= 4:
        raise ShapeError(
            f"It has shape {values.shape} and dtype {values.dtype}, expected real numbers (rows, "
            "columns), (slices, rows, columns) or (slices, channels, rows, columns)."
        )
    whole = values.astype(np.float64)
    if values.ndim == 2:
        return whole[None, None]
    return whole[:, None] if values.ndim == 3 else whole
