"""From a measurement of one item and the settings to a case that can be run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from invdiff.choice import resolve
from invdiff.commands.settings import Settings
from invdiff.commands.sources import Measurement
from invdiff.datasets.ct_measurement import CTMeasurement
from invdiff.datasets.hounsfield import attenuation_to_hu
from invdiff.datasets.mri_measurement import MRIMeasurement
from invdiff.demos.case import Case
from invdiff.errors import PriorError
from invdiff.ladder import karras
from invdiff.noise import Gaussian
from invdiff.operators import fbp, hann, root_sum_of_squares
from invdiff.operators.fourier import ifft2c
from invdiff.priors import AffinePrior, ComplexPrior, load_prior
from invdiff.priors.base import Prior
from invdiff.priors.network import EMBEDDED
from invdiff.sense import sense_cg

__all__ = ["LoadedPriors", "make_case"]

HU = "HU / 1000"  # how a card says that images are Hounsfield units
SENSE_WEIGHT = 300.0  # over the square of the brightest pixel
DATA_RANGE = 2000.0  # HU
BRIGHTEST = 99.9  # percentile of the zero-filled image


@dataclass
class LoadedPriors:
    """The priors of a run, each loaded once, when the first item asks for it."""

    settings: Settings

    def __post_init__(self) -> None:
        self._known: dict[str, Prior] = {}

    def get(self, modality: str) -> Prior:
        """The prior for a modality, in its own units. Raises PriorError if there is none."""
        if modality not in self._known:
            self._known[modality] = self._load(modality)
        return self._known[modality]

    def name(self, modality: str) -> str:
        """The name by which it is loaded."""
        if self.settings.prior is not None:
            return self.settings.prior
        if modality == "ct":
            return "ct"
        return "mr" if (EMBEDDED / "mr.json").exists() else "photo"

    def _load(self, modality: str) -> Prior:
        name, device = self.name(modality), self.settings.device
        prior: Prior = load_prior(name, device)
        channels = prior.card.channels  # type: ignore[attr-defined]
        if channels == 3:
            prior = load_prior(name, device, channels=1)
        if channels == 2 and modality == "ct":
            raise PriorError(
                f"The prior {prior.name!r} is for complex images of two channels, but CT images "
                "have one. Choose another with --prior."
            )
        return prior


def make_case(measurement: Measurement, settings: Settings, priors: LoadedPriors) -> Case:
    """One item, ready to run.

    Raises:
        PriorError: If the prior does not fit the modality.
        ShapeError, TypeError, ValueError: If the measurement cannot be reconstructed with it.
    """
    prior = priors.get(measurement.modality)
    if isinstance(measurement, CTMeasurement):
        return _ct(measurement, settings, prior)
    return _mri(measurement, settings, prior)


def _ct(measurement: CTMeasurement, settings: Settings, prior: Prior) -> Case:
    water = measurement.water
    problem = measurement.problem().to(settings.device)
    operator = measurement.operator()
    # Images are attenuations: mu = water (1 + HU / 1000).
    slope, offset = _in_hu(prior, settings.prior_window)
    scaled = AffinePrior(prior, water * slope / 1000, water * (1 + offset / 1000))
    scaled.check_shape(operator.domain)

    def show(image: Tensor) -> Tensor:
        return torch.from_numpy(attenuation_to_hu(image.cpu().numpy(), water))

    truth = measurement.truth
    return Case(
        task="ct",
        caption=f"CT, {measurement.geometry.views} views",
        problem=problem,
        prior=scaled,
        sampler=resolve(settings.make_sampler(), problem),
        ladder=karras(settings.steps, scaled.sigma_min, scaled.sigma_max),
        baselines={"fbp": fbp(operator, problem.y, hann, incomplete=True)},
        show=show,
        unit="HU",
        limits=(-1000.0, 1000.0),
        data_range=DATA_RANGE,
        truth=None if truth is None else show(torch.from_numpy(truth)),
        notes={"projector": operator.describe(settings.device), "water": water},
    )


def _in_hu(prior: Prior, window: tuple[float, float]) -> tuple[float, float]:
    """Slope and offset from the prior's unit to Hounsfield units."""
    if getattr(getattr(prior, "card", None), "units", None) == HU:
        return 1000.0, 0.0
    low, high = prior.value_range
    if not np.isfinite([low, high]).all():
        raise PriorError(
            f"The prior {prior.name!r} declares no range, so that its unit is not known. Declare "
            "it in its card."
        )
    slope = (window[1] - window[0]) / (high - low)
    return slope, window[0] - slope * low


def _mri(measurement: MRIMeasurement, settings: Settings, prior: Prior) -> Case:
    problem = measurement.problem().to(settings.device)
    coil_images = ifft2c(torch.from_numpy(measurement.data.astype(np.complex64)))
    # The prior is scaled to the data, not the data to it.
    brightest = float(np.percentile(root_sum_of_squares(coil_images).numpy(), BRIGHTEST))
    both = prior.card.channels == 2 if hasattr(prior, "card") else False
    inner = prior if both else ComplexPrior(prior)
    scaled = AffinePrior(inner, scale=brightest, offset=0.0)
    scaled.check_shape(problem.operator.domain)
    assert isinstance(problem.noise, Gaussian)
    unit = measurement.scale

    def show(image: Tensor) -> Tensor:
        return unit * image.square().sum(1, keepdim=True).sqrt()

    truth = None
    if measurement.truth is not None:
        truth = torch.from_numpy(unit * np.abs(measurement.truth)).float()
    return Case(
        task="mri",
        caption=f"MRI, {measurement.data.shape[1]} coils, {_acceleration(measurement)}",
        problem=problem,
        prior=scaled,
        sampler=resolve(settings.make_sampler(), problem),
        ladder=karras(settings.steps, scaled.sigma_min, scaled.sigma_max),
        baselines={
            "zero_filled": problem.operator.adjoint(problem.y),
            "sense": sense_cg(
                problem.operator, problem.y, problem.noise.sigma, SENSE_WEIGHT / brightest**2
            ),
        },
        show=show,
        show_map=show,
        unit="signal",
        limits=(0.0, unit * brightest),
        data_range=unit * brightest if truth is None else float(truth.max()),
        truth=truth,
        notes={"prior_scale": brightest, "unit_of_signal": unit},
    )


def _acceleration(measurement: MRIMeasurement) -> str:
    """How much less was measured than a full scan."""
    share = float(measurement.mask.mean())
    return "fully sampled" if share == 1 else f"{1 / share:.2g}-fold undersampled"
