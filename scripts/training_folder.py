"""Your own images as training crops: a folder of DICOM, NIfTI, HDF5 or picture files."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from torch import Tensor
from training_data import with_phases

from invdiff.datasets.collection import Collection
from invdiff.datasets.crops import Array, Crops, CTCrops, PhotoCrops, pyramid, read_rgb
from invdiff.datasets.medical_folder import Volume, read_medical_folder
from invdiff.datasets.mr_crops import MRCrops, planes_of

PICTURES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".webp")
HELD_OUT = 0.1  # of the owners, for validation: one at least
SHOWN = 24  # validation images, at most
SIDE = 128  # their height and width
AIR = -1024
TISSUE = 150  # HU: the standard deviation of a plane that shows more than air


@dataclass(frozen=True)
class Gathered:
    """Crops to train on, images of other owners to validate with, and what they are."""

    crops: Crops
    validation: Tensor
    images: int
    owners: int
    held_out: int
    formats: Counter[str]
    refused: Counter[str]

    @property
    def described(self) -> str:
        """In a line, without any name."""
        kinds = ", ".join(f"{count} {name}" for name, count in sorted(self.formats.items()))
        return (
            f"{self.images} images of {self.owners - self.held_out} owners; validated on "
            f"{len(self.validation)} of {self.held_out} others ({kinds})"
        )

    def __str__(self) -> str:
        left = [f"left out: {count} x {why}" for why, count in self.refused.most_common()]
        return "\n".join([self.described, *left])


def gather(kind: str, folder: Path, smallest: int, seed: int) -> Gathered:
    """Reads a folder, and holds out a tenth of the owners.

    Arguments:
        kind: "photo" (pictures), "ct" or "mr".
        folder: Medical files by owner, see ``read_medical_folder``; pictures of one subfolder
            have one owner, other pictures one each.
        smallest: The least height and width that crops are cut from.
        seed: Of who is held out.

    Raises ValueError if there is nothing to train on, or only one owner.
    """
    if kind == "photo":
        return _pictures(folder, smallest, seed)
    found = read_medical_folder(folder, "ct" if kind == "ct" else "mr")
    kept = _held_out([volume.owner for volume in found.volumes], seed, found.refused)
    sides = [[v for v in found.volumes if (v.owner in kept) is out] for out in (False, True)]
    training = [plane for v in sides[0] for plane in _planes(v, kind, smallest)]
    others = [plane for v in sides[1] for plane in _planes(v, kind, SIDE)]
    if not training or not others:
        raise ValueError("No plane shows more than air. Check the folder and the kind.")
    crops = CTCrops((training,), (1,)) if kind == "ct" else MRCrops([training], [1])
    return Gathered(
        crops, _validation(others, kind), len(training), len({v.owner for v in found.volumes}),
        len(kept), found.formats, found.refused,
    )  # fmt: skip


def _pictures(folder: Path, smallest: int, seed: int) -> Gathered:
    owners: dict[Path, str] = {}
    refused: Counter[str] = Counter()
    formats: Counter[str] = Counter()
    for name, path in Collection.of_folder(folder, PICTURES):
        try:
            large = bool(pyramid(read_rgb(path), max(smallest, SIDE)))
        except (OSError, ValueError):
            refused["It cannot be read as a picture."] += 1
            continue
        if not large:
            refused[f"It has a side below {max(smallest, SIDE)} pixels."] += 1
            continue
        owners[path] = PurePosixPath(name).parts[0]
        formats[path.suffix.lower().removeprefix(".")] += 1
    kept = _held_out(list(owners.values()), seed, refused)
    split = [[path for path in owners if (owners[path] in kept) is out] for out in (False, True)]
    crops = PhotoCrops(split[0], [], smallest=smallest)
    others = PhotoCrops(split[1], [], grey_fraction=0.0, smallest=SIDE, magnified=0.0)
    count = min(SHOWN, 4 * len(split[1]))
    validation = others.draw(np.random.default_rng(seed), count, SIDE)
    names = set(owners.values())
    return Gathered(crops, validation, len(split[0]), len(names), len(kept), formats, refused)


def _held_out(owners: list[str], seed: int, refused: Counter[str]) -> set[str]:
    names = sorted(set(owners))
    if len(names) < 2:
        reasons = "".join(f" Left out: {n} x {why}" for why, n in refused.most_common(5))
        raise ValueError(
            f"The folder has images of {len(names)} owners, expected 2 at least: one is held out "
            f"to validate with.{reasons}"
        )
    order = np.random.default_rng(seed).permutation(len(names))
    return {names[k] for k in order[: max(1, round(HELD_OUT * len(names)))]}


def _planes(volume: Volume, kind: str, smallest: int) -> list[Array]:
    if kind == "mr":
        return planes_of(volume.pixels, volume.axes, smallest)
    planes = []
    for axis in volume.axes:
        for plane in np.moveaxis(volume.pixels, axis, 0):
            if plane.std() > TISSUE:
                lack = [(0, max(0, smallest - n)) for n in plane.shape]
                planes.append(np.pad(plane, lack, constant_values=AIR))
    return planes


def _validation(planes: list[Array], kind: str) -> Tensor:
    """The centres of planes from all over the others, (n, c, SIDE, SIDE)."""
    chosen = np.unique(np.linspace(0, len(planes) - 1, SHOWN).round().astype(int))
    tiles = []
    for k in chosen:
        top, left = ((n - SIDE) // 2 for n in planes[k].shape)
        tiles.append(planes[k][top : top + SIDE, left : left + SIDE].astype(np.float32))
    stacked = np.stack(tiles)
    return with_phases(stacked) if kind == "mr" else torch.from_numpy(stacked / 1000)[:, None]
