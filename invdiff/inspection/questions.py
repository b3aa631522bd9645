"""The ways to ask a prior: as it is declared, and as it would be right after one mistake.

A question changes what the network is given; a reading (``readings.py``) changes what is made of
its answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from invdiff.inspection.forms import SCHEDULES, exchanged, reversed_level, shrinkage

__all__ = ["RANGES", "Question", "questions", "range_text"]

Range = tuple[float, float]
Level = Callable[[float], float]

RANGES: tuple[Range, ...] = (
    (0.0, 1.0),
    (-1.0, 1.0),
    (-0.5, 0.5),
    (0.0, 255.0),
    (-1.024, 3.071),
    (-1024.0, 3071.0),
)
UNITS = {(-1.024, 3.071): "HU / 1000", (-1024.0, 3071.0): "HU"}


def same(sigma: float) -> float:
    """The noise level itself."""
    return sigma


def unscaled(sigma: float, told: float) -> float:
    """The state as it is."""
    return 1.0


def scaled(sigma: float, told: float) -> float:
    """What keeps the state's variance where the prior rescales it for the level it is told."""
    return shrinkage(sigma) / shrinkage(told)


@dataclass(frozen=True)
class Question:
    r"""One way to ask: images in another range, another level, another order of channels.

    With images in the range given here, and :math:`\tau` the level that is told, the prior is
    asked for :math:`D(c\,x; \tau)` with c = ``into(sigma, tau)``.

    Arguments:
        words: The mistake that would make this right; empty for the question as declared.
        advice: What to do about it.
        range: The range of the images, as the network wants it.
        told: The level the prior is told, from the level there is.
        into: What the state is multiplied by.
        flip: Whether the channels are given in reversed order.
    """

    words: str
    advice: str
    range: Range
    told: Level = same
    into: Callable[[float, float], float] = unscaled
    flip: bool = False

    @property
    def mistakes(self) -> int:
        """0 as declared, else 1."""
        return int(bool(self.words))

    @property
    def of_images(self) -> bool:
        """Whether it differs in the images alone, not in noise level or scale of the state."""
        return self.told is same and self.into is unscaled

    def ask(
        self,
        denoiser: Callable[[Tensor, Tensor], Tensor],
        images: Tensor,
        noise: Tensor,
        sigma: float,
    ) -> tuple[Tensor, ...]:
        """Truth, noisy image and answer, in the range of the question.

        Arguments:
            denoiser: Who is asked.
            images: (n, channels, h, w) on [0, 1].
            noise: Standard normal, of the same shape.
            sigma: The noise level, in the range of the question.
        """
        low, high = self.range
        truth = low + (high - low) * images
        noisy = truth + sigma * noise
        told = self.told(sigma)
        given = self.into(sigma, told) * noisy
        level = torch.tensor(told, dtype=torch.float64)
        out = denoiser(given.flip(1) if self.flip else given, level)
        answer = out.flip(1) if self.flip and out.shape == given.shape else out
        return truth, noisy, answer


def questions(declared: Range, channels: int) -> Iterator[Question]:
    """As declared first, then every mistake that is known."""
    yield Question("", "", declared)
    yield from _ranges(declared)
    if channels == 3:
        yield Question(
            "RGB images given to a BGR model",
            "Reverse the channels on the way in and on the way out.",
            declared,
            flip=True,
        )
    yield Question(
        "a model of the scaled state x / sqrt(1 + sigma^2) given x itself",
        "Multiply the input of the network by 1 / sqrt(1 + sigma^2).",
        declared,
        into=lambda sigma, told: shrinkage(sigma),
    )
    yield Question(
        "a model of x itself given the scaled state x / sqrt(1 + sigma^2)",
        "Give the network x = x0 + sigma n without a factor.",
        declared,
        into=lambda sigma, told: 1 / shrinkage(sigma),
    )
    for words, advice, told in _levels():
        yield Question(words, advice, declared, told, unscaled)
        yield Question(words, advice, declared, told, scaled)


def _ranges(declared: Range) -> Iterator[Question]:
    for actual in RANGES:
        if actual != declared:
            yield Question(
                f"{range_text(declared)} data given to a {range_text(actual)} model",
                f"Give the network images in {range_text(actual)}{_affine(declared, actual)}.",
                actual,
            )
    yield Question(
        "images given with inverted contrast",
        "Change the sign of the images: AffinePrior with a negative scale.",
        (declared[1], declared[0]),
    )


def _affine(declared: Range, actual: Range) -> str:
    scale = (declared[1] - declared[0]) / (actual[1] - actual[0])
    offset = declared[0] - scale * actual[0]
    return f" with AffinePrior(prior, scale={scale:.6g}, offset={offset:.6g})"


def _levels() -> Iterator[tuple[str, str, Level]]:
    """What is wrong with the level, what to do, and the level that would be right."""
    for factor, name in ((2.0, "2"), (0.5, "1/2"), (255.0, "255"), (1 / 255, "1/255")):
        yield (
            f"sigma off by a factor: the network should be told {name} times the noise level",
            f"Multiply sigma by {name} before it reaches the network: is it on the range of the "
            "images that the network sees?",
            partial(_times, factor),
        )
    yield (
        "a model that should be told the variance sigma^2 told sigma",
        "Pass sigma squared.",
        lambda sigma: sigma**2,
    )
    yield (
        "a model that should be told sigma told the variance sigma^2",
        "Pass the standard deviation.",
        lambda sigma: sigma**0.5,
    )
    for actual in SCHEDULES:
        for declared in SCHEDULES:
            if declared != actual:
                yield (
                    f"the wrong schedule: a {actual} one declared as {declared}",
                    f"Declare the {actual} schedule.",
                    partial(exchanged, declared, actual),
                )
        yield (
            f"the direction of time reversed ({actual} schedule)",
            "Count the steps from the other end.",
            partial(reversed_level, actual),
        )
    yield (
        "the direction of time reversed (straight paths, t = sigma / (1 + sigma))",
        "Pass 1 - t instead of t.",
        lambda sigma: 1 / sigma,
    )


def _times(factor: float, sigma: float) -> float:
    return factor * sigma


def range_text(values: Range) -> str:
    """How a range is written in a sentence."""
    named = {key: f"[{key[0]:g}, {key[1]:g}] ({unit})" for key, unit in UNITS.items()}
    return named.get(values, f"[{values[0]:g}, {values[1]:g}]")
