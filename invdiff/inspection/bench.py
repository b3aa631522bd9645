"""Known images, noise of several levels, and what total variation makes of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from invdiff.inspection.images import KnownImage
from invdiff.inspection.questions import Question, Range
from invdiff.rng import Rng

__all__ = ["Bench", "Denoiser"]

Denoiser = Callable[[Tensor, Tensor], Tensor]

TV_WEIGHTS = (0.5, 0.8, 1.2, 1.8)  # times the noise level


@dataclass(frozen=True, eq=False)
class Bench:
    """What interpretations are tried on; everything on [0, 1].

    Arguments:
        images: The images.
        shares: The noise levels.
        truth: The images once more, (n, channels, h, w).
        noise: Standard normal, (levels, n, channels, h, w).
        smooth: The images of total variation, of the same shape.
        rows: The most images that a prior is given at once.
    """

    images: tuple[KnownImage, ...]
    shares: tuple[float, ...]
    truth: Tensor
    noise: Tensor
    smooth: Tensor
    rows: int

    @classmethod
    def of(
        cls, images: Sequence[KnownImage], shares: Sequence[float], seed: int, rows: int
    ) -> Bench:
        """Draws the noise, and tunes the weight of total variation on each truth."""
        truth = torch.stack([image.values for image in images])
        rng = Rng(seed, [image.name for image in images], 1)
        noise = torch.stack([rng.at(step).normal(truth) for step in range(len(shares))])
        smooth = [
            _total_variation(truth, truth + share * part, share)
            for share, part in zip(shares, noise, strict=True)
        ]
        return cls(tuple(images), tuple(shares), truth, noise, torch.stack(smooth), rows)

    def one_of_each_kind(self) -> Bench:
        """The first image of each kind alone."""
        first = {image.kind: row for row, image in reversed([*enumerate(self.images)])}
        rows = sorted(first.values())
        return replace(
            self,
            images=tuple(self.images[row] for row in rows),
            truth=self.truth[rows],
            noise=self.noise[:, rows],
            smooth=self.smooth[:, rows],
        )

    @property
    def levels(self) -> range:
        """The numbers of the noise levels."""
        return range(len(self.shares))

    @property
    def kinds(self) -> dict[str, list[int]]:
        """The kinds of images, and which images are of each."""
        kinds: dict[str, list[int]] = {}
        for row, image in enumerate(self.images):
            kinds.setdefault(image.kind, []).append(row)
        return kinds

    def noisy(self, level: int) -> Tensor:
        """The noisy images."""
        return self.truth + self.shares[level] * self.noise[level]

    def sigma(self, values: Range, level: int) -> float:
        """A noise level in another range."""
        return self.shares[level] * abs(values[1] - values[0])

    @torch.no_grad()
    def answers(
        self, denoiser: Denoiser, question: Question, level: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Truth, noisy images and answers at one level, in the range of the question."""
        sigma = self.sigma(question.range, level)
        parts = zip(self.truth.split(self.rows), self.noise[level].split(self.rows), strict=True)
        asked = [question.ask(denoiser, *part, sigma) for part in parts]
        truth, noisy, answer = (torch.cat(pieces) for pieces in zip(*asked, strict=True))
        return truth, noisy, answer

    def errors(self, make: Callable[[int], Tensor]) -> Tensor:
        """The mean squared error of images ``make(level)``: (images, levels)."""
        made = [(make(level) - self.truth).double().square() for level in self.levels]
        return torch.stack([square.flatten(1).mean(1) for square in made], 1)


def _total_variation(truth: Tensor, noisy: Tensor, sigma: float) -> Tensor:
    """Chambolle's, with the weight that is best for the truth of each image."""
    from skimage.restoration import denoise_tv_chambolle

    results = []
    for clean, image in zip(truth.numpy(), noisy.numpy(), strict=True):
        tried = [
            denoise_tv_chambolle(image, weight=weight * sigma, channel_axis=0)
            for weight in TV_WEIGHTS
        ]
        losses = [float(np.mean((result - clean) ** 2)) for result in tried]
        results.append(tried[int(np.argmin(losses))])
    return torch.from_numpy(np.stack(results)).to(truth)
