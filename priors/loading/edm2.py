"""State dicts of EDM2 and of autoguidance's smaller models.

NVIDIA's files are pickles that carry their source code and run it; they are not read here. Save
the state dict of their 'ema' once with NVIDIA's own code.

References:
    | Analyzing and Improving the Training Dynamics of Diffusion Models (Karras et al., 2024)
    | https://arxiv.org/abs/2312.02696
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from invdiff.errors import PriorError
from invdiff.priors.loading.edm import CONV
from invdiff.priors.loading.edm2_network import EDM2Layout, EDM2Network
from invdiff.priors.loading.files import Checkpoint, read_checkpoint
from invdiff.priors.loading.matching import State, assemble, find_weights, strip_prefix
from invdiff.priors.loading.model_card import ModelCard
from invdiff.priors.loading.model_prior import ModelPrior
from invdiff.priors.loading.parametrisations import EDM

__all__ = ["is_edm2", "load_edm2"]


def is_edm2(state: State) -> bool:
    """Whether names are those of EDM2's U-Net."""
    return "emb_fourier.freqs" in state and "out_gain" in state


def load_edm2(
    path: str | Path | Checkpoint, *, sigma_data: float = 0.5, trust_pickle: bool = False
) -> ModelPrior:
    """A state dict of EDM2's U-Net or of its Precond: RGB on [-1, 1], or standardised latents.

    The head for the loss' uncertainty is not needed, and dropped. Latent models (4 channels) work
    on Stable Diffusion's latents, standardised to a deviation of 0.5 per channel; undo that in the
    decoder.

    Arguments:
        path: The state dict.
        sigma_data: Of the preconditioning.
        trust_pickle: See `read_checkpoint`.

    Raises:
        PriorError: The file cannot be read, or is of another architecture.
    """
    file = (
        path if isinstance(path, Checkpoint) else read_checkpoint(path, trust_pickle=trust_pickle)
    )
    state, which = find_weights(file)
    state = strip_prefix(state, is_edm2)
    try:
        layout = _layout(state)
    except (KeyError, IndexError, StopIteration) as error:
        raise PriorError(f"{file.path} is no state dict of EDM2: {error!r}.") from error
    latent = layout.channels == 4
    card = ModelCard(
        name=file.path.stem,
        format="EDM2",
        sha256=file.sha256,
        channels=layout.channels,
        value_range=(-float("inf"), float("inf")) if latent else (-1.0, 1.0),
        variance=sigma_data**2,
        multiple=2 ** (len(layout.widths) - 1),
        classes=layout.classes,
        class_free=not layout.classes,
        weights=which,
    )
    network = assemble(partial(EDM2Network, layout), state, str(file.path))
    return ModelPrior(card, network, EDM(sigma_data))


def _layout(state: State) -> EDM2Layout:
    first = next(match for key in state if (match := CONV.fullmatch(key)))
    side = int(first[1])
    sides = [s for i in range(12) if f"enc.{(s := side >> i)}x{s}_block0.emb_gain" in state]
    if not sides:
        raise KeyError("no blocks")
    return EDM2Layout(
        channels=state[first[0]].shape[1] - 1,
        side=side,
        widths=tuple(state[f"enc.{s}x{s}_block0.conv_res1.weight"].shape[0] for s in sides),
        blocks=sum(f"enc.{side}x{side}_block{i}.emb_gain" in state for i in range(64)),
        attention=tuple(
            level
            for level, s in enumerate(sides)
            if f"enc.{s}x{s}_block0.attn_qkv.weight" in state
        ),
        noise=state["emb_fourier.freqs"].shape[0],
        embedding=state["emb_noise.weight"].shape[0],
        classes=state["emb_label.weight"].shape[1] if "emb_label.weight" in state else 0,
    )
