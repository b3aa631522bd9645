"""The parametrisation that a scheduler of diffusers or MONAI declares.

References:
    | Common Diffusion Noise Schedules and Sample Steps are Flawed (Lin et al., 2024)
    | https://arxiv.org/abs/2305.08891: betas rescaled to end in pure noise
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from invdiff.errors import PriorError
from invdiff.priors.loading.discrete import DiscreteSchedule
from invdiff.priors.loading.parametrisations import Parametrisation, Predicts, Target
from invdiff.priors.loading.schedules import LinearPath, VarianceExploding

__all__ = ["parametrisation_of", "schedule_of"]

TARGETS = {"epsilon": Target.EPSILON, "v_prediction": Target.V, "sample": Target.X0}


def parametrisation_of(config: Mapping[str, Any], rounded: bool = False) -> Parametrisation:
    """What a network predicts, by the configuration of the scheduler it was trained with.

    Arguments:
        config: The content of scheduler_config.json.
        rounded: Whether times are rounded to whole steps.

    Raises:
        PriorError: The scheduler, its betas or its kind of prediction are not known here.
    """
    name = str(config.get("_class_name", ""))
    if name.startswith("ScoreSdeVe"):
        levels = VarianceExploding(float(config["sigma_min"]), float(config["sigma_max"]))
        return Predicts(Target.SCORE, levels)
    if name.startswith("FlowMatch"):
        path = LinearPath(time_scale=float(config.get("num_train_timesteps", 1000)))
        return Predicts(Target.VELOCITY, path)
    if "beta_schedule" not in config and config.get("trained_betas") is None:
        raise PriorError(
            f"The scheduler {name or '(unnamed)'} is not known: declare what the network predicts "
            "with parametrisation=Predicts(...)."
        )
    kind = config.get("prediction_type", "epsilon")
    if kind not in TARGETS:
        raise PriorError(f"The prediction type {kind!r} is none of {sorted(TARGETS)}.")
    return Predicts(TARGETS[kind], schedule_of(config, rounded))


def schedule_of(config: Mapping[str, Any], rounded: bool = False) -> DiscreteSchedule:
    """The noise levels of the steps, from the betas that a configuration describes.

    Raises PriorError if they are of an unknown kind.
    """
    steps = int(config.get("num_train_timesteps", 1000))
    first = float(config.get("beta_start", 1e-4))
    last = float(config.get("beta_end", 0.02))
    kind = config.get("beta_schedule", "linear")
    if config.get("trained_betas") is not None:
        betas = [float(beta) for beta in config["trained_betas"]]
    elif kind == "linear":
        betas = torch.linspace(first, last, steps, dtype=torch.float64).tolist()
    elif kind == "scaled_linear":
        roots = torch.linspace(first**0.5, last**0.5, steps, dtype=torch.float64)
        betas = roots.square().tolist()
    elif kind == "squaredcos_cap_v2":
        return _finished(config, DiscreteSchedule.cosine(steps), rounded)
    elif kind == "sigmoid":
        ramp = torch.linspace(-6, 6, steps, dtype=torch.float64).sigmoid()
        betas = (ramp * (last - first) + first).tolist()
    else:
        raise PriorError(
            f"The beta schedule {kind!r} is not known: expected linear, scaled_linear, "
            "squaredcos_cap_v2, sigmoid, or trained_betas."
        )
    return _finished(config, DiscreteSchedule.from_betas(betas), rounded)


def _finished(
    config: Mapping[str, Any], schedule: DiscreteSchedule, rounded: bool
) -> DiscreteSchedule:
    levels = schedule.levels
    if config.get("rescale_betas_zero_snr"):
        # The roots of alpha-bar are shifted and scaled so that the last is 0: its level is
        # infinite and left out, the others keep their step.
        roots = [1 / math.sqrt(1 + level**2) for level in levels]
        factor = roots[0] / (roots[0] - roots[-1])
        moved = [(root - roots[-1]) * factor for root in roots[:-1]]
        levels = tuple(math.sqrt(1 / root**2 - 1) for root in moved)
    return DiscreteSchedule(levels, rounded=rounded)
