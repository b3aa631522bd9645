"""Measurements of known images, for `measure_reconstruction.py`: tasks, test and tuning images.

Test images are those of the priors' cards; nothing was trained on them. Tuning images are of
other people, other photographs, and the procedural CT generator: the weights of the classical
methods are chosen on them, and the settings of the samplers were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
import torch
from measure_priors import centre, halve, test_set
from pydicom.data import get_testdata_file
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from invdiff.datasets.ct_phantoms import draw_slice
from invdiff.datasets.hounsfield import attenuation_to_hu
from invdiff.datasets.simulation import simulate_ct, simulate_mri
from invdiff.datasets.test_images import photograph
from invdiff.demos import ct, mri, photo
from invdiff.noise import Gaussian
from invdiff.operators import AsComplex, Bicubic, Inpainting
from invdiff.priors import AffinePrior, GreyPrior, Prior, load_prior
from invdiff.problem import Problem

__all__ = ["IMAGES_TESTED", "TASKS", "Trial", "test_trials", "tuning_trials"]

TASKS = ("inpaint", "sr", "ct60", "ct20", "mri")
SIDES = {"inpaint": 96, "sr": 96, "ct60": 128, "ct20": 128, "mri": 128}
SPACING = 1.0  # mm, of the CT crops
PHOTOS = ("astronaut", "chelsea", "motorcycle", "camera")
TUNING_PHOTOS = ("coffee", "rocket", "gravel")
TUNING_MR = ("MR_small.dcm", "examples_overlay.dcm")  # of pydicom
HEADS = ("head (693, 2x2 mean)", "skull base (2x2 mean)", "cranium, axial 52")
BODY = "spine (CT_small)"
SLICES = ("sagittal head, T1", "axial head, PD", "axial head, FLAIR")  # other people than below
IMAGES_TESTED = (*PHOTOS, *HEADS, BODY, *SLICES)
AIR = -500.0  # HU
DARK = 0.1  # of the brightest pixel


@dataclass(frozen=True, eq=False)
class Trial:
    """One measurement of a known image.

    Arguments:
        task: One of ``TASKS``.
        image: Its name.
        problem: One item.
        prior: In the units of the problem's images.
        show: From images (n, *domain) to what is scored, (n, channels, h, w), float64.
        truth: What is scored, (channels, h, w).
        inside: Where the object is, (h, w).
        data_range: Of PSNR and SSIM, in the unit of the truth.
        limits: The display window.
    """

    task: str
    image: str
    problem: Problem
    prior: Prior
    show: Callable[[Tensor], Tensor]
    truth: Tensor
    inside: Tensor
    data_range: float
    limits: tuple[float, float]

    @property
    def apart(self) -> bool:
        """Whether it shows a body, which the priors of heads have not seen."""
        return self.image == BODY


def ct_trial(views: int, name: str, hu: np.ndarray, seed: int) -> Trial:
    """The dose, the noise and the grids of the demonstration, with other numbers of views."""
    hu = np.maximum(hu, -1000)  # no attenuation is negative: what is below is padding
    scan = simulate_ct(hu.astype(np.float32), SPACING, views, ct.PHOTONS, ct.WATER, seed)
    sinogram = scan.sinogram
    y = torch.from_numpy(sinogram.sinogram)[None, None].float()
    sigma = torch.from_numpy(sinogram.sigma)[None, None].float()

    def show(image: Tensor) -> Tensor:
        return torch.from_numpy(attenuation_to_hu(image.double().numpy(), ct.WATER))

    prior = AffinePrior(load_prior("ct"), scale=ct.WATER, offset=ct.WATER)
    problem = Problem(y, sinogram.operator(), Gaussian(sigma))
    # What a pixel holds of the scene, which is interpolated to a finer grid and then measured.
    pixels = torch.from_numpy(hu.astype(np.float64))[None, None]
    truth = avg_pool2d(interpolate(pixels, scale_factor=4, mode="bilinear"), 4)[0]
    window = (-250.0, 650.0)
    return Trial(
        f"ct{views}", name, problem, prior, show, truth, truth[0] > AIR, ct.DATA_RANGE, window
    )


def mri_trial(name: str, magnitude: np.ndarray, seed: int) -> Trial:
    """The coils, the sampling and the noise of the demonstration."""
    bright = (magnitude / magnitude.max()).astype(np.float32)
    scan = simulate_mri(bright, mri.ACCELERATION, mri.NOISE, seed, mri.COILS, mri.CENTRE)
    operator = scan.kspace.operator() @ AsComplex((1, *magnitude.shape))
    problem = Problem(torch.from_numpy(scan.kspace.kspace)[None], operator, Gaussian(mri.NOISE))

    def show(image: Tensor) -> Tensor:
        return image.double().square().sum(1, keepdim=True).sqrt()

    truth = torch.from_numpy(scan.truth).abs().double()[None]
    top, prior = float(truth.max()), mri.mri_prior(scan.kspace)
    inside = truth[0] > DARK * top
    return Trial("mri", name, problem, prior, show, truth, inside, top, (0.0, prior.scale))


def photo_trial(task: str, name: str, image: np.ndarray, seed: int) -> Trial:
    """Missing pixels or low resolution; a photograph (h, w) or (h, w, 3) on [-1, 1]."""
    planes = torch.from_numpy(np.atleast_3d(image)).float().permute(2, 0, 1)[None].contiguous()
    shape = tuple(planes.shape[1:])
    masked = task == "inpaint"
    problem = photo.measure(
        Inpainting.random(shape, photo.KEPT, seed) if masked else Bicubic(shape, photo.FACTOR),
        planes,
        seed,
    )
    colour = load_prior("photo")
    prior: Prior = colour if shape[0] == 3 else GreyPrior(colour)

    def show(image: Tensor) -> Tensor:
        return (image.double() + 1) / 2

    everywhere = torch.ones(shape[1:], dtype=torch.bool)
    return Trial(task, name, problem, prior, show, show(planes)[0], everywhere, 1.0, (0.0, 1.0))


def upper(image: np.ndarray, side: int) -> np.ndarray:
    """The square at the middle of the upper edge of the object, bone and air included."""
    top = int(np.argmax((image > AIR).mean(1) > 0.1))
    start, left = max(0, top - side // 16), (image.shape[1] - side) // 2
    return image[start : start + side, left : left + side]


def test_trials(task: str, data: Path, packages: Path, seed: int = 0) -> Iterator[Trial]:
    """The measurements of a task to report."""
    side = SIDES[task]
    if task in ("inpaint", "sr"):
        images = test_set("photo", data)
        for name in PHOTOS:
            yield photo_trial(task, name, centre(images[name], side), seed)
    elif task == "mri":
        slices = test_set("mr", data, packages)
        for name in SLICES:
            yield mri_trial(name, centre(halve(np.abs(slices[name])), side), seed)
    else:
        images = test_set("ct", data)
        for name in HEADS:
            yield ct_trial(int(task[2:]), name, upper(1000 * images[name], side), seed)
        body = centre(1000 * images[BODY], side)
        yield ct_trial(int(task[2:]), BODY, body, seed)


def tuning_trials(task: str, side: int | None = None) -> Iterator[Trial]:
    """Measurements of other images: three photographs, four made-up slices, or two MR slices."""
    side = side or SIDES[task]
    if task in ("inpaint", "sr"):
        for seed, name in enumerate(TUNING_PHOTOS):
            image = centre(photograph(name), side).astype(np.float64) / 127.5 - 1
            yield photo_trial(task, name, image, seed)
    elif task == "mri":
        for seed, name in enumerate(TUNING_MR):
            yield mri_trial(name, _pydicom(name, side), seed)
    else:
        for seed in range(4):
            slice_ = upper(draw_slice(seed, 256), side)
            yield ct_trial(int(task[2:]), f"procedural {seed}", slice_, seed)


def _pydicom(name: str, side: int) -> np.ndarray:
    from skimage.transform import resize

    file = get_testdata_file(name, download=False)
    if file is None:
        raise FileNotFoundError(f"This pydicom does not carry {name}: install pydicom>=3.0.2.")
    pixels = pydicom.dcmread(str(file)).pixel_array.astype(np.float64)
    return np.asarray(resize(pixels, (side, side), anti_aliasing=True))
