"""Finding DICOM files in a folder or list, without following links."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from invdiff.datasets.dicom_limits import DicomError, DicomLimits

__all__ = ["Listing", "is_dicom", "list_files"]

PREAMBLE = 128  # bytes of anything, then "DICM"


@dataclass(frozen=True)
class Listing:
    """Files that begin as DICOM files do.

    Arguments:
        paths: In sorted order for a folder, in the given order for a list.
        not_dicom: How many other files the folder holds.
        links: How many symbolic links it holds; they are not followed.
    """

    paths: tuple[Path, ...] = field(repr=False)  # a file name may name a patient
    not_dicom: int = 0
    links: int = 0


def list_files(source: str | Path | Sequence[str | Path], limits: DicomLimits) -> Listing:
    """The DICOM files of a folder and its subfolders, or of a list (or one file).

    A DICOMDIR is not followed: only files that are in the folder itself are found.

    Raises:
        DicomError: If there are none, too many, or one of a list is not a DICOM file.
    """
    if isinstance(source, str | Path):
        if Path(source).is_dir():
            return _folder(Path(source), limits)
        source = [source]
    paths = tuple(Path(path) for path in source)
    _check_count(len(paths), limits)
    for number, path in enumerate(paths, 1):
        if not path.is_file():
            raise DicomError(f"File {number} of {len(paths)} is not there, or not a regular file.")
        if not is_dicom(path):
            raise DicomError(
                f"File {number} of {len(paths)} is not a DICOM file, or cannot be opened: it "
                "lacks the letters DICM after 128 bytes. Remove it from the list."
            )
    return Listing(paths)


def _folder(folder: Path, limits: DicomLimits) -> Listing:
    found: list[Path] = []
    other = links = 0
    waiting = [folder]
    while waiting:
        for path in _entries(waiting.pop()):
            if path.is_symlink():
                links += 1
            elif path.is_dir():
                waiting.append(path)
            elif path.is_file() and is_dicom(path):
                found.append(path)
            else:
                other += 1
            if len(found) + other + links + len(waiting) > limits.files:
                _check_count(limits.files + 1, limits)
    if not found:
        raise DicomError(
            f"The folder holds no DICOM file ({other} other files, {links} links, which are not "
            "followed). Check the folder."
        )
    return Listing(tuple(sorted(found)), other, links)


def _entries(folder: Path) -> list[Path]:
    try:
        return [Path(entry.path) for entry in os.scandir(folder)]
    except OSError as error:
        raise DicomError(
            f"The folder, or one in it, cannot be read ({type(error).__name__}). Check its "
            "permissions."
        ) from None


def is_dicom(path: Path) -> bool:
    """Whether a file begins as DICOM files do."""
    try:
        with path.open("rb") as file:
            return file.read(PREAMBLE + 4)[PREAMBLE:] == b"DICM"
    except OSError:
        return False


def _check_count(count: int, limits: DicomLimits) -> None:
    if count == 0:
        raise DicomError("The list of files is empty. Give at least one.")
    if count > limits.files:
        raise DicomError(f"There are more than {limits.files} files (DicomLimits.files).")
