"""Every volume below a folder, in one unit and with its owner, for training and statistics.

DICOM series, NIfTI volumes, raw k-space in fastMRI's layout and measurement files with their
truth may lie there side by side. What cannot be used is counted by its reason and left out.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
import torch

from invdiff.datasets.collection import Collection
from invdiff.datasets.ct_measurement import CTMeasurement
from invdiff.datasets.dicom_files import is_dicom
from invdiff.datasets.dicom_limits import DicomError
from invdiff.datasets.dicom_reader import read_volumes
from invdiff.datasets.dicom_volume import DicomVolume
from invdiff.datasets.fastmri import FastMRIFile, is_hdf5
from invdiff.datasets.hdf5 import HDF5File
from invdiff.datasets.hounsfield import attenuation_to_hu
from invdiff.datasets.measurement_file import read_measurement
from invdiff.datasets.nifti import read_nifti
from invdiff.errors import ShapeError
from invdiff.operators.coil_combination import root_sum_of_squares
from invdiff.operators.fourier import ifft2c
from invdiff.operators.kspace_units import remove_oversampling

__all__ = ["MedicalFolder", "Volume", "read_medical_folder"]

Modality = Literal["ct", "mr"]
AIR = -1024.0
SQUARE = 0.05  # how far from 1 the ratio of a pixel's sides may be


@dataclass(frozen=True, eq=False)
class Volume:
    """Images of one person.

    Arguments:
        pixels: (slices, rows, columns): int16 HU, or float16 magnitudes, 1 the 99.9th percentile.
        axes: The axes across which planes have square pixels.
        owner: Whose they are: a digest, equal for volumes of one patient.
    """

    pixels: np.ndarray = field(repr=False)
    axes: tuple[int, ...]
    owner: str


@dataclass(frozen=True)
class MedicalFolder:
    """What a folder holds.

    Arguments:
        volumes: In the order of the files' names.
        formats: How many volumes there are of each format.
        refused: How many files or volumes were left out, by the reason.
    """

    volumes: tuple[Volume, ...]
    formats: Counter[str]
    refused: Counter[str]


def read_medical_folder(folder: str | Path, modality: Modality) -> MedicalFolder:
    """Reads all volumes of CT (HU) or MR (magnitudes) below a folder.

    Arguments:
        folder: With subfolders; hidden ones and links are left out. Files outside of DICOM belong
            to one owner if they are in one subfolder of it, DICOM files by their PatientID.
        modality: "ct" or "mr". NIfTI files are taken to hold HU, or magnitudes.

    Raises:
        NotADirectoryError, ImportError, ValueError: If there is no such folder, a library for one
            of the formats is not installed, or the folder is empty.
    """
    volumes: list[Volume] = []
    formats: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    for kind, read in _parts(Path(folder), modality):
        try:
            for volume in read():
                if isinstance(volume, Volume):
                    volumes.append(volume)
                    formats[kind] += 1
                else:
                    refused[str(volume)] += 1
        except (ValueError, TypeError, OSError) as error:
            refused[str(error)] += 1
    return MedicalFolder(tuple(volumes), formats, refused)


Reader = Callable[[], Iterator[Volume | Exception]]


def _parts(folder: Path, modality: Modality) -> Iterator[tuple[str, Reader]]:
    series: dict[Path, list[Path]] = {}
    for name, path in Collection.of_folder(folder, ("",)):
        owner = PurePosixPath(name).parts[0]
        if is_dicom(path):
            series.setdefault(path.parent, []).append(path)
        elif name.lower().endswith((".nii", ".nii.gz")):
            yield "NIfTI", partial(_nifti, path, owner, modality)
        elif is_hdf5(path):
            yield "HDF5", partial(_hdf5, path, owner, modality)
        else:
            yield "other", _unknown
    for parent, paths in series.items():
        owner = str(parent.relative_to(folder))
        yield "DICOM", partial(_dicom, paths, owner, modality)


def _unknown() -> Iterator[Exception]:
    yield ValueError("It is neither DICOM, NIfTI nor HDF5.")


def _dicom(paths: list[Path], folder: str, modality: Modality) -> Iterator[Volume | Exception]:
    for volume in read_volumes(paths):
        if isinstance(volume, DicomError):
            yield volume
        elif volume.modality.lower() != modality:
            yield ValueError(f"It is {volume.modality}, and {modality.upper()} was asked for.")
        else:
            pixels = np.where(volume.padding, AIR if modality == "ct" else 0.0, volume.pixels)
            yield _volume(pixels, volume.spacing, _patient(volume) or folder, modality)


def _patient(volume: DicomVolume) -> str:
    return str(volume.headers[0].get("PatientID", ""))


def _nifti(path: Path, owner: str, modality: Modality) -> Iterator[Volume]:
    volume = read_nifti(path)
    yield _volume(np.abs(volume.pixels) if modality == "mr" else volume.pixels,
                  volume.spacing, owner, modality)  # fmt: skip


def _hdf5(path: Path, owner: str, modality: Modality) -> Iterator[Volume]:
    with HDF5File(path) as file:
        ours = file.attributes().get("format") == "invdiff measurement"
    pixels = _truth(path, modality) if ours else _raw_magnitudes(path, modality)
    yield _volume(pixels, (np.inf, 1.0, 1.0), owner, modality)


def _truth(path: Path, modality: Modality) -> np.ndarray:
    measurement = read_measurement(path)
    if isinstance(measurement, CTMeasurement) != (modality == "ct"):
        raise ValueError(f"It is a measurement of another modality than {modality.upper()}.")
    if measurement.truth is None:
        raise ValueError("It is a measurement without the true images.")
    if isinstance(measurement, CTMeasurement):
        return attenuation_to_hu(measurement.truth, measurement.water)
    magnitudes: np.ndarray = np.abs(measurement.truth)
    return magnitudes


def _raw_magnitudes(path: Path, modality: Modality) -> np.ndarray:
    raw = FastMRIFile.open(path)
    if modality != "mr":
        raise ValueError("It is raw k-space of MR, and CT was asked for.")
    if not raw.mask.all():
        raise ValueError("Its k-space is undersampled: there is no image to learn from.")
    slices = []
    for number in range(raw.shape[0]):
        kspace = remove_oversampling(torch.from_numpy(raw.read(number))[None], raw.header.readout)
        slices.append(root_sum_of_squares(ifft2c(kspace))[0, 0].numpy())
    return np.stack(slices)


def _volume(
    pixels: np.ndarray, spacing: tuple[float, float, float], owner: str, modality: Modality
) -> Volume:
    if pixels.ndim != 3:
        raise ShapeError(f"It has images of shape {pixels.shape[1:]}, expected (rows, columns).")
    if pixels.dtype.kind == "c" or not np.isfinite(pixels).all():
        raise ValueError("It has complex, NaN or infinite values, expected real finite ones.")
    axes = tuple(axis for axis in range(3) if _square(*np.delete(spacing, axis)))
    if not axes:
        raise ValueError("Its pixels are not square in any plane. Resample it.")
    digest = hashlib.sha256(owner.encode()).hexdigest()
    if modality == "ct":
        return Volume(np.clip(pixels, AIR, 3071).round().astype(np.int16), axes, digest)
    peak = float(np.percentile(np.abs(pixels), 99.9))
    if peak <= 0:
        raise ValueError("It is empty: its 99.9th percentile is 0.")
    return Volume((np.abs(pixels) / peak).clip(0, 4).astype(np.float16), axes, digest)


def _square(a: float, b: float) -> bool:
    return bool(np.isfinite([a, b]).all() and abs(a / b - 1) < SQUARE)
