"""The posterior with widened data, split by a noisy image: what a sweep leaves as it is."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from invdiff.diffusion import number
from invdiff.problem import Problem
from invdiff.singular import SingularSystem, singular_system

__all__ = ["SplitTarget"]


@dataclass(frozen=True, eq=False)
class SplitTarget:
    r"""The likelihood of clean images x at a level, and of noisy ones, z.

    :math:`N(y; A x, W^{-1} + u A A^*)` with :math:`u = \max(0, 2 \sigma^2 - \|W^{1/2} A\|^{-2})`,
    and :math:`N(y; A z, W^{-1} + (u - \sigma^2) A A^*)`, whose log is nowhere curved more than
    :math:`1 / \sigma^2`: of the data's noise, z leaves a half at least.

    Arguments:
        system: The singular coordinates of the whitened data, in which all of it is diagonal.
        sigma: The level.
        widening: u, (1 or b, 1).
    """

    system: SingularSystem
    sigma: float
    widening: Tensor

    @classmethod
    def of(cls, problem: Problem, sigma: Tensor) -> SplitTarget:
        system, level = singular_system(problem), number(sigma)
        largest = system.values.amax(1, keepdim=True)
        # The comparison is exact where the level was made to have u = 0, up to rounding.
        wide = 2 * (level * largest) ** 2 > 1 + 1e-6
        return cls(system, level, torch.where(wide, 2 * level**2 - largest**-2, 0.0))

    def log_likelihood(self, x: Tensor, constant: Tensor) -> Tensor:
        """log N(y; A x, W^-1 + u A A*), (b,), float64; the constant makes it that of y."""
        spread = (1 + self.widening * self.system.values**2).double()
        squares = self.system.residual(x).double().square() / spread + spread.log()
        return constant - 0.5 * squares.sum(1)

    def slope(self, z: Tensor) -> Tensor:
        """The gradient of the log-likelihood of z, (b, *shape)."""
        return self.system.lift(self.system.values / self._rest() * self.system.residual(z))

    def _rest(self) -> Tensor:
        """What z leaves of the data's noise in every coordinate: a half at least."""
        return 1 + (self.widening - self.sigma**2) * self.system.values**2

    def draw(self, x: Tensor, noise: Tensor) -> Tensor:
        """z given x and y, (b, *shape): Bayes' rule on every coordinate, N(x, sigma^2) beyond."""
        values, std, rest = self.system.values, self.sigma, self._rest()
        total = rest + (std * values) ** 2
        shift = std**2 * values / total * self.system.residual(x)
        shrink = std * ((rest / total).sqrt() - 1) * self.system.project(noise)
        return x.add(noise, alpha=std) + self.system.lift(shift + shrink)
