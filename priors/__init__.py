"""Denoisers as priors."""

from invdiff.priors.acceleration import Autocast, channels_last, compiled, graphed
from invdiff.priors.atoms import AtomsPrior
from invdiff.priors.base import Prior
from invdiff.priors.card import Card
from invdiff.priors.gaussian import GaussianPrior
from invdiff.priors.guidance import ClassConditional, GuidedPrior
from invdiff.priors.increments import BernoulliLaplace, Gauss, Laplace, Student
from invdiff.priors.levy import LevyPrior
from invdiff.priors.micro_batching import MicroBatched
from invdiff.priors.mixture import GaussianMixturePrior
from invdiff.priors.network import NetworkPrior, load_prior
from invdiff.priors.tiling import Tiled
from invdiff.priors.transforms import AffinePrior, ComplexPrior, GreyPrior

__all__ = [
    "AffinePrior",
    "AtomsPrior",
    "Autocast",
    "BernoulliLaplace",
    "Card",
    "ClassConditional",
    "ComplexPrior",
    "Gauss",
    "GaussianMixturePrior",
    "GaussianPrior",
    "GreyPrior",
    "GuidedPrior",
    "Laplace",
    "LevyPrior",
    "MicroBatched",
    "NetworkPrior",
    "Prior",
    "Student",
    "Tiled",
    "channels_last",
    "compiled",
    "graphed",
    "load_prior",
]
