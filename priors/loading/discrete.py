"""Diffusion in discrete steps (DDPM), made continuous in the noise level."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

__all__ = ["DiscreteSchedule"]


@dataclass(frozen=True, repr=False)
class DiscreteSchedule:
    r"""Steps t = 0, ..., T - 1 of a variance-preserving process.

    .. math:: x_t = \sqrt{\bar\alpha_t} x_0 + \sqrt{1 - \bar\alpha_t} n

    Step t has the noise level :math:`\sigma_t = \sqrt{(1 - \bar\alpha_t) / \bar\alpha_t}`. Levels
    in between have the fractional step that is linear in :math:`\ln \sigma` between the two
    neighbours: it is exact at the steps, continuous and increasing. The sinusoidal embeddings of
    these networks take fractions. Only the time is interpolated; the scales of input and output
    are those of the true level.

    Arguments:
        levels: :math:`\sigma_t`, increasing.
        time_scale: The network is told this times t (guided-diffusion's ``rescale_timesteps`` has
            1000 / T).
        rounded: Whether t is rounded to a whole step: what most published code does, and what
            networks with a table of embeddings need.

    References:
        | Denoising Diffusion Probabilistic Models (Ho et al., 2020), arXiv:2006.11239
        | Improved DDPM (Nichol and Dhariwal, 2021), arXiv:2102.09672: cosine, respacing
    """

    levels: tuple[float, ...]
    time_scale: float = 1.0
    rounded: bool = False

    def __post_init__(self) -> None:
        pairs = zip(self.levels, self.levels[1:], strict=False)
        if len(self.levels) < 2 or self.levels[0] <= 0 or not all(a < b for a, b in pairs):
            raise ValueError(
                f"{len(self.levels)} noise levels: expected 2 or more, positive and increasing. "
                "The betas of the schedule must lie strictly between 0 and 1."
            )

    @classmethod
    def from_betas(
        cls, betas: Sequence[float], time_scale: float = 1.0, rounded: bool = False
    ) -> DiscreteSchedule:
        r"""From :math:`\beta_t = 1 - \bar\alpha_t / \bar\alpha_{t-1}`.

        A last step of pure noise (:math:`\beta = 1`, "zero terminal SNR") has an infinite level
        and is left out.
        """
        steps = list(betas)
        if steps and steps[-1] >= 1 - 1e-12:
            steps = steps[:-1]
        if not all(0 < beta < 1 for beta in steps):
            raise ValueError("betas must lie between 0 and 1; only the last may be 1.")
        log_bar, levels = 0.0, []
        for beta in steps:
            log_bar += math.log1p(-beta)
            levels.append(math.sqrt(math.expm1(-log_bar)))
        return cls(tuple(levels), time_scale, rounded)

    @classmethod
    def linear(
        cls, steps: int = 1000, first: float = 1e-4, last: float = 0.02, rounded: bool = False
    ) -> DiscreteSchedule:
        """Betas on a line."""
        betas = torch.linspace(first, last, steps, dtype=torch.float64)
        return cls.from_betas(betas.tolist(), rounded=rounded)

    @classmethod
    def scaled_linear(
        cls, steps: int = 1000, first: float = 0.00085, last: float = 0.012, rounded: bool = False
    ) -> DiscreteSchedule:
        """Betas whose square roots are on a line (latent diffusion)."""
        roots = torch.linspace(first**0.5, last**0.5, steps, dtype=torch.float64)
        return cls.from_betas(roots.square().tolist(), rounded=rounded)

    @classmethod
    def cosine(
        cls, steps: int = 1000, cap: float = 0.999, rounded: bool = False
    ) -> DiscreteSchedule:
        r"""Betas, capped, of :math:`\bar\alpha = \cos^2(\pi (t / T + 0.008) / 2.016)`."""

        def bar(t: float) -> float:
            return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2

        betas = [min(1 - bar((t + 1) / steps) / bar(t / steps), cap) for t in range(steps)]
        return cls.from_betas(betas, rounded=rounded)

    @property
    def sigma_min(self) -> float:
        """The level of step 0."""
        return self.levels[0]

    @property
    def sigma_max(self) -> float:
        """The level of the last step."""
        return self.levels[-1]

    @cached_property
    def _log_levels(self) -> Tensor:
        return torch.tensor(self.levels, dtype=torch.float64).log()

    def alpha(self, sigma: Tensor) -> Tensor:
        r""":math:`\sqrt{\bar\alpha} = 1 / \sqrt{1 + \sigma^2}`."""
        return torch.rsqrt(1 + sigma.square())

    def time(self, sigma: Tensor) -> Tensor:
        """The step of sigma, times ``time_scale``."""
        table = self._log_levels.to(sigma.device)
        at = sigma.log().clamp(table[0], table[-1])
        right = torch.searchsorted(table, at).clamp(1, len(table) - 1)
        low, high = table[right - 1], table[right]
        step = right - 1 + (at - low) / (high - low)
        return self.time_scale * (step.round() if self.rounded else step)

    def respaced(self, steps: int) -> Tensor:
        """A ladder through some of the steps: their levels, decreasing, and 0 (float64).

        The steps are those of guided-diffusion's ``timestep_respacing`` with one number: spread
        evenly from the first to the last. The network is told their original numbers.

        Raises ValueError unless there are at least 2 and at most all.
        """
        total = len(self.levels)
        if not 2 <= steps <= total:
            raise ValueError(f"steps={steps}: expected 2 to {total}.")
        stride, at, kept = (total - 1) / (steps - 1), 0.0, []
        for _ in range(steps):
            kept.append(self.levels[round(at)])
            at += stride
        return torch.tensor([*kept[::-1], 0.0], dtype=torch.float64)

    def __repr__(self) -> str:
        ends = f"{self.sigma_min:.4g} to {self.sigma_max:.4g}"
        return (
            f"DiscreteSchedule({len(self.levels)} levels from {ends}, "
            f"time_scale={self.time_scale:g}, rounded={self.rounded})"
        )
