"""Posterior sampling for imaging inverse problems with diffusion priors."""

import invdiff.threads  # noqa: F401 - first: it must come before torch
from invdiff.adaptive import adaptive_ladder
from invdiff.errors import NotFinite, PriorError, ShapeError
from invdiff.information import equal_information, split_levels
from invdiff.ladder import ddpm, geometric, karras
from invdiff.noise import Gaussian, Poisson
from invdiff.posterior import Posterior
from invdiff.problem import Problem
from invdiff.rng import Rng
from invdiff.sample import sample
from invdiff.samplers import (
    AFDPS,
    DAPS,
    DDNM,
    DDRM,
    DDS,
    DPS,
    FKC,
    FPSSMC,
    LGD,
    MMPS,
    MPGD,
    STSL,
    SVDD,
    TDS,
    TMPD,
    ConjugateTDS,
    DDNMPlus,
    DiffPIR,
    FKSteering,
    MCGDiff,
    PiGDM,
    PnPDM,
    REDDiff,
    SplitSMC,
)
from invdiff.transmission import Transmission

__all__ = [
    "AFDPS",
    "DAPS",
    "DDNM",
    "DDRM",
    "DDS",
    "DPS",
    "FKC",
    "FPSSMC",
    "LGD",
    "MMPS",
    "MPGD",
    "STSL",
    "SVDD",
    "TDS",
    "TMPD",
    "ConjugateTDS",
    "DDNMPlus",
    "DiffPIR",
    "FKSteering",
    "Gaussian",
    "MCGDiff",
    "NotFinite",
    "PiGDM",
    "PnPDM",
    "Poisson",
    "Posterior",
    "PriorError",
    "Problem",
    "REDDiff",
    "Rng",
    "ShapeError",
    "SplitSMC",
    "Transmission",
    "adaptive_ladder",
    "ddpm",
    "equal_information",
    "geometric",
    "karras",
    "sample",
    "split_levels",
]
