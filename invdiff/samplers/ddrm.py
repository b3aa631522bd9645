"""Denoising diffusion restoration models.

Reference: Kawar et al., Denoising diffusion restoration models, 2022.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import ClassVar

import torch
from torch import Tensor

from invdiff.diffusion import number
from invdiff.priors.base import Prior
from invdiff.problem import Problem
from invdiff.rng import Rng
from invdiff.samplers.base import Image, Info, Kind, prior_noise
from invdiff.singular import SingularSystem, singular_system

__all__ = ["DDRM"]


@dataclass(frozen=True)
class DDRM:
    r"""Diffuses every singular direction on its own, with the data known to :math:`\tau = 1/s`.

    .. math:: x' = \begin{cases}
        D + \eta_b (\hat y - D) + \sqrt{\sigma'^2 - \eta_b^2 \tau^2}\, \xi & \sigma' \ge \tau \\
        D + \sqrt{1 - \eta^2}\, \sigma' (\hat y - D) / \tau + \eta \sigma' \xi & \sigma' < \tau \\
        D + \sqrt{1 - \eta^2}\, \sigma' (x - D) / \sigma + \eta \sigma' \xi & \text{unseen}
        \end{cases}

    with :math:`\hat y` the data's value along the direction, as in the paper's own convention of
    noise. The noise of :math:`\hat y` and the fresh one add up to exactly :math:`\sigma'`. The
    walk starts from the data. No derivative of the network is taken. The operator must be linear
    and have a singular system (``invdiff.singular``).

    Biased: a level pulls towards the data however short its step is, so that along badly known
    directions the result tends from the posterior to :math:`\hat y` as levels are added. Made for
    about 20 levels.

    Arguments:
        eta: :math:`\eta`, the share of fresh noise.
        data_share: :math:`\eta_b`, how far known directions go to the data.

    Raises:
        ValueError: A share is not in [0, 1]; in a run: the singular system is too large.
    """

    eta: float = 0.85
    data_share: float = 1.0

    kind: ClassVar[Kind] = "approximate"
    needs_linear: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name, value in (("eta", self.eta), ("data_share", self.data_share)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} is {value}, expected a number from 0 to 1.")

    def init(self, problem: Problem, prior: Prior, sigma: Tensor, rng: Rng) -> Image:
        system, level = singular_system(problem), number(sigma)
        x, known = prior_noise(problem, sigma, rng), system.inverse()
        near = (level * system.values >= 1).to(x)  # known better than the noise of this level
        shrink = (1 - (known / level).square()).clamp(min=0).sqrt() - 1
        change = near * (known * system.data + shrink * system.project(x))
        return Image(x + system.lift(change))

    def step(
        self,
        state: Image,
        sigma: Tensor,
        sigma_next: Tensor,
        problem: Problem,
        prior: Prior,
        rng: Rng,
    ) -> tuple[Image, Info]:
        system, x0, then = singular_system(problem), prior(state.x, sigma), number(sigma_next)
        kept = sqrt(1 - self.eta**2) * (state.x - x0) / number(sigma)
        noise = rng.normal(x0)
        pull, spread = self._weights(system, then)
        seen = (system.values > 0).to(x0)
        change = pull * system.residual(x0) - seen * then * system.project(kept)
        change = change + (spread - seen * self.eta * then) * system.project(noise)
        x = x0 + then * (kept + self.eta * noise) + system.lift(change)
        return Image(x), {"chi2": problem.chi2(x0)}

    def _weights(self, system: SingularSystem, sigma_next: float) -> tuple[Tensor, Tensor]:
        """What multiplies the residual, in units of the noise, and the fresh noise; 0 unseen."""
        known = system.inverse()
        near = sigma_next * system.values >= 1
        far_pull = sqrt(1 - self.eta**2) * sigma_next * (known > 0)
        pull = torch.where(near, self.data_share * known, far_pull)
        left = (sigma_next**2 - (self.data_share * known).square()).clamp(min=0).sqrt()
        return pull, torch.where(near, left, self.eta * sigma_next * (known > 0))
