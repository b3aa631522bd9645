"""An image on its way down the ladder: what integrators are given, and what they remember."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from invdiff.priors.base import Prior
from invdiff.rng import Rng

__all__ = ["Estimate", "Field", "Integrator", "Known", "Walk"]


class Estimate(NamedTuple):
    r"""What is believed at one level: a clean image (b, *shape), and what to tell about it.

    ``noise`` is what ``Renoise`` keeps of the old noise; :math:`(x - x_0)/\sigma` if None.
    """

    x0: Tensor
    info: dict[str, Tensor]
    noise: Tensor | None = None


class Known(NamedTuple):
    r"""Something (b, *shape) that an integrator remembers of the level :math:`-\ln\sigma`."""

    level: float
    image: Tensor


class Walk(NamedTuple):
    r"""An image on its way down, with what multistep integrators and samplers remember.

    ``past`` (b, kept, *shape) holds what was known at earlier levels, the newest first;
    ``levels`` (b, kept), float64 and on the host, their :math:`-\ln\sigma`, infinite where there
    is none yet. ``constants`` (b, any) are numbers that a sampler computes once. All lead with
    the rows, so that resampling and checkpoints treat them as they treat x.
    """

    x: Tensor
    past: Tensor
    levels: Tensor
    constants: Tensor

    @classmethod
    def begin(cls, x: Tensor, kept: int, constants: Tensor | None = None) -> Walk:
        """At x (b, *shape), with room for ``kept`` images and nothing known yet."""
        past = x.new_zeros(len(x), kept, *x.shape[1:])
        levels = torch.full((len(x), kept), torch.inf, dtype=torch.float64)
        return cls(x, past, levels, x.new_empty(len(x), 0) if constants is None else constants)

    def known(self) -> list[Known]:
        """What is remembered, the newest first."""
        levels = self.levels[0].tolist() if self.past.shape[1] else []
        count = sum(level < torch.inf for level in levels)
        return [Known(levels[i], self.past[:, i]) for i in range(count)]

    def moved(self, x: Tensor, known: Sequence[Known] = ()) -> Walk:
        """At another x, remembering as much of ``known`` as there is room for."""
        kept = self.past.shape[1]
        if not kept:
            return self._replace(x=x)
        if len(known) < kept:
            known = [*known, *[Known(torch.inf, torch.zeros_like(x))] * (kept - len(known))]
        levels, images = zip(*known[:kept], strict=True)
        row = torch.tensor(levels, dtype=torch.float64)
        return Walk(x, torch.stack(images, 1), row.expand(len(x), kept), self.constants)


Field = Callable[[Tensor, Tensor], Estimate]
"""(x, sigma) -> the clean estimate there."""


class Integrator(Protocol):
    """A rule that takes a walk one level down."""

    @property
    def kept(self) -> int:
        """How many images it remembers."""
        ...

    def reach(self, sigma: float, sigma_next: float) -> float:
        """The share of the way from x to a fixed clean estimate that a step goes."""
        ...

    def step(
        self, field: Field, walk: Walk, sigma: Tensor, sigma_next: Tensor, prior: Prior, rng: Rng
    ) -> tuple[Walk, dict[str, Tensor]]:
        """The walk at ``sigma_next``, and the info of its first estimate.

        Both levels are float64, (), on the host; a step to 0 ends at the estimate itself.
        """
        ...
