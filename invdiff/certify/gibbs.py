"""A Gibbs sampler for random walks with independent increments: their gold standard.

Reference for the augmentation: Bohra et al., A statistical framework to investigate the optimality
of signal-reconstruction methods, 2023.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from invdiff.certify.collapsed import data_factor, rearrange
from invdiff.certify.latents import Mixture, mixture_of
from invdiff.linalg import as_matrix
from invdiff.priors.levy import LevyPrior
from invdiff.problem import Problem

__all__ = ["Gibbs", "GibbsRun", "GibbsState", "split_r_hat"]


class GibbsState(NamedTuple):
    """Chains: the chains of an item adjacent; float64."""

    increments: Tensor  # u, (b, times)
    variances: Tensor  # v, (b, times): u ~ N(0, v) where active
    active: Tensor  # False where the increment is exactly 0, (b, times)

    @property
    def signal(self) -> Tensor:
        """x, (b, times)."""
        return self.increments.cumsum(1)


class GibbsRun(NamedTuple):
    """Draws of every item, and its posterior moments; float64."""

    signals: Tensor  # (items, chains, draws, times)
    mean: Tensor  # (items, times)
    covariance: Tensor  # (items, times, times)


@dataclass(frozen=True, eq=False)
class Gibbs:
    r"""Draws from p(x | y), for y = A x + Gaussian noise and increments of x that are independent.

    An increment is a Gaussian of random variance v, or 0 where inactive. A sweep draws v given the
    increments; then, with all increments integrated out, switches activity on and off one by one
    and exchanges (v, active) of neighbours, so that a jump that data leave free to move does move;
    then all increments at once given (v, active). Every move is exact: nothing is tuned.

    Arguments:
        prior: The law of the increments and the length of the signal.
        problem: n measurements, with a linear operator of real matrices and Gaussian noise.
        chains: The independent chains of every item.
    """

    prior: LevyPrior
    problem: Problem
    chains: int = 1

    @cached_property
    def _mixture(self) -> Mixture:
        return mixture_of(self.prior.law)

    @cached_property
    def _data(self) -> tuple[Tensor, Tensor]:
        """The map from increments to data in units of the noise, and the data; for every chain."""
        matrix = as_matrix(self.problem.operator)
        steps = matrix.flip(2).cumsum(2).flip(2)  # an increment moves all later samples
        root = self.problem.precision.double().sqrt()
        whitened, y = root[..., None] * steps, root * self.problem.center.double()
        return (
            whitened.repeat_interleave(self.chains, 0),
            y.repeat_interleave(self.chains, 0),
        )

    def start(self, generator: torch.Generator) -> GibbsState:
        """Chains with variances and activity from the prior: wider than the posterior."""
        rows = self._data[1].new_empty(len(self._data[1]), self.prior.times)
        active = _uniform(rows, generator) >= self.prior.law.atom
        variances = self._mixture.prior(rows, generator)
        return GibbsState(self._draw(variances * active, generator), variances, active)

    def sweep(self, state: GibbsState, generator: torch.Generator) -> GibbsState:
        """One sweep of all chains."""
        fresh = self._mixture.prior(state.increments, generator)
        given = self._mixture.given(state.increments, generator)
        variances = torch.where(state.active, given, fresh)
        variances, active = self._rearrange(variances, state.active, generator)
        return GibbsState(self._draw(variances * active, generator), variances, active)

    def run(self, burn_in: int, draws: int, thin: int, generator: torch.Generator) -> GibbsRun:
        """Signals after ``burn_in`` sweeps, one every ``thin``, and the posterior's moments.

        The moments are averages of those given v and the activity, which are Gaussian, rather than
        of the signals: far less noisy (Rao-Blackwell), and exact where v is certain.
        """
        state, kept, means = self.start(generator), [], []
        covariance = torch.zeros(())
        for sweep in range(burn_in + draws * thin):
            state = self.sweep(state, generator)
            if sweep >= burn_in and (sweep - burn_in) % thin == thin - 1:
                kept.append(state.signal)
                mean, within = self.moments(state)
                means.append(mean)
                covariance = covariance + within / draws
        signals: Tensor = torch.stack(kept, 1).unflatten(0, (-1, self.chains))
        conditional = torch.stack(means, 1).unflatten(0, (-1, self.chains)).flatten(1, 2)
        centred = conditional - conditional.mean(1, keepdim=True)
        between = centred.mT @ centred / (centred.shape[1] - 1)
        inner = covariance.unflatten(0, (-1, self.chains)).mean(1)
        return GibbsRun(signals, conditional.mean(1), inner + between)

    def moments(self, state: GibbsState) -> tuple[Tensor, Tensor]:
        """Mean and covariance of x given y, v and the activity: (b, times), (b, times, times)."""
        steps, y = self._data
        variances = state.variances * state.active
        factor = data_factor(steps, variances)
        spread = steps * variances[:, None]  # H diag(v)
        root = torch.linalg.solve_triangular(factor, spread, upper=False)
        white = torch.linalg.solve_triangular(factor, y[..., None], upper=False)
        mean = (root.mT @ white)[..., 0]
        covariance = torch.diag_embed(variances) - root.mT @ root
        return mean.cumsum(1), covariance.cumsum(1).cumsum(2)

    def _draw(self, variances: Tensor, generator: torch.Generator) -> Tensor:
        """All increments given their variances (0 for none), by conditioning a prior draw on y.

        (Bhattacharya, Chakraborty and Mallick, Fast sampling with Gaussian scale mixture priors,
        2016.)
        """
        steps, y = self._data
        prior = variances.sqrt() * _normal(variances, generator)
        predicted = _times(steps, prior) + _normal(y, generator)
        factor = data_factor(steps, variances)
        weights = torch.cholesky_solve((y - predicted)[..., None], factor)[..., 0]
        return prior + variances * _times(steps.mT, weights)

    def _rearrange(
        self, variances: Tensor, active: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Activity and order of the variances given y alone, forwards or backwards in time."""
        atom, (steps, y) = self.prior.law.atom, self._data
        exchange, backwards = (torch.rand(2, generator=generator) < 0.5).tolist()
        if atom == 0 and not exchange:
            return variances, active
        if not backwards:
            return rearrange(steps, y, variances, active, atom, exchange, generator)
        mirrored = steps.flip(2), y, variances.flip(1), active.flip(1)
        variances, active = rearrange(*mirrored, atom, exchange, generator)
        return variances.flip(1), active.flip(1)


def split_r_hat(draws: Tensor) -> Tensor:
    r"""The potential scale reduction of halved chains, (items, chains, draws, n) -> (items, n).

    The standard deviation of all draws over that within half chains: 1 when they have mixed.
    (Gelman et al., Bayesian data analysis, 3rd edition, 2013.)
    """
    length = draws.shape[2] // 2
    halves = torch.cat([draws[:, :, :length], draws[:, :, length : 2 * length]], 1)
    within = halves.var(2).mean(1)
    between = halves.mean(2).var(1)
    return ((length - 1) / length + between / within).sqrt()


def _times(matrix: Tensor, vector: Tensor) -> Tensor:
    return (matrix @ vector[..., None])[..., 0]


def _normal(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator, dtype=like.dtype)


def _uniform(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.rand(like.shape, generator=generator, dtype=like.dtype)
