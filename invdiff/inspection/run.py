"""Does a prior denoise, and if not, which mistake would explain it?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from invdiff.inspection.behaviour import Behaviour, FirstHalf, accepted, observe
from invdiff.inspection.bench import Bench, Denoiser
from invdiff.inspection.forms import FORMS
from invdiff.inspection.images import KnownImage, known_images
from invdiff.inspection.questions import Range, questions
from invdiff.inspection.readings import Reading, readings
from invdiff.inspection.result import Inspection, conclude
from invdiff.inspection.trial import Trial, try_readings
from invdiff.inspection.verdict import shortlist
from invdiff.priors.base import Prior
from invdiff.priors.wrapping import AroundPrior

__all__ = ["inspect_prior"]

UNKNOWN_RANGE = (-1.0, 1.0)  # what most networks are trained on
SHARES = (0.05, 0.2, 0.75)  # noise levels, as shares of the declared range
FINALISTS = 8  # interpretations that are tried on all images


@dataclass(frozen=True)
class OnDevice(AroundPrior):
    """A prior that takes its images on another device than they are on."""

    device: torch.device

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self.prior(x.to(self.device), sigma).to(x.device)


def inspect_prior(
    prior: Prior,
    *,
    images: Sequence[KnownImage] | None = None,
    value_range: Range | None = None,
    declared: str | None = None,
    size: int | None = None,
    seed: int = 0,
    rows: int = 4,
    device: str | torch.device = "cpu",
) -> Inspection:
    r"""Denoises known images as declared, and as if one of many mistakes had been made.

    Images with :math:`\sigma` of 5, 20 and 75 % of the range are denoised with the prior as it is
    declared, in other ranges, orders of channels and noise levels, and its answers are read as
    x0, epsilon, v, score, velocity or residual. An interpretation that works clearly better than
    what is declared is the verdict. It takes some 50 calls at each of three levels on one image
    of each kind, and 9 on all.

    Arguments:
        prior: Any prior.
        images: Known images on [0, 1], of one size; if None, those that come with the package.
        value_range: The range that the images are given in; the prior's own if None.
        declared: What the prior takes its network's answer for, a name of ``forms.FORMS``, where
            that is known: fewer explanations are then possible. The target of the prior's own
            ``parametrisation``, if it has one, is taken if None.
        size: The side of the images, in pixels; the first of a few usual ones that fits if None.
        seed: Another seed gives other noise.
        rows: The most images that the prior is given at once.
        device: Where the prior takes its images.

    Raises:
        ShapeError, ValueError: There are no known images that it takes.
        PriorError: It cannot be called, or its answer has a wrong shape.
    """
    form, averaging = declared or _target(prior), _averaging(prior)
    prior = OnDevice(prior, torch.device(device))
    known = tuple(images) if images is not None else known_images(*accepted(prior, size))
    span, doubts = _range(prior, value_range)
    shares, more = _shares(prior, span)
    full = Bench.of(known, shares, seed, rows)
    screen = full.one_of_each_kind()
    behaviour = _observe(prior, screen, span)
    denoiser: Denoiser = FirstHalf(prior) if behaviour.halves else prior
    trials, refused = _try_all(denoiser, screen, span, list(readings(form)))
    finalists = [
        try_readings(full, denoiser, trial.question, [trial.reading])[0]
        for trial in shortlist(trials, FINALISTS)
    ]
    seen = replace(behaviour, notes=(*doubts, *more, *refused, *behaviour.notes, averaging))
    return conclude(prior, denoiser, full, finalists, seen, span)


def _target(prior: Prior) -> str | None:
    """What a prior made from a network of declared parametrisation says of it."""
    target = getattr(getattr(prior, "parametrisation", None), "target", None)
    name = getattr(target, "value", None)
    return name if name in {form.name for form in FORMS} else None


def _averaging(prior: Prior) -> str:
    weights = getattr(getattr(prior, "card", None), "weights", None)
    read = f" Those read were {weights}." if weights else ""
    return (
        "Answers cannot tell averaged (EMA) weights from raw ones, which denoise a little worse: "
        f"compare the scores of both where a checkpoint has both.{read}"
    )


def _range(prior: Prior, given: Range | None) -> tuple[Range, list[str]]:
    low, high = given or prior.value_range
    if math.isfinite(low) and math.isfinite(high):
        return (low, high), []
    return UNKNOWN_RANGE, [
        f"The prior declares no range: images were given in {list(UNKNOWN_RANGE)}."
    ]


def _shares(prior: Prior, span: Range) -> tuple[list[float], list[str]]:
    """The noise levels to try, on [0, 1]: within those that the prior is made for."""
    width = span[1] - span[0]
    low, high = prior.sigma_min / width, prior.sigma_max / width
    if not low < high or high < SHARES[0] or low > SHARES[-1]:
        return list(SHARES), [
            f"The declared noise levels, {prior.sigma_min:.3g} to {prior.sigma_max:.3g}, do not "
            f"fit the range [{span[0]:g}, {span[1]:g}] of the images: are they in other units?"
        ]
    first, last = max(SHARES[0], low), min(SHARES[-1], high)
    if (first, last) == (SHARES[0], SHARES[-1]):
        return list(SHARES), []
    return [first, math.sqrt(first * last), last], []


def _observe(prior: Prior, bench: Bench, span: Range) -> Behaviour:
    noisy = span[0] + (span[1] - span[0]) * bench.noisy(1)[:1]
    sigma = bench.sigma(span, 1)
    return observe(prior, torch.cat([noisy, noisy.flip(-1)]), sigma)


def _try_all(
    denoiser: Denoiser, bench: Bench, span: Range, ways: list[Reading]
) -> tuple[list[Trial], list[str]]:
    """All questions and readings; the prior as declared is the first."""
    trials: list[Trial] = []
    refused = 0
    for question in questions(span, bench.truth.shape[1]):
        try:
            trials += try_readings(bench, denoiser, question, ways)
        except ValueError:
            # A prior may refuse noise levels outside of what it declares, but not what it does.
            if not question.words:
                raise
            refused += 1
    if refused:
        return trials, [f"The prior refused {refused} of the ways to ask it."]
    return trials, []
