"""Which sampler for what: the defaults, with the evidence in docs/samplers.md."""

from __future__ import annotations

import sys
from enum import StrEnum
from math import prod
from typing import NamedTuple

from invdiff.problem import Problem
from invdiff.samplers.afdps import AFDPS
from invdiff.samplers.base import Sampler
from invdiff.samplers.conjugate_tds import ConjugateTDS
from invdiff.samplers.dds import DDS
from invdiff.samplers.dps import DPS
from invdiff.samplers.mmps import MMPS
from invdiff.samplers.pigdm import PiGDM

__all__ = ["Choice", "Purpose", "choose", "resolve"]

SMALL = 400  # pixels, up to which every particle can have a dense covariance in seconds


class Purpose(StrEnum):
    """What the samples are for."""

    MEAN = "mean"
    UNCERTAINTY = "uncertainty"
    PERCEPTION = "perception"


class Choice(NamedTuple):
    """A sampler, and why."""

    sampler: Sampler
    reason: str


def choose(problem: Problem, purpose: Purpose | str = Purpose.UNCERTAINTY) -> Choice:
    """The default sampler for a problem.

    Arguments:
        problem: Only its size and whether its operator is linear are looked at.
        purpose: ``mean``, a good mean in the least time; ``uncertainty``, intervals that cover;
            ``perception``, single samples that look right.

    Raises:
        ValueError: An unknown purpose.
    """
    purpose = Purpose(purpose)
    pixels, linear = prod(problem.operator.domain), problem.operator.linear
    if purpose is Purpose.UNCERTAINTY and linear and pixels <= SMALL:
        return Choice(ConjugateTDS(), f"calibrated; dense covariances fit {pixels} pixels")
    if purpose is Purpose.UNCERTAINTY and linear:
        return Choice(MMPS(), f"calibrated for near-Gaussian posteriors, at {pixels} pixels")
    if purpose is Purpose.UNCERTAINTY and pixels <= SMALL:
        return Choice(AFDPS(), "exact as particles grow, for any operator; use many particles")
    if not linear:
        return Choice(DPS(), "for any differentiable operator; its spread is approximate")
    if purpose is Purpose.MEAN:
        return Choice(
            DDS(), "good means in 50 evaluations without derivatives; its spread is narrow"
        )
    return Choice(PiGDM(), "single samples closest to draws of the posterior, per evaluation")


def resolve(sampler: Sampler | str, problem: Problem) -> Sampler:
    """The sampler itself; or, for "auto", the default for uncertainty, which is then printed.

    Raises ValueError for another word.
    """
    if not isinstance(sampler, str):
        return sampler
    if sampler != "auto":
        raise ValueError(
            f"sampler is {sampler!r}, expected a sampler such as DDS(), or 'auto' for the default."
        )
    choice = choose(problem)
    sys.stderr.write(f"invdiff: sampler='auto' is {choice.sampler!r}: {choice.reason}.\n")
    return choice.sampler
