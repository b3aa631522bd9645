"""Posterior sampling for imaging inverse problems with diffusion priors."""

import invdiff.threads  # noqa: F401 - first: it must come before torch
from invdiff.errors import NotFinite, PriorError, ShapeError
from invdiff.ladder import ddpm, geometric, karras
from invdiff.noise import Gaussian, Poisson
from invdiff.posterior import Posterior
from invdiff.problem import Problem
from invdiff.rng import Rng
from invdiff.sample import sample
from invdiff.samplers import DDS, DPS, STSL, TDS, REDDiff

__all__ = [
    "DDS",
    "DPS",
    "STSL",
    "TDS",
    "Gaussian",
    "NotFinite",
    "Poisson",
    "Posterior",
    "PriorError",
    "Problem",
    "REDDiff",
    "Rng",
    "ShapeError",
    "ddpm",
    "geometric",
    "karras",
    "sample",
]
