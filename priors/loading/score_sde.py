"""Checkpoints of score_sde: NCSN++ (VE) and DDPM++ (VP), as DDS and DiffusionMBIR train them.

References:
    | Score-Based Generative Modeling through Stochastic Differential Equations (Song et al., 2021)
    | https://arxiv.org/abs/2011.13456

    | Solving 3D Inverse Problems using Pre-trained 2D Diffusion Models (Chung et al., 2023)
    | https://arxiv.org/abs/2211.10655: DiffusionMBIR
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from invdiff.errors import PriorError
from invdiff.priors.loading.files import Checkpoint, read_checkpoint
from invdiff.priors.loading.matching import State, assemble, find_weights, strip_prefix
from invdiff.priors.loading.model_card import ModelCard
from invdiff.priors.loading.model_prior import ModelPrior
from invdiff.priors.loading.parametrisations import Predicts, Target
from invdiff.priors.loading.schedules import Schedule, VarianceExploding, VariancePreserving
from invdiff.priors.loading.score_sde_names import RESOLUTION, NCSNLayout, is_score_sde, renamed

__all__ = ["ScoreSDENetwork", "load_score_sde"]


class ScoreSDENetwork(nn.Module):
    """deepinv's NCSNpp with score_sde's input and output, predicting the noise n.

    Arguments:
        network: The module.
        centred: Whether images are on [-1, 1]; if not, they are on [0, 1], and so is x.
        fourier: Whether it is told the logarithm of the time, and gives -n.
    """

    def __init__(self, network: Any, centred: bool, fourier: bool) -> None:
        super().__init__()
        self.network, self.centred, self.fourier = network, centred, fourier

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """n, for x (b, channels, h, w) and time (b,)."""
        inner = x if self.centred else 2 * x - 1
        out: Tensor = self.network.forward_unet(inner, time.log() if self.fourier else time)
        return -out if self.fourier else out


def load_score_sde(
    path: str | Path | Checkpoint,
    *,
    schedule: Schedule | None = None,
    centred: bool | None = None,
    trust_pickle: bool = False,
) -> ModelPrior:
    """A score_sde checkpoint of the continuous models (``ncsnpp`` or ``ddpmpp`` configurations).

    The moving average is taken where there is one: a checkpoint keeps it as a list of tensors in
    the order of the parameters, and it is matched to their names by that order.

    Arguments:
        path: A checkpoint (model, ema, optimizer, step) or a state dict.
        schedule: That of training. None for a VE schedule from 0.01 to 50 if the network has
            Fourier features, and else the VP-SDE with betas 0.1 and 20. The range of VE models
            differs: DiffusionMBIR has ``VarianceExploding(0.01, 378)``.
        centred: The configuration's ``data.centered``, whether images are on [-1, 1]; None for
            score_sde's defaults, [0, 1] for VE and [-1, 1] for VP.
        trust_pickle: See `read_checkpoint`.

    Raises:
        PriorError: The file cannot be read, or is of a variant that is not supported.
    """
    file = (
        path if isinstance(path, Checkpoint) else read_checkpoint(path, trust_pickle=trust_pickle)
    )
    state, which = _weights(file)
    names, layout = renamed(state)
    fourier = layout.fourier
    centred = not fourier if centred is None else centred
    if schedule is None:
        schedule = VarianceExploding(0.01, 50.0) if fourier else VariancePreserving()
    card = ModelCard(
        name=file.path.stem,
        format="score_sde",
        sha256=file.sha256,
        channels=layout.channels,
        value_range=(-1.0, 1.0) if centred else (0.0, 1.0),
        multiple=2 ** (len(layout.widths) - 1),
        weights=which,
    )
    network = ScoreSDENetwork(_network(names, layout, str(file.path)), centred, fourier)
    return ModelPrior(card, network, Predicts(Target.EPSILON, schedule))


def _network(names: State, layout: NCSNLayout, what: str) -> nn.Module:
    from deepinv.models import NCSNpp

    if min(layout.widths) < 128 or any(width % layout.base for width in layout.widths):
        raise PriorError(
            f"{what} has widths {layout.widths}: deepinv's NCSNpp needs multiples of its first, "
            "from 128 on."
        )

    def build() -> Any:
        return NCSNpp(
            model_type="ncsn" if layout.fourier else "ddpm",
            img_resolution=RESOLUTION,
            in_channels=layout.channels,
            out_channels=layout.channels,
            augment_dim=0,
            model_channels=layout.base,
            channel_mult=tuple(width // layout.base for width in layout.widths),
            num_blocks=layout.blocks,
            attn_resolutions=tuple(RESOLUTION >> level for level in layout.attention),
            dropout=0.0,
            pretrained=None,
        )

    with torch.device("meta"):
        filters = [key for key in build().state_dict() if key.endswith("resample_filter")]
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0] if layout.fourier else [1.0, 1.0])
    kernel = taps.outer(taps)[None, None] / taps.sum().square()
    network: nn.Module = assemble(build, names | dict.fromkeys(filters, kernel), what)
    return network


def _weights(file: Checkpoint) -> tuple[State, str]:
    """The named weights, with the moving average in them where the file has one."""
    tree = file.tree
    average = tree.get("ema") if isinstance(tree, Mapping) else None
    shadow = average.get("shadow_params") if isinstance(average, Mapping) else None
    if shadow is None:
        state, which = find_weights(file)
        return strip_prefix(state, is_score_sde), which
    plain = Checkpoint(file.path, file.sha256, {"model": tree.get("model")})
    state = strip_prefix(find_weights(plain)[0], is_score_sde)
    # The random frequencies are a parameter that is not trained, so it has no average.
    fixed = ("sigmas", "all_modules.0.W")
    trained = [key for key in state if key not in fixed]
    fits = len(shadow) == len(trained) and all(
        isinstance(value, Tensor) and value.shape == state[key].shape
        for key, value in zip(trained, shadow, strict=True)
    )
    if not fits:
        raise PriorError(
            f"{file.path} has an average of {len(shadow)} tensors for {len(trained)} weights, or "
            "of other shapes: it cannot be matched to names."
        )
    return state | dict(zip(trained, shadow, strict=True)), "'ema' (ema)"
