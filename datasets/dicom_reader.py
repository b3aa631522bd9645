"""Reading a CT or MR series, single-frame or Enhanced multi-frame, from files not trusted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np

from invdiff.datasets import dicom_file
from invdiff.datasets.dicom_file import Description
from invdiff.datasets.dicom_files import Listing, list_files
from invdiff.datasets.dicom_geometry import Stack, split_into_volumes, stack
from invdiff.datasets.dicom_kept import unpack
from invdiff.datasets.dicom_limits import DicomError, DicomLimits, clear_errors
from invdiff.datasets.dicom_planes import Plane
from invdiff.datasets.dicom_values import padding_of, values_of
from invdiff.datasets.dicom_volume import DicomVolume, Skipped
from invdiff.datasets.dicom_worker import Worker

__all__ = ["InThisProcess", "assemble", "read_series", "read_volumes"]


class Opener(Protocol):
    """Reads single files, in this process or in another."""

    limits: DicomLimits

    def describe(self, path: Path, file: int) -> Description: ...

    def frames(self, path: Path, wanted: Sequence[int]) -> Iterator[np.ndarray]: ...


class InThisProcess:
    """Reads without the protection of a process of its own: for fuzzing."""

    def __init__(self, limits: DicomLimits) -> None:
        self.limits = limits

    def describe(self, path: Path, file: int) -> Description:
        return dicom_file.describe(path, file, self.limits)

    def frames(self, path: Path, wanted: Sequence[int]) -> Iterator[np.ndarray]:
        return dicom_file.frames(path, wanted, self.limits)


def read_series(
    source: str | Path | Sequence[str | Path],
    *,
    volume: int | None = None,
    allow_tilt: bool = False,
    limits: DicomLimits | None = None,
) -> DicomVolume:
    """Reads one volume from a folder (with its subfolders), a file, or a list of files.

    Images are sorted by position, never by number or name. Files are parsed and decoded in a
    process of their own.

    Arguments:
        source: Where to look.
        volume: Which one, from 1, in the order of the files; needed if there are several.
        allow_tilt: Accept the sheared volume of a tilted gantry.
        limits: On files, pixels and time; by default ``DicomLimits()``.

    Raises:
        DicomError: With the reason, if the files are not one complete volume, are damaged, or
            exceed a limit. It names files by their position.
    """
    limits = limits or DicomLimits()
    listing = list_files(source, limits)
    with Worker(limits) as worker:
        return assemble(listing, worker, volume, allow_tilt)


def assemble(
    listing: Listing, opener: Opener, volume: int | None = None, allow_tilt: bool = False
) -> DicomVolume:
    """``read_series``, with the files and the way to open them given."""
    descriptions = _describe(listing, opener)
    planes = [plane for one in descriptions for plane in one.planes]
    chosen = _choose(split_into_volumes(planes), volume, descriptions)
    return _volume(chosen, descriptions, listing, opener, allow_tilt)


def read_volumes(
    source: str | Path | Sequence[str | Path], *, limits: DicomLimits | None = None
) -> Iterator[DicomVolume | DicomError]:
    """Reads every volume that ``read_series`` could be asked for, one after another.

    What is no complete volume comes as its error, and the others follow. Raises DicomError if
    there are no DICOM files, or one of them is damaged.
    """
    limits = limits or DicomLimits()
    listing = list_files(source, limits)
    with Worker(limits) as worker:
        descriptions = _describe(listing, worker)
        planes = [plane for one in descriptions for plane in one.planes]
        for chosen in split_into_volumes(planes):
            try:
                yield _volume(chosen, descriptions, listing, worker)
            except DicomError as error:
                yield error


def _describe(listing: Listing, opener: Opener) -> list[Description]:
    descriptions = []
    for file, path in enumerate(listing.paths):
        with _naming(file, len(listing.paths)):
            descriptions.append(opener.describe(path, file))
    return descriptions


def _volume(
    chosen: list[Plane],
    descriptions: list[Description],
    listing: Listing,
    opener: Opener,
    allow_tilt: bool = False,
) -> DicomVolume:
    found = stack(chosen, allow_tilt)
    pixels, padding = _read_pixels(found, listing, opener)
    skipped = Skipped(
        not_dicom=listing.not_dicom,
        links=listing.links,
        other_kinds=sum(not one.modality for one in descriptions),
        localizers=sum(one.localizers for one in descriptions),
        other_volumes=sum(len(one.planes) for one in descriptions) - len(chosen),
    )
    with clear_errors("header data"):
        headers = {plane.file: unpack(descriptions[plane.file].header) for plane in found.planes}
    return DicomVolume(
        pixels,
        found.affine,
        found.spacing,
        descriptions[found.planes[0].file].modality,
        padding,
        any(descriptions[plane.file].lossy for plane in found.planes),
        skipped,
        tuple(headers[plane.file] for plane in found.planes),
        found.planes,
    )


def _choose(
    volumes: list[list[Plane]], number: int | None, descriptions: list[Description]
) -> list[Plane]:
    if not volumes:
        scouts = sum(one.localizers for one in descriptions)
        other = sum(not one.modality for one in descriptions)
        raise DicomError(
            f"No CT or MR slices found: {scouts} localizers and {other} DICOM files of other "
            "kinds. Check the folder."
        )
    if number is None and len(volumes) > 1:
        sizes = ", ".join(f"{k}: {len(one)} images" for k, one in enumerate(volumes[:20], 1))
        raise DicomError(
            f"There are {len(volumes)} volumes (different series, echoes, times or types): "
            f"{sizes}. Choose one with volume=1 to {len(volumes)}."
        )
    if number is not None and not 1 <= number <= len(volumes):
        raise DicomError(f"Volume {number} was asked for; there are {len(volumes)}, from 1 on.")
    return volumes[(number or 1) - 1]


def _read_pixels(found: Stack, listing: Listing, opener: Opener) -> tuple[np.ndarray, np.ndarray]:
    planes = found.planes
    shape = (len(planes), *planes[0].shape)
    if int(np.prod(shape)) * planes[0].bits[0] // 8 > opener.limits.pixel_bytes:
        raise DicomError(
            f"The volume of {shape} exceeds {opener.limits.pixel_bytes} bytes "
            "(DicomLimits.pixel_bytes)."
        )
    pixels = np.zeros(shape, np.float32)
    padding = np.zeros(shape, bool)
    places: dict[int, list[int]] = {}
    for k, plane in enumerate(planes):
        places.setdefault(plane.file, []).append(k)
    for file, slices in sorted(places.items()):
        with _naming(file, len(listing.paths)):
            wanted = [planes[k].frame for k in slices]
            for k, raw in zip(slices, opener.frames(listing.paths[file], wanted), strict=True):
                pixels[k] = values_of(raw, planes[k])  # checks its size
                padding[k] = padding_of(raw, planes[k])
    return pixels, padding


@contextmanager
def _naming(file: int, total: int) -> Iterator[None]:
    try:
        yield
    except DicomError as error:
        raise DicomError(f"File {file + 1} of {total} {error}") from None
