"""diffusers folders: UNet2DModel and the configuration of its scheduler.

References:
    | Common Diffusion Noise Schedules and Sample Steps are Flawed (Lin et al., 2024)
    | https://arxiv.org/abs/2305.08891: betas rescaled to end in pure noise
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from invdiff.errors import PriorError
from invdiff.priors.loading.diffusers_schedules import parametrisation_of
from invdiff.priors.loading.extras import needs
from invdiff.priors.loading.files import Checkpoint, read_checkpoint
from invdiff.priors.loading.matching import State, assemble, find_weights
from invdiff.priors.loading.model_card import ModelCard
from invdiff.priors.loading.model_prior import ModelPrior
from invdiff.priors.loading.parametrisations import Parametrisation

__all__ = ["DiffusersNetwork", "fetch_from_hub", "load_diffusers", "read_config", "read_folder"]

WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
FORMER = (("query", "to_q"), ("key", "to_k"), ("value", "to_v"), ("proj_attn", "to_out.0"))


class DiffusersNetwork(nn.Module):
    """A UNet2DModel as a function of image, time and label.

    Arguments:
        model: The model.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, time: Tensor, label: Tensor | None = None) -> Tensor:
        """What the model predicts."""
        out: Tensor = self.model(x, time, class_labels=label, return_dict=False)[0]
        return out


def load_diffusers(
    folder: str | Path,
    *,
    parametrisation: Parametrisation | None = None,
    rounded: bool = False,
    trust_pickle: bool = False,
) -> ModelPrior:
    """A diffusers folder of an unconditional or class-conditional UNet2DModel, on [-1, 1].

    Arguments:
        folder: A pipeline (with unet/ and scheduler/), or the model's own folder.
        parametrisation: What is predicted, on which schedule; None to read it from
            scheduler_config.json.
        rounded: Whether times are rounded to whole steps, see `DiscreteSchedule`.
        trust_pickle: See `read_checkpoint`; needed by no file that diffusers writes.

    Raises:
        PriorError: A file is missing or damaged, or the model or scheduler is not supported.
        ImportError: diffusers is not installed.
    """
    library = needs("diffusers", "diffusers")
    folder = Path(folder)
    unet = folder / "unet" if (folder / "unet").is_dir() else folder
    config, file = read_folder(unet, "UNet2DModel", trust_pickle)
    if config.get("class_embed_type") is not None:
        raise PriorError(f"{unet} embeds classes as {config['class_embed_type']}: not supported.")
    if parametrisation is None:
        parametrisation = parametrisation_of(_scheduler(folder, unet), rounded)

    def build() -> DiffusersNetwork:
        return DiffusersNetwork(library.UNet2DModel.from_config(dict(config)))

    state, which = find_weights(file)
    named = {f"model.{key}": value for key, value in _present(state).items()}
    network = assemble(build, named, str(file.path))
    channels, out = int(config["in_channels"]), int(config["out_channels"])
    classes = int(config.get("num_class_embeds") or 0)
    card = ModelCard(
        name=folder.resolve().name,
        format="diffusers",
        sha256=file.sha256,
        channels=channels,
        value_range=(0.0, 1.0) if config.get("center_input_sample") else (-1.0, 1.0),
        multiple=2 ** (len(config["block_out_channels"]) - 1),
        learned_variance=out == 2 * channels,
        classes=classes,
        class_free=not classes,
        weights=which,
    )
    return ModelPrior(card, network, parametrisation)


def read_folder(folder: Path, kind: str, trust_pickle: bool) -> tuple[dict[str, Any], Checkpoint]:
    """The configuration and the weights of one of diffusers' models.

    Raises PriorError unless it is of this class, and has one file of weights.
    """
    config = read_config(folder / "config.json")
    found = config.get("_class_name")
    if found != kind:
        raise PriorError(
            f"{folder} holds a {found}, expected a {kind}. Models with text or other conditions: "
            "make a function of image and time, and declare it with from_function."
        )
    for name in WEIGHTS:
        if (folder / name).is_file():
            return config, read_checkpoint(folder / name, trust_pickle=trust_pickle)
    raise PriorError(
        f"{folder} has neither {WEIGHTS[0]} nor {WEIGHTS[1]}. Weights in several parts, or of "
        "half precision only: save the model once more with save_pretrained."
    )


def read_config(path: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises PriorError if it is none."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PriorError(f"{path} cannot be read: {error}.") from error
    if not isinstance(config, dict):
        raise PriorError(f"{path} holds no JSON object.")
    return config


def _scheduler(folder: Path, unet: Path) -> Mapping[str, Any]:
    places = [
        folder / "scheduler" / "scheduler_config.json",
        folder / "scheduler_config.json",
        unet.parent / "scheduler" / "scheduler_config.json",
    ]
    for place in places:
        if place.is_file():
            return read_config(place)
    raise PriorError(
        f"{folder} has no scheduler/scheduler_config.json: declare what the model predicts, "
        "load_diffusers(folder, parametrisation=Predicts(Target.EPSILON, ...))."
    )


def _present(state: State) -> State:
    """Today's names of attention layers for those of before 2023, which the hub still has."""
    renamed = {}
    for key, value in state.items():
        for former, now in FORMER:
            key = re.sub(rf"(attentions\.\d+)\.{former}\.", rf"\1.{now}.", key)
        renamed[key] = value
    return renamed


def fetch_from_hub(repository: str, revision: str, folder: str | Path) -> Path:
    """Downloads a diffusers model from the Hugging Face hub: configurations and safetensors only.

    Nothing in this package downloads unless this function is called.

    Arguments:
        repository: Such as "google/ddpm-celebahq-256".
        revision: A commit, so that the same call gives the same files.
        folder: Where to put it.

    Raises:
        ImportError: diffusers, with its huggingface_hub, is not installed.
    """
    hub = needs("huggingface_hub", "diffusers")
    patterns = ["*.json", "*.safetensors"]
    found = hub.snapshot_download(
        repository, revision=revision, local_dir=str(folder), allow_patterns=patterns
    )
    return Path(found)
