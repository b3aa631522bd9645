"""A case: a problem, its prior, and the truth about its posterior."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from invdiff.priors.base import Prior
from invdiff.problem import Problem

__all__ = ["Case", "Modes", "Truth"]


@dataclass(frozen=True, eq=False)
class Modes:
    r"""The separate regions of a posterior, such as the components of a mixture.

    Arguments:
        weights: The exact probability of each, (items, modes), float64.
        responsibilities: Gives the probability that a sample belongs to each mode,
            (items, samples, *shape) -> (items, samples, modes).
    """

    weights: Tensor
    responsibilities: Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Truth:
    """What is known exactly about p(x | y), float64.

    Arguments:
        mean: E[x | y], (items, *shape).
        covariance: Cov[x | y], (items, pixels, pixels).
        draws: Reference samples, (items, draws, *shape): independent and exact, or from a verified
            Markov chain, thinned until they are as good.
        log_evidence: log p(y), (items,), where it is known.
        modes: The regions whose weights are scored, where there are some.
    """

    mean: Tensor
    covariance: Tensor
    draws: Tensor
    log_evidence: Tensor | None = None
    modes: Modes | None = None

    @property
    def std(self) -> Tensor:
        """The standard deviation of every pixel, (items, *shape)."""
        variance = self.covariance.diagonal(dim1=-2, dim2=-1)
        return variance.clamp(min=0).sqrt().reshape(self.mean.shape)

    @cached_property
    def axes(self) -> tuple[Tensor, Tensor]:
        """The covariance's eigenvalues, ascending (items, pixels), and eigenvectors in columns."""
        shared = self.covariance.stride(0) == 0  # one matrix, seen by all items
        values, vectors = torch.linalg.eigh(self.covariance[:1] if shared else self.covariance)
        count = len(self.covariance)
        return values.expand(count, -1), vectors.expand(count, -1, -1)

    @property
    def supported(self) -> Tensor:
        """Which axes the posterior varies along, (items, pixels): finite priors leave some out."""
        values = self.axes[0]
        return values > 1e-9 * values[:, -1:]

    @property
    def whitening(self) -> Tensor:
        """The axes over their standard deviations, (items, pixels, pixels); 0 if unsupported."""
        values, vectors = self.axes
        return vectors * torch.where(self.supported, values, torch.inf).rsqrt()[:, None]

    @property
    def reference(self) -> Tensor:
        """The half of the draws that samples are compared with, (items, draws / 2, pixels)."""
        return self.draws[:, : self.draws.shape[1] // 2].flatten(2)

    @property
    def spare(self) -> Tensor:
        """The other half, (items, draws / 2, pixels): what a perfect sampler would return."""
        return self.draws[:, self.draws.shape[1] // 2 :].flatten(2)


@dataclass(frozen=True, eq=False)
class Case:
    """A problem of the certificate.

    Arguments:
        name: How the tables and ``invdiff certify`` call it, such as "gaussian-ct".
        title: One line for the reader.
        problem: n measurements.
        prior: With an exact denoiser.
        images: The images that made the measurements, (n, *shape): draws of the prior, so that
            their ranks among posterior samples are uniform.
        truth: The exact posterior.
        ladder: Gives the noise levels for a number of steps.
    """

    name: str
    title: str
    problem: Problem
    prior: Prior
    images: Tensor
    truth: Truth
    ladder: Callable[[int], Tensor]
