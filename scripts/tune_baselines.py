"""Finds the total-variation weights of the demonstrations, on other images than they show.

    python scripts/tune_baselines.py {ct,mri,inpaint,sr}

Prints the mean PSNR for every weight of a grid. The demonstrations use the best one: CT on
procedural phantoms, MRI on other MR slices, photographs on other photographs.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator

import numpy as np
import pydicom
import torch
from pydicom.data import get_testdata_file
from skimage.transform import resize
from torch import Tensor

from invdiff.baselines import tv
from invdiff.datasets.ct_phantoms import draw_slice
from invdiff.datasets.simulation import simulate_ct, simulate_mri
from invdiff.datasets.test_images import ct_spacing
from invdiff.demos import ct, mri, photo
from invdiff.metrics import psnr
from invdiff.operators import AsComplex, Bicubic, Inpainting, Operator

Task = tuple[Operator, Tensor, float | Tensor, Callable[[Tensor], np.ndarray], np.ndarray, float]
WEIGHTS = {
    "ct": [100.0, 150.0, 200.0, 250.0, 300.0, 450.0],
    "mri": [20.0, 40.0, 80.0, 160.0, 320.0],
    "inpaint": [2.0, 4.0, 8.0, 16.0, 32.0, 64.0],
    "sr": [2.0, 4.0, 8.0, 16.0, 32.0],
}


def ct_tasks() -> Iterator[Task]:
    """Procedural heads and torsos, measured as the demonstration is."""
    spacing = ct_spacing("spine")
    for seed in range(4):
        truth = draw_slice(seed, 128)
        scan = simulate_ct(truth, spacing, ct.VIEWS, ct.PHOTONS, ct.WATER, seed).sinogram
        y = torch.from_numpy(scan.sinogram)[None, None]
        sigma = torch.from_numpy(scan.sigma)[None, None]

        def show(image: Tensor) -> np.ndarray:
            return 1000 * (image[0].numpy() / ct.WATER - 1)

        yield scan.operator(), y, sigma, show, truth[None], ct.DATA_RANGE


def mri_tasks() -> Iterator[Task]:
    """MR slices of other people, from pydicom, through the same coils and sampling."""
    for seed, name in enumerate(["MR_small.dcm", "examples_overlay.dcm"]):
        file = get_testdata_file(name, download=False)
        if file is None:
            raise FileNotFoundError(f"This pydicom does not carry {name}: install pydicom>=3.0.2.")
        pixels = pydicom.dcmread(str(file)).pixel_array.astype(np.float32)
        magnitude = resize(pixels / pixels.max(), (mri.SIDE, mri.SIDE), anti_aliasing=True)
        settings = mri.ACCELERATION, mri.NOISE, seed, mri.COILS, mri.CENTRE
        scan = simulate_mri(magnitude, *settings)
        operator = scan.kspace.operator() @ AsComplex((1, mri.SIDE, mri.SIDE))
        y = torch.from_numpy(scan.kspace.kspace)[None]

        def show(image: Tensor) -> np.ndarray:
            return image[0].square().sum(0, keepdim=True).sqrt().numpy()

        truth = np.abs(scan.truth)[None]
        yield operator, y, mri.NOISE, show, truth, float(truth.max())


def photo_tasks(make: Callable[[int], Operator]) -> Iterator[Task]:
    """Two photographs that no demonstration shows."""
    for seed, name in enumerate(["coffee", "rocket"]):
        operator = make(seed)
        truth = photo.crop(name, 100, 100)
        problem = photo.measure(operator, truth, seed)

        def show(image: Tensor) -> np.ndarray:
            return image[0].numpy()

        yield operator, problem.y, photo.NOISE, show, truth[0].numpy(), 2.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=sorted(WEIGHTS))
    task = parser.parse_args().task
    shape = (3, photo.SIDE, photo.SIDE)
    tasks = {
        "ct": ct_tasks,
        "mri": mri_tasks,
        "inpaint": lambda: photo_tasks(lambda s: Inpainting.random(shape, photo.KEPT, s)),
        "sr": lambda: photo_tasks(lambda s: Bicubic(shape, photo.FACTOR)),
    }
    cases = list(tasks[task]())
    for weight in WEIGHTS[task]:
        scores = []
        for operator, y, sigma, show, truth, data_range in cases:
            image = tv(operator, y, sigma, weight, nonnegative=task == "ct")
            scores.append(psnr(show(image), truth, data_range))
        shown = " ".join(f"{score:.2f}" for score in scores)
        print(f"{task} weight {weight:g}: {np.mean(scores):.2f} dB ({shown})", flush=True)


if __name__ == "__main__":
    main()
