"""Images to test on, taken from installed packages; nothing is downloaded.

The embedded priors were never trained on any of them. Photographs come with scikit-image
(and two with scikit-learn, where it is installed), CT slices with pydicom.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

__all__ = [
    "CT_SLICES",
    "PHOTOGRAPHS",
    "available_photographs",
    "ct_slice",
    "ct_spacing",
    "photograph",
]

PHOTOGRAPHS = {
    "astronaut": "skimage/data/astronaut.png",
    "brick": "skimage/data/brick.png",
    "camera": "skimage/data/camera.png",
    "cell": "skimage/data/cell.png",
    "chelsea": "skimage/data/chelsea.png",
    "coffee": "skimage/data/coffee.png",
    "coins": "skimage/data/coins.png",
    "grass": "skimage/data/grass.png",
    "gravel": "skimage/data/gravel.png",
    "hubble": "skimage/data/hubble_deep_field.jpg",
    "ihc": "skimage/data/ihc.png",
    "moon": "skimage/data/moon.png",
    "motorcycle": "skimage/data/motorcycle_left.png",
    "page": "skimage/data/page.png",
    "retina": "skimage/data/retina.jpg",
    "rocket": "skimage/data/rocket.jpg",
    "text": "skimage/data/text.png",
    "china": "sklearn/datasets/images/china.jpg",
    "flower": "sklearn/datasets/images/flower.jpg",
}
CT_SLICES = {
    "spine": "CT_small.dcm",  # 128 x 128, 0.66 mm: a close-up of the thoracic spine
    "head": "693_J2KI.dcm",  # 512 x 512, 0.48 mm
    "skull base": "J2K_pixelrep_mismatch.dcm",  # 512 x 512, 0.43 mm
}


def available_photographs() -> list[str]:
    """The names of the photographs that are installed."""
    return [name for name in PHOTOGRAPHS if _path(name) is not None]


def photograph(name: str) -> np.ndarray:
    """A photograph: uint8, (h, w) if it is grey, else (h, w, 3).

    Raises:
        KeyError: There is no photograph of that name.
        FileNotFoundError: Its package is not installed.
    """
    from PIL import Image

    if name not in PHOTOGRAPHS:
        raise KeyError(f"No photograph {name!r}: choose one of {sorted(PHOTOGRAPHS)}.")
    path = _path(name)
    if path is None:
        package = PHOTOGRAPHS[name].split("/")[0].replace("sklearn", "scikit-learn")
        raise FileNotFoundError(f"The photograph {name!r} comes with {package}: install it.")
    with Image.open(path) as picture:
        grey = picture.mode in ("L", "1", "I;16", "LA")
        return np.asarray(picture.convert("L" if grey else "RGB"))


def ct_slice(name: str) -> np.ndarray:
    """A clinical CT slice in Hounsfield units: float32, (h, w).

    Padding outside the circle of the scan (below -1024) becomes air, -1000. All but "spine" are
    JPEG 2000 files: decoding them needs pylibjpeg-openjpeg.

    Raises:
        KeyError: There is no slice of that name.
    """
    file = _ct_file(name)
    hu = file.pixel_array * float(file.RescaleSlope) + float(file.RescaleIntercept)
    return np.where(hu < -1024, -1000, hu).astype(np.float32)


def ct_spacing(name: str) -> float:
    """The side of the square pixels of a CT slice in mm, from its file; raises as ``ct_slice``."""
    return float(_ct_file(name).PixelSpacing[0])


def _ct_file(name: str) -> Any:
    import pydicom
    from pydicom.data import get_testdata_file

    if name not in CT_SLICES:
        raise KeyError(f"No CT slice {name!r}: choose one of {sorted(CT_SLICES)}.")
    path = get_testdata_file(CT_SLICES[name], download=False)
    if path is None:
        raise FileNotFoundError(
            f"The CT slice {name!r} is the test file {CT_SLICES[name]} of pydicom 3, which the "
            "installed pydicom does not carry: install pydicom>=3.0.2."
        )
    return pydicom.dcmread(str(path))


def _path(name: str) -> Path | None:
    """Where a photograph lies, found without importing its package."""
    package, rest = PHOTOGRAPHS[name].split("/", 1)
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / rest
    return path if path.exists() else None
