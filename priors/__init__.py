"""Denoisers as priors."""

from invdiff.priors.base import Prior
from invdiff.priors.card import Card
from invdiff.priors.gaussian import GaussianPrior
from invdiff.priors.mixture import GaussianMixturePrior
from invdiff.priors.network import NetworkPrior, load_prior
from invdiff.priors.transforms import AffinePrior, ComplexPrior, GreyPrior

__all__ = [
    "AffinePrior",
    "Card",
    "ComplexPrior",
    "GaussianMixturePrior",
    "GaussianPrior",
    "GreyPrior",
    "NetworkPrior",
    "Prior",
    "load_prior",
]
