"""State dicts of EDM's two networks, through deepinv's classes of the same names.

NVIDIA's files are pickles that carry their source code and run it; they are not read here. Save
the state dict of their 'ema' once with NVIDIA's own code. deepinv's and InverseBench's files are
state dicts already.

References:
    | Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022)
    | https://arxiv.org/abs/2206.00364
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from invdiff.errors import PriorError
from invdiff.priors.loading.files import Checkpoint, read_checkpoint
from invdiff.priors.loading.matching import State, assemble, find_weights, strip_prefix
from invdiff.priors.loading.model_card import ModelCard
from invdiff.priors.loading.model_prior import ModelPrior
from invdiff.priors.loading.parametrisations import EDM, Parametrisation

__all__ = ["EDMNetwork", "is_edm", "load_edm"]

CONV = re.compile(r"enc\.(\d+)x\1_conv\.weight")


def is_edm(state: State) -> bool:
    """Whether names are those of EDM's networks."""
    return "map_layer0.weight" in state and any(CONV.fullmatch(key) for key in state)


class EDMNetwork(nn.Module):
    """deepinv's ADMUNet or NCSNpp without the preconditioning around it.

    Arguments:
        network: The module.
        classes: The number of classes it is told one of; one beyond the last is told as none.
    """

    def __init__(self, network: Any, classes: int = 0) -> None:
        super().__init__()
        self.network, self.classes = network, classes

    def forward(self, x: Tensor, time: Tensor, label: Tensor | None = None) -> Tensor:
        """F(x, c_noise) and one label per row."""
        hot = None
        if label is not None:
            hot = F.one_hot(label, self.classes + 1)[:, : self.classes].to(x.dtype)
        out: Tensor = self.network.forward_unet(x, time, class_labels=hot)
        return out


def load_edm(
    path: str | Path | Checkpoint,
    *,
    parametrisation: Parametrisation | None = None,
    trust_pickle: bool = False,
) -> ModelPrior:
    """A state dict of EDM's DhariwalUNet (ADM) or SongUNet (DDPM++, NCSN++), on [-1, 1].

    Arguments:
        path: A state dict of the network or of its EDMPrecond; 'ema' is taken where there is one.
        parametrisation: Around the network; None for EDM's with sigma_data 0.5.
        trust_pickle: See `read_checkpoint`.

    Raises:
        PriorError: The file cannot be read, or is of an arrangement that deepinv has no class for.
    """
    file = (
        path if isinstance(path, Checkpoint) else read_checkpoint(path, trust_pickle=trust_pickle)
    )
    state, which = find_weights(file)
    state = strip_prefix(state, is_edm)
    try:
        options, song = _options(state)
    except (KeyError, IndexError, StopIteration) as error:
        raise PriorError(f"{file.path} is no state dict of EDM's networks: {error!r}.") from error
    classes = int(options["label_dim"])

    def build() -> EDMNetwork:
        from deepinv.models import ADMUNet, NCSNpp

        made = (NCSNpp if song else ADMUNet)(pretrained=None, dropout=0.0, **options)
        return EDMNetwork(made, classes)

    named = {f"network.{key}": value for key, value in state.items()}
    card = ModelCard(
        name=file.path.stem,
        format="EDM",
        sha256=file.sha256,
        channels=int(options["in_channels"]),
        value_range=(-1.0, 1.0),
        multiple=2 ** (len(options["channel_mult"]) - 1),
        classes=classes,
        class_free=not classes,
        weights=which,
    )
    wrapped = EDM() if parametrisation is None else parametrisation
    return ModelPrior(card, assemble(build, named, str(file.path)), wrapped)


def _options(state: State) -> tuple[dict[str, Any], bool]:
    """The arguments of deepinv's class, and whether it is NCSNpp."""
    first = next(match for key in state if (match := CONV.fullmatch(key)))
    side = int(first[1])
    sides = [s for i in range(12) if f"enc.{(s := side >> i)}x{s}_block0.conv0.weight" in state]
    song = f"dec.{side}x{side}_aux_conv.weight" in state
    fourier = "map_noise.freqs" in state
    if any("_aux_skip." in key for key in state) or fourier != any(
        "_aux_residual." in key for key in state
    ):
        raise KeyError("skip connections of the image pyramid, which deepinv's NCSNpp has not")
    widths = [state[f"enc.{s}x{s}_block0.conv1.weight"].shape[0] for s in sides]
    noise, embedding = state["map_layer0.weight"].shape[1], state["map_layer0.weight"].shape[0]
    base = noise // 2 if fourier else noise
    if min(widths) < 128 or any(width % base for width in widths):
        raise KeyError(f"widths {widths}; deepinv's classes need multiples of {base}, from 128 on")
    last = state["out_conv.weight" if not song else f"dec.{side}x{side}_aux_conv.weight"]
    options: dict[str, Any] = {
        "img_resolution": side,
        "in_channels": state[first[0]].shape[1],
        "out_channels": last.shape[0],
        "label_dim": state["map_label.weight"].shape[1] if "map_label.weight" in state else 0,
        "augment_dim": state["map_augment.weight"].shape[1]
        if "map_augment.weight" in state
        else 0,
        "model_channels": base,
        "channel_mult": tuple(width // base for width in widths),
        "channel_mult_emb": embedding // base,
        "num_blocks": sum(f"enc.{side}x{side}_block{i}.conv0.weight" in state for i in range(64)),
        "attn_resolutions": tuple(s for s in sides if f"enc.{s}x{s}_block0.qkv.weight" in state),
    }
    if song:
        options["model_type"] = "ncsn" if fourier else "ddpm"
    return options, song
