"""Weights of MONAI's DiffusionModelUNet.

MONAI's bundles describe networks by configurations that can instantiate any class. Only the file
of weights is read here; the arguments of the network are yours to give.

References:
    | Generative AI for Medical Imaging (Pinaya et al., 2023), arXiv:2307.15208
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from invdiff.priors.loading.extras import needs
from invdiff.priors.loading.files import Checkpoint, read_checkpoint
from invdiff.priors.loading.matching import State, assemble, find_weights, strip_prefix
from invdiff.priors.loading.model_card import ModelCard
from invdiff.priors.loading.model_prior import ModelPrior
from invdiff.priors.loading.parametrisations import Parametrisation

__all__ = ["MonaiNetwork", "is_monai", "load_monai", "present_names"]


class MonaiNetwork(nn.Module):
    """A DiffusionModelUNet as a function of image, time and label.

    Arguments:
        model: The model.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, time: Tensor, label: Tensor | None = None) -> Tensor:
        """What the model predicts."""
        out: Tensor = self.model(x, time, class_labels=label)
        return out


def is_monai(state: State) -> bool:
    """Whether names are those of MONAI's DiffusionModelUNet."""
    return "conv_in.conv.weight" in state and "time_embed.0.weight" in state


def load_monai(
    path: str | Path | Checkpoint,
    config: Mapping[str, Any],
    parametrisation: Parametrisation,
    *,
    value_range: tuple[float, float] = (0.0, 1.0),
    trust_pickle: bool = False,
) -> ModelPrior:
    """MONAI's DiffusionModelUNet, in two or three dimensions.

    Arguments:
        path: Its state dict, of today's names or of MONAI Generative's.
        config: The arguments of DiffusionModelUNet, such as the bundle's ``diffusion_def``. Not
            those for a cross-attention, which is not supported.
        parametrisation: What it predicts, such as ``Predicts(Target.EPSILON,
            DiscreteSchedule.scaled_linear(1000, 0.0015, 0.0195))``.
        value_range: Of the images; MONAI's examples are on [0, 1].
        trust_pickle: See `read_checkpoint`.

    Raises:
        PriorError: The file cannot be read, or does not fit the configuration.
        ImportError: MONAI is not installed.
    """
    nets = needs("monai.networks.nets", "monai")
    file = (
        path if isinstance(path, Checkpoint) else read_checkpoint(path, trust_pickle=trust_pickle)
    )
    state, which = find_weights(file)
    state = present_names(strip_prefix(state, is_monai))

    def build() -> MonaiNetwork:
        return MonaiNetwork(nets.DiffusionModelUNet(**config))

    named = {f"model.{key}": value for key, value in state.items()}
    network = assemble(build, named, str(file.path))
    classes = int(config.get("num_class_embeds") or 0)
    card = ModelCard(
        name=file.path.stem,
        format="MONAI",
        sha256=file.sha256,
        channels=int(config["in_channels"]),
        value_range=value_range,
        multiple=2 ** (len(config["channels"]) - 1),
        dimensions=int(config["spatial_dims"]),
        learned_variance=config["out_channels"] == 2 * config["in_channels"],
        classes=classes,
        class_free=not classes,
        weights=which,
    )
    return ModelPrior(card, network, parametrisation)


def present_names(state: State) -> State:
    """Today's names for those of MONAI Generative, before it became part of MONAI."""
    if any(".attn.to_q." in key for key in state):
        return state
    renamed = {}
    for key, value in state.items():
        key = re.sub(r"\.(to_[qkv])\.(weight|bias)$", r".attn.\1.\2", key)
        key = re.sub(r"\.proj_attn\.", ".attn.out_proj.", key)
        key = re.sub(r"\.upsampler\.conv\.", ".upsampler.postconv.", key)
        renamed[key] = value
    return renamed
