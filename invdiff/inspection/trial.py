"""How well every interpretation of a prior denoises known images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from invdiff.inspection.bench import Bench, Denoiser
from invdiff.inspection.questions import Question
from invdiff.inspection.readings import Reading, errors

__all__ = ["Trial", "denoised", "try_readings"]

FLOOR = -20.0  # dB: beyond this it does not matter how bad an answer is

Factors = list[tuple[float, float]]


@dataclass(frozen=True, eq=False)
class Trial:
    """One interpretation and how it did.

    Arguments:
        question: How the prior was asked.
        reading: How its answer was read.
        gains: PSNR above that of total variation in dB, (images, levels).
        score: The mean of its gain on all images and on the kind it does best on: a network is
            made for some kind, but a right interpretation is seldom wrong on the others.
    """

    question: Question
    reading: Reading
    gains: Tensor
    score: float

    @property
    def mistakes(self) -> int:
        """How many things would be wrong with the prior as it is declared."""
        return self.question.mistakes + self.reading.mistakes

    @property
    def of_images(self) -> bool:
        """Whether only the images would be given differently."""
        return self.question.of_images and self.reading.mistakes == 0

    @property
    def words(self) -> str:
        """What would be wrong, in words."""
        return " and ".join(filter(None, (self.question.words, self.reading.words)))

    @property
    def advice(self) -> str:
        """What to do about it."""
        return " ".join(filter(None, (self.question.advice, self.reading.advice)))


def try_readings(
    bench: Bench, denoiser: Denoiser, question: Question, readings: Sequence[Reading]
) -> list[Trial]:
    """Asks one question and reads the answer in every way, in equal ways only once."""
    distinct: dict[tuple[tuple[float, float], ...], Reading] = {}
    by_level = [_factors(bench, question, readings, level) for level in bench.levels]
    for reading, *factors in zip(readings, *by_level, strict=True):
        distinct.setdefault(tuple(factors), reading)
    weights = torch.tensor(list(distinct), dtype=torch.float64)  # (readings, levels, 2)
    found = []
    for level in bench.levels:
        truth, noisy, answer = bench.answers(denoiser, question, level)
        found.append(errors(truth, noisy, answer, weights[:, level]))
    unit = (question.range[1] - question.range[0]) ** 2
    gains = _gains(bench, torch.stack(found, 2) / unit)
    best = torch.stack([gains[:, rows].mean((1, 2)) for rows in bench.kinds.values()]).amax(0)
    scores = ((best + gains.mean((1, 2))) / 2).tolist()
    rows = zip(distinct.values(), gains, scores, strict=True)
    return [Trial(question, *row) for row in rows]


def denoised(bench: Bench, denoiser: Denoiser, trial: Trial, level: int) -> Tensor:
    """The images that an interpretation gives, on [0, 1]."""
    low, high = trial.question.range
    _, noisy, answer = bench.answers(denoiser, trial.question, level)
    ((a, b),) = _factors(bench, trial.question, [trial.reading], level)
    return (a * noisy + b * answer - low) / (high - low)


def _factors(bench: Bench, question: Question, readings: Sequence[Reading], level: int) -> Factors:
    """A and B of each reading, rounded so that ways that come to the same are equal."""
    sigma = bench.sigma(question.range, level)
    told = question.told(sigma)
    into = question.into(sigma, told)
    pairs = [reading.factors(sigma, told, into) for reading in readings]
    return [(float(f"{a:.9g}"), float(f"{b:.9g}")) for a, b in pairs]


def _gains(bench: Bench, losses: Tensor) -> Tensor:
    """PSNR above total variation's in dB, from squared errors (readings, images, levels)."""
    smooth = bench.errors(bench.smooth.__getitem__)
    gains = 10 * (smooth / losses.clamp(min=1e-12)).log10()
    return torch.where(gains.isfinite(), gains, FLOOR).clamp(min=FLOOR)
