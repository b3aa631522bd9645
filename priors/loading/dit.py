"""State dicts of DiT (noise prediction) and SiT (velocity): the same network, told apart by name.

References:
    | Scalable Diffusion Models with Transformers (Peebles and Xie, 2023), arXiv:2212.09748
    | SiT (Ma et al., 2024), arXiv:2401.08740
"""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

from invdiff.errors import PriorError
from invdiff.priors.loading.discrete import DiscreteSchedule
from invdiff.priors.loading.dit_network import DiTLayout, DiTNetwork
from invdiff.priors.loading.files import Checkpoint, read_checkpoint
from invdiff.priors.loading.matching import State, assemble, find_weights, strip_prefix
from invdiff.priors.loading.model_card import ModelCard
from invdiff.priors.loading.model_prior import ModelPrior
from invdiff.priors.loading.parametrisations import Parametrisation, Predicts, Target
from invdiff.priors.loading.schedules import LinearPath

__all__ = ["is_transformer", "load_dit", "load_sit"]

HEADS = {384: 6, 768: 12, 1024: 16, 1152: 16}
"""The heads of the published widths S, B, L and XL: they cannot be seen in the weights."""


def is_transformer(state: State) -> bool:
    """Whether names are those of DiT and SiT."""
    return "x_embedder.proj.weight" in state and "blocks.0.attn.qkv.weight" in state


def load_sit(
    path: str | Path | Checkpoint,
    *,
    schedule: LinearPath | None = None,
    heads: int | None = None,
    trust_pickle: bool = False,
) -> ModelPrior:
    """A SiT checkpoint of the linear path with velocity prediction, as a prior of latents.

    Arguments:
        path: A state dict, or a checkpoint with 'ema'.
        schedule: That of training; None for SiT's, in which t runs from noise to image.
        heads: The attention heads; None for those of the published widths.
        trust_pickle: See `read_checkpoint`.

    Raises:
        PriorError: The file cannot be read, or is of another architecture.
    """
    path_ = LinearPath(reverse=True) if schedule is None else schedule
    return _load(path, "SiT", Predicts(Target.VELOCITY, path_), heads, trust_pickle)


def load_dit(
    path: str | Path | Checkpoint,
    *,
    schedule: DiscreteSchedule | None = None,
    heads: int | None = None,
    trust_pickle: bool = False,
) -> ModelPrior:
    """A DiT checkpoint, which predicts the noise, as a prior of latents.

    Arguments:
        path: A state dict, or a checkpoint with 'ema'.
        schedule: That of training; None for DiT's 1000 betas on the line from 1e-4 to 0.02.
        heads: The attention heads; None for those of the published widths.
        trust_pickle: See `read_checkpoint`.

    Raises:
        PriorError: The file cannot be read, or is of another architecture.
    """
    steps = DiscreteSchedule.linear() if schedule is None else schedule
    return _load(path, "DiT", Predicts(Target.EPSILON, steps), heads, trust_pickle)


def _load(
    path: str | Path | Checkpoint,
    kind: str,
    parametrisation: Parametrisation,
    heads: int | None,
    trust_pickle: bool,
) -> ModelPrior:
    file = (
        path if isinstance(path, Checkpoint) else read_checkpoint(path, trust_pickle=trust_pickle)
    )
    state, which = find_weights(file)
    state = strip_prefix(state, is_transformer)
    try:
        layout = _layout(state, heads)
    except (KeyError, IndexError) as error:
        raise PriorError(f"{file.path} is no state dict of a {kind}: {error!r}.") from error
    side = math.isqrt(layout.tokens) * layout.patch
    card = ModelCard(
        name=file.path.stem,
        format=kind,
        sha256=file.sha256,
        channels=layout.channels,
        value_range=(-math.inf, math.inf),
        variance=1.0,
        multiple=layout.patch,
        size=(side, side),
        learned_variance=layout.out_channels == 2 * layout.channels,
        # The last row of the table stands for no class.
        classes=layout.classes - 1,
        class_free=True,
        weights=which,
    )
    network = assemble(partial(DiTNetwork, layout), state, str(file.path))
    return ModelPrior(card, network, parametrisation)


def _layout(state: State, heads: int | None) -> DiTLayout:
    width, channels, patch = state["x_embedder.proj.weight"].shape[:3]
    if heads is None and width not in HEADS:
        raise KeyError(f"width {width} is none of {sorted(HEADS)}: pass heads")
    return DiTLayout(
        channels=channels,
        out_channels=state["final_layer.linear.weight"].shape[0] // patch**2,
        patch=patch,
        tokens=state["pos_embed"].shape[1],
        width=width,
        heads=HEADS[width] if heads is None else heads,
        hidden=state["blocks.0.mlp.fc1.weight"].shape[0],
        depth=len({key.split(".")[1] for key in state if key.startswith("blocks.")}),
        classes=state["y_embedder.embedding_table.weight"].shape[0],
    )
