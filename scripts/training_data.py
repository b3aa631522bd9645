"""The crops that the embedded priors are trained on, from what was gathered for them."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from invdiff.datasets.crops import LUMA, Crops, CTCrops, PhotoCrops, ct_pools, pyramid
from invdiff.datasets.mr_crops import MRCrops, planes_of, smooth_phase

# Of procedural slices, axial planes, planes across them, and axial planes after compression.
CT_WEIGHTS = (0.45, 0.25, 0.12, 0.18)
RATES = (8, 16, 24)  # of 16 bits a pixel: archives keep 2 to 0.7 bits where loss is allowed
PHOTO_WEIGHT = 0.15  # of the crops of `mr`: the edges and textures of bodies not seen


def load_crops(kind: str, data: Path, smallest: int) -> tuple[Crops, Tensor]:
    """The source of training crops, and validation images (n, c, 128, 128).

    Arguments:
        kind: "photo", "ct" or "mr".
        data: What scripts/prepare_training_data.py wrote.
        smallest: The least height and width of an image that crops are cut from.
    """
    if kind == "photo":
        entries = json.loads((data / "attribution.json").read_text())["photographs"]
        split = {
            name: [data / "photos" / e["file"] for e in entries if e["split"] == name]
            for name in ("training", "validation")
        }
        crops = PhotoCrops(split["training"], sorted((data / "leaves").glob("*.png")))
        images = PhotoCrops(split["validation"], [], grey_fraction=0.0, magnified=0.0)
        return crops, images.draw(np.random.default_rng(1), 8, 128)
    if kind == "ct":
        held_out = json.loads((data / "attribution.json").read_text())["ct"]
        planes = held_out["axial_planes_never_trained_on"]
        volume = np.load(data / "cranium.npy")
        axial, strips = ct_pools(volume, (planes[0], planes[-1] + 1))
        phantoms = np.load(data / "phantoms.npy")
        validation = volume[planes[1] : planes[2] + 1].astype(np.float32)  # far from the test
        tiles = [validation[:, a : a + 128, b : b + 128] for a in (40, 100) for b in (40, 100)]
        made = phantoms[:4, 64:192, 64:192].astype(np.float32)
        images = np.clip(np.concatenate([*tiles, made]), -1024, 3071) / 1000
        crops = CTCrops((phantoms[4:], axial, strips, compressed(axial, RATES)), CT_WEIGHTS)
        return crops, torch.from_numpy(images)[:, None]
    if kind == "mr":
        return mr_crops(data, smallest), mr_validation(data)
    raise ValueError(f"Unknown kind of prior: got {kind!r}, expected 'photo', 'ct' or 'mr'.")


def compressed(planes: np.ndarray, rates: Sequence[float]) -> np.ndarray:
    """Slices (n, h, w), int16 HU, through lossy JPEG 2000 at every rate: (rates n, h, w).

    Archives hold such slices: flat where the scan was noisy, with the noise of wavelets at edges.
    """
    out = []
    for plane in planes:
        picture = Image.fromarray(np.clip(plane + 1024.0, 0, 4095).astype(np.uint16))
        for rate in rates:
            file = io.BytesIO()
            picture.save(
                file, "JPEG2000", irreversible=True, quality_mode="rates", quality_layers=[rate]
            )
            with Image.open(file) as stored:
                out.append(np.asarray(stored).astype(np.int32) - 1024)
    return np.stack(out).astype(np.int16)


def mr_crops(data: Path, smallest: int) -> MRCrops:
    """Planes of the volumes, and the training photographs in grey."""
    record = json.loads((data / "attribution.json").read_text())
    with np.load(data / "mr.npz") as arrays:
        volumes = record["mr"]["volumes"]
        pools = [planes_of(arrays[v["name"]], tuple(v["axes"]), smallest) for v in volumes]
    greys: list[np.ndarray] = []
    for entry in record["photographs"]:
        if entry["split"] == "training":
            with Image.open(data / "photos" / entry["file"]) as picture:
                levels = pyramid(picture.convert("RGB"), smallest)
            greys += [((level @ LUMA) / 255).astype(np.float16) for level in levels]
    return MRCrops([*pools, greys], [*(v["weight"] for v in volumes), PHOTO_WEIGHT])


def mr_validation(data: Path) -> Tensor:
    """Slices of two other people, (n, 2, 128, 128): every third without phase."""
    with np.load(data / "mr_validation.npz") as arrays:
        body = arrays["body"].astype(np.float32)
        tiles = [body[64:192, left : left + 128] for left in (20, 64, 108)]
        magnitudes = np.concatenate([arrays["head"].astype(np.float32), np.stack(tiles)])
    return with_phases(magnitudes)


def with_phases(magnitudes: np.ndarray) -> Tensor:
    """Complex images of magnitudes (n, size, size), (n, 2, size, size): every third is real."""
    images = []
    for i, magnitude in enumerate(magnitudes):
        phase = smooth_phase(len(magnitude), np.random.default_rng(i)) * (i % 3 > 0)
        images.append([magnitude * np.cos(phase), magnitude * np.sin(phase)])
    return torch.from_numpy(np.array(images, np.float32))
