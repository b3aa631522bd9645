"""Which format a file has."""

from __future__ import annotations

from pathlib import Path

from invdiff.errors import PriorError
from invdiff.priors.loading.adm import is_guided_diffusion, load_guided_diffusion
from invdiff.priors.loading.diffusers import load_diffusers
from invdiff.priors.loading.dit import is_transformer
from invdiff.priors.loading.edm import is_edm, load_edm
from invdiff.priors.loading.edm2 import is_edm2, load_edm2
from invdiff.priors.loading.files import read_checkpoint
from invdiff.priors.loading.matching import brief, find_weights, strip_prefix
from invdiff.priors.loading.model_prior import ModelPrior
from invdiff.priors.loading.monai import is_monai
from invdiff.priors.loading.score_sde import load_score_sde
from invdiff.priors.loading.score_sde_names import is_score_sde
from invdiff.priors.network import NetworkPrior

__all__ = ["load_path"]

LOADERS = (
    (is_guided_diffusion, load_guided_diffusion),
    (is_score_sde, load_score_sde),
    (is_edm2, load_edm2),
    (is_edm, load_edm),
)
ADVICE = (
    (
        is_transformer,
        "DiT and SiT have the same weights and predict different things: say which, with "
        "load_dit(path) or load_sit(path).",
    ),
    (
        is_monai,
        "They look like MONAI's DiffusionModelUNet, whose arguments are not in the file: "
        "load_monai(path, config, parametrisation).",
    ),
)


def load_path(path: str | Path, trust_pickle: bool = False) -> ModelPrior | NetworkPrior:
    """The prior in a file or folder, with the usual settings of its format.

    Formats are told apart by the names of the weights; see the functions ``load_*`` for settings
    that are not in the file.

    Arguments:
        path: A safetensors file with its card beside it (ours), a checkpoint of guided-diffusion,
            score_sde, EDM or EDM2, or a folder of diffusers.
        trust_pickle: See `read_checkpoint`.

    Raises:
        PriorError: It cannot be read, or is of no known format.
    """
    path = Path(path)
    if path.is_dir():
        return load_diffusers(path, trust_pickle=trust_pickle)
    if path.suffix == ".safetensors" and path.with_suffix(".json").is_file():
        return NetworkPrior.read(path, path.with_suffix(".json"))
    file = read_checkpoint(path, trust_pickle=trust_pickle)
    state, _ = find_weights(file)
    for known, load in LOADERS:
        if known(strip_prefix(state, known)):
            return load(file)
    for known, advice in ADVICE:
        if known(strip_prefix(state, known)):
            raise PriorError(f"{path} is not read without settings. {advice}")
    raise PriorError(
        f"The weights in {path} are of no known format: {brief(list(state))}. Build the network "
        "yourself and declare what it predicts: from_function(network, Predicts(...), "
        "channels=..., value_range=...)."
    )
