"""Priors from checkpoints and networks made elsewhere; see docs/loading.md."""

from invdiff.priors.loading.adm import load_guided_diffusion
from invdiff.priors.loading.detect import load_path
from invdiff.priors.loading.diffusers import fetch_from_hub, load_diffusers
from invdiff.priors.loading.discrete import DiscreteSchedule
from invdiff.priors.loading.dit import load_dit, load_sit
from invdiff.priors.loading.edm import load_edm
from invdiff.priors.loading.edm2 import load_edm2
from invdiff.priors.loading.files import Checkpoint, read_checkpoint
from invdiff.priors.loading.from_libraries import from_azula, from_deepinv
from invdiff.priors.loading.functions import from_function
from invdiff.priors.loading.latent import (
    AutoEncoder,
    load_diffusers_autoencoder,
    load_monai_autoencoder,
)
from invdiff.priors.loading.model_card import ModelCard
from invdiff.priors.loading.model_prior import ModelPrior
from invdiff.priors.loading.monai import load_monai
from invdiff.priors.loading.numeric import NumericSchedule
from invdiff.priors.loading.parametrisations import EDM, Parametrisation, Predicts, Target
from invdiff.priors.loading.schedules import (
    LinearPath,
    Schedule,
    VarianceExploding,
    VariancePreserving,
)
from invdiff.priors.loading.score_sde import load_score_sde

__all__ = [
    "EDM",
    "AutoEncoder",
    "Checkpoint",
    "DiscreteSchedule",
    "LinearPath",
    "ModelCard",
    "ModelPrior",
    "NumericSchedule",
    "Parametrisation",
    "Predicts",
    "Schedule",
    "Target",
    "VarianceExploding",
    "VariancePreserving",
    "fetch_from_hub",
    "from_azula",
    "from_deepinv",
    "from_function",
    "load_diffusers",
    "load_diffusers_autoencoder",
    "load_dit",
    "load_edm",
    "load_edm2",
    "load_guided_diffusion",
    "load_monai",
    "load_monai_autoencoder",
    "load_path",
    "load_score_sde",
    "load_sit",
    "read_checkpoint",
]
