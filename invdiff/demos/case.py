"""What every demonstration is: a problem, what solves it, and how to show the answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from invdiff.priors.base import Prior
from invdiff.problem import Problem
from invdiff.samplers.base import Sampler

__all__ = ["Case"]


@dataclass(frozen=True)
class Case:
    """One item to reconstruct.

    Arguments:
        task: The name of the task.
        caption: What was measured, in one line.
        problem: One item.
        prior: In the units of the problem's images.
        sampler: What draws the samples.
        ladder: Its noise levels.
        baselines: Classical reconstructions (1, *domain), best known first, by their names.
        show: From images (n, *domain) to what is displayed and scored, (n, channels, h, w).
        unit: The unit of what is displayed.
        limits: The display window.
        data_range: The range R of the PSNR, in that unit.
        truth: What is displayed of the truth, (channels, h, w), if it is known.
        show_map: The same for maps that go with images; only ratios of what it gives are used.
        notes: Facts for the report.
    """

    task: str
    caption: str
    problem: Problem
    prior: Prior
    sampler: Sampler
    ladder: Tensor
    baselines: dict[str, Tensor]
    show: Callable[[Tensor], Tensor]
    unit: str
    limits: tuple[float, float]
    data_range: float
    truth: Tensor | None = None
    show_map: Callable[[Tensor], Tensor] = lambda values: values
    notes: dict[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.problem) != 1:
            raise ValueError(f"A case holds one item, got {len(self.problem)}.")

    def picture(self, image: Tensor) -> torch.Tensor:
        """What is displayed of an image (*domain): (channels, h, w), float64."""
        return self.show(image[None])[0].double().cpu()
