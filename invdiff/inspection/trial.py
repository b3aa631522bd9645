"""How well every interpretation of a prior denoises known images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from invdiff.inspection.images import KnownImage
from invdiff.inspection.questions import Question, Range
from invdiff.inspection.readings import Reading, products
from invdiff.rng import Rng

__all__ = ["SHARES", "Bench", "Denoiser", "Trial"]

Denoiser = Callable[[Tensor, Tensor], Tensor]

SHARES = (0.05, 0.2, 0.75)  # noise levels, as shares of the declared range
FLOOR = -20.0  # dB: beyond this it does not matter how bad an answer is
TV_WEIGHTS = (0.5, 0.8, 1.2, 1.8)  # times the noise level


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


class Bench:
    """Known images with noise at several levels, and what total variation makes of them.

    Arguments:
        images: The images, on [0, 1].
        shares: The noise levels on [0, 1].
        seed: Another seed gives other noise.
        rows: The most images that a prior is given at once.
    """

    def __init__(
        self, images: Sequence[KnownImage], shares: Sequence[float], seed: int, rows: int
    ) -> None:
        self.images, self.shares, self.rows = tuple(images), tuple(shares), rows
        self.truth = torch.stack([image.values for image in images])
        rng = Rng(seed, [image.name for image in images], 1)
        self.noise = [rng.at(step).normal(self.truth) for step in range(len(self.shares))]
        self.smooth = [self._total_variation(level) for level in range(len(self.shares))]

    def noisy(self, level: int) -> Tensor:
        """The noisy images on [0, 1]."""
        return self.truth + self.shares[level] * self.noise[level]

    def gains(self, errors: Tensor) -> Tensor:
        """PSNR above that of total variation in dB, from errors (images, levels) on [0, 1]."""
        smooth = torch.stack([_error(image, self.truth) for image in self.smooth], 1)
        gain = 10 * (smooth / errors.clamp(min=1e-12)).log10()
        return torch.where(gain.isfinite(), gain, FLOOR).clamp(min=FLOOR)

    @torch.no_grad()
    def answers(self, denoiser: Denoiser, question: Question, level: int) -> tuple[Tensor, ...]:
        """Truth, noisy images and answers of one level, in the range of the question."""
        sigma = self.sigma(question.range, level)
        parts = zip(self.truth.split(self.rows), self.noise[level].split(self.rows), strict=True)
        asked = [question.ask(denoiser, *part, sigma) for part in parts]
        return tuple(torch.cat(pieces) for pieces in zip(*asked, strict=True))

    def sigma(self, values: Range, level: int) -> float:
        """The noise level in some range."""
        return self.shares[level] * abs(values[1] - values[0])

    def try_readings(
        self, denoiser: Denoiser, question: Question, readings: Iterable[Reading]
    ) -> list[Trial]:
        """Asks one question, and reads the answer in every way."""
        levels = range(len(self.shares))
        inner = [products(*self.answers(denoiser, question, level)) for level in levels]
        unit = (question.range[1] - question.range[0]) ** 2
        trials = []
        for reading in readings:
            errors = [
                reading.errors(question, self.sigma(question.range, level), inner[level])
                for level in levels
            ]
            gains = self.gains(torch.stack(errors, 1) / unit)
            trials.append(Trial(question, reading, gains, self._score(gains)))
        return trials

    def denoised(self, denoiser: Denoiser, trial: Trial, level: int) -> Tensor:
        """The images that an interpretation gives, on [0, 1]."""
        low, high = trial.question.range
        _, noisy, answer = self.answers(denoiser, trial.question, level)
        sigma = self.sigma(trial.question.range, level)
        return (trial.reading.image(trial.question, sigma, noisy, answer) - low) / (high - low)

    def distinct(self, question: Question, readings: Iterable[Reading]) -> list[Reading]:
        """The readings without those that do to the answer what an earlier one does."""
        levels = [self.sigma(question.range, level) for level in range(len(self.shares))]
        seen: dict[tuple[str, ...], Reading] = {}
        for reading in readings:
            factors = [reading.factors(question, sigma) for sigma in levels]
            key = tuple(f"{number:.9g}" for pair in factors for number in pair)
            seen.setdefault(key, reading)
        return list(seen.values())

    def psnr(self, make: Callable[[int], Tensor]) -> Tensor:
        """The PSNR in dB of images ``make(level)`` on [0, 1]: (images, levels)."""
        errors = [_error(make(level), self.truth) for level in range(len(self.shares))]
        return -10 * torch.stack(errors, 1).clamp(min=1e-12).log10()

    def _score(self, gains: Tensor) -> float:
        kinds = {image.kind for image in self.images}
        members = [[image.kind == kind for image in self.images] for kind in sorted(kinds)]
        best = max(float(gains[torch.tensor(rows)].mean()) for rows in members)
        return (best + float(gains.mean())) / 2

    def _total_variation(self, level: int) -> Tensor:
        """Chambolle's, with the weight that is best for the truth of each image."""
        from skimage.restoration import denoise_tv_chambolle

        sigma, results = self.shares[level], []
        for noisy, truth in zip(self.noisy(level).numpy(), self.truth.numpy(), strict=True):
            tried = [
                denoise_tv_chambolle(noisy, weight=weight * sigma, channel_axis=0)
                for weight in TV_WEIGHTS
            ]
            errors = [float(np.mean((image - truth) ** 2)) for image in tried]
            results.append(tried[int(np.argmin(errors))])
        return torch.from_numpy(np.stack(results)).to(self.truth)


def _error(image: Tensor, truth: Tensor) -> Tensor:
    return (image - truth).double().square().flatten(1).mean(1)
