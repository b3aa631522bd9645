"""Denoisers of deepinv and azula, in memory, as priors."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from invdiff.errors import PriorError
from invdiff.priors.loading.functions import from_function
from invdiff.priors.loading.model_prior import ModelPrior
from invdiff.priors.loading.numeric import NumericSchedule
from invdiff.priors.loading.parametrisations import Predicts, Target
from invdiff.priors.loading.schedules import VarianceExploding

__all__ = ["from_azula", "from_deepinv"]


class DeepinvDenoiser(nn.Module):
    """A deepinv denoiser as a function of image and noise level.

    Arguments:
        model: The denoiser.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """The denoised image."""
        out: Tensor = self.model(x, sigma)
        return out


class AzulaDenoiser(nn.Module):
    """An azula denoiser as a function of image and time.

    Arguments:
        model: The denoiser.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """The mean of its posterior."""
        out: Tensor = self.model(x, time).mean
        return out


def from_deepinv(
    model: Any,
    *,
    channels: int,
    sigma_min: float,
    sigma_max: float,
    value_range: tuple[float, float] = (0.0, 1.0),
    **card: Any,
) -> ModelPrior:
    """A deepinv denoiser, such as DRUNet, NCSNpp or ADMUNet, as a prior on [0, 1].

    It is called as it is, so what it does inside (padding, clipping) stays. DRUNet and its like
    were trained up to a noise level of 0.2 or so: above their range they are not the mean of
    anything, and samplers should start there or below.

    Arguments:
        model: The denoiser, in evaluation mode; without class labels.
        channels: Of an image.
        sigma_min, sigma_max: The range of noise levels it was trained on, in its own units.
        value_range: Of clean images, [0, 1] in deepinv.
        card: Other fields of `ModelCard`, such as ``multiple``.

    Raises:
        PriorError: It is a DiffUNet, which rounds noise levels to 1000 and clips.
    """
    if type(model).__name__ == "DiffUNet":
        raise PriorError(
            "deepinv's DiffUNet rounds the noise level to one of 1000 and clips its result. Save "
            "its state dict and read that: load_guided_diffusion(path)."
        )
    levels = VarianceExploding(sigma_min, sigma_max)
    fields = {"name": type(model).__name__, "format": "deepinv", **card}
    return from_function(
        DeepinvDenoiser(model).eval().requires_grad_(False),
        Predicts(Target.X0, levels),
        channels=channels,
        value_range=value_range,
        **fields,
    )


def from_azula(
    model: Any, *, channels: int, value_range: tuple[float, float] = (-1.0, 1.0), **card: Any
) -> ModelPrior:
    """An azula denoiser as a prior; its time is found from the noise level by bisection.

    Arguments:
        model: The denoiser, with a schedule of times in [0, 1].
        channels: Of an image.
        value_range: Of clean images.
        card: Other fields of `ModelCard`, such as ``multiple``.
    """
    fields = {"name": type(model).__name__, "format": "azula", **card}
    return from_function(
        AzulaDenoiser(model).eval().requires_grad_(False),
        Predicts(Target.X0, NumericSchedule(model.schedule)),
        channels=channels,
        value_range=value_range,
        **fields,
    )
