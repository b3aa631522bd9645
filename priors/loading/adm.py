"""State dicts of guided-diffusion (ADM): FFHQ, ImageNet, and what descends from them.

References:
    | Diffusion Models Beat GANs on Image Synthesis (Dhariwal and Nichol, 2021)
    | https://arxiv.org/abs/2105.05233

    | Diffusion Posterior Sampling (Chung et al., 2023), arXiv:2209.14687: the FFHQ model
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from invdiff.errors import PriorError
from invdiff.priors.loading.adm_layout import ADMLayout
from invdiff.priors.loading.discrete import DiscreteSchedule
from invdiff.priors.loading.files import Checkpoint, opened
from invdiff.priors.loading.matching import State, assemble, find_weights, strip_prefix
from invdiff.priors.loading.model_card import ModelCard
from invdiff.priors.loading.model_prior import ModelPrior
from invdiff.priors.loading.parametrisations import Predicts, Target
from invdiff.priors.loading.schedules import Schedule

__all__ = ["is_guided_diffusion", "load_guided_diffusion", "published_settings"]

TABLES = ("sqrt_alphas_cumprod", "sqrt_1m_alphas_cumprod")
"""What deepinv's DiffUNet saves beside the weights."""


def is_guided_diffusion(state: State) -> bool:
    """Whether names are those of guided-diffusion's U-Net."""
    return "time_embed.0.weight" in state and "input_blocks.0.0.weight" in state


def published_settings(layout: ADMLayout) -> tuple[ADMLayout, DiscreteSchedule]:
    """What cannot be seen in a state dict, where the arrangement is that of a published model.

    ImageNet 64 has cosine betas and the new attention; ImageNet 128 has four heads. All others
    (FFHQ 256, ImageNet 256 and 512, CT and MR of DDS) have heads of 64 channels and betas on the
    line from 1e-4 to 0.02.
    """
    shape: tuple[int, tuple[int, ...], int] = (layout.base, layout.widths, layout.blocks)
    if shape == (192, (192, 384, 576, 768), 3):
        return replace(layout, new_attention=True), DiscreteSchedule.cosine()
    if shape == (256, (256, 256, 512, 768, 1024), 2):
        return replace(layout, head_channels=0), DiscreteSchedule.linear()
    return layout, DiscreteSchedule.linear()


def load_guided_diffusion(
    path: str | Path | Checkpoint,
    *,
    schedule: Schedule | None = None,
    head_channels: int | None = None,
    new_attention: bool | None = None,
    target: Target = Target.EPSILON,
    trust_pickle: bool = False,
) -> ModelPrior:
    """A guided-diffusion checkpoint as a prior of images on [-1, 1].

    The architecture is read from the names and shapes of the weights. Twice as many channels out
    as in are a learned variance, whose half is dropped.

    Arguments:
        path: A state dict, .pt or .safetensors.
        schedule: That of training; None for the one of `published_settings`.
        head_channels, new_attention: How attention is split, see `ADMLayout`; None for those of
            `published_settings`.
        target: What is predicted.
        trust_pickle: See `read_checkpoint`.

    Raises:
        PriorError: The file cannot be read, or is of another architecture, or an upsampler.
    """
    from invdiff.priors.loading.adm_network import ADMNetwork

    file = opened(path, trust_pickle)
    state, which = find_weights(file)
    state = strip_prefix(state, is_guided_diffusion)
    state = {name: value for name, value in state.items() if name not in TABLES}
    layout, usual = published_settings(ADMLayout.of(state))
    if head_channels is not None:
        layout = replace(layout, head_channels=head_channels)
    if new_attention is not None:
        layout = replace(layout, new_attention=new_attention)
    if layout.channels == layout.out_channels == 6:
        raise PriorError(
            f"{file.path} has 6 channels in and out, as guided-diffusion's upsamplers have: three "
            "of them are a small image. That is no prior of images."
        )
    if layout.out_channels not in (layout.channels, 2 * layout.channels):
        raise PriorError(
            f"{file.path} predicts {layout.out_channels} channels of {layout.channels}: expected "
            "as many, or twice as many with a learned variance."
        )
    network = assemble(partial(ADMNetwork, layout), state, str(file.path))
    card = ModelCard(
        name=file.path.stem,
        format="guided-diffusion",
        sha256=file.sha256,
        channels=layout.channels,
        value_range=(-1.0, 1.0),
        multiple=2 ** (len(layout.widths) - 1),
        learned_variance=layout.out_channels == 2 * layout.channels,
        classes=layout.classes,
        class_free=not layout.classes,
        weights=which,
    )
    return ModelPrior(card, network, Predicts(target, usual if schedule is None else schedule))
