"""Samples as the certificate sees them: flat, double, weighted, and grouped by independence."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from invdiff.posterior import Posterior

__all__ = ["Draws"]


@dataclass(frozen=True, eq=False)
class Draws:
    """Weighted samples of every item.

    Samples of one group, such as the particles of a filter, may depend on each other; groups are
    independent, equal in size and in weight, and their samples adjacent.

    Arguments:
        x: (items, samples, pixels), float64.
        weights: (items, samples), float64; each item's sum to 1.
        groups: The number of groups of an item: all samples, if each is independent.
    """

    x: Tensor
    weights: Tensor
    groups: int

    def __post_init__(self) -> None:
        samples = self.x.shape[1]
        if samples % self.groups:
            raise ValueError(f"{samples} samples do not split into {self.groups} equal groups.")
        shares = self.weights.unflatten(1, (self.groups, -1)).sum(2) * self.groups
        if bool(((shares - 1).abs() > 1e-6).any()):
            raise ValueError(
                f"The {self.groups} groups are not equally heavy: their weights are "
                f"{shares.min():.3g} to {shares.max():.3g} of the mean. Dependent samples, as "
                "the particles of one filter, are one group."
            )

    @classmethod
    def of(cls, posterior: Posterior, groups: int | None = None) -> Draws:
        """The samples of a run; each independent if ``groups`` is None."""
        x = posterior.x.detach().cpu().double().flatten(2)
        return cls(x, posterior.weights.cpu(), groups or x.shape[1])

    @classmethod
    def equal(cls, x: Tensor) -> Draws:
        """Independent samples (items, samples, pixels) of equal weight."""
        return cls(x, torch.full_like(x[..., 0], 1 / x.shape[1]), x.shape[1])

    @property
    def mean(self) -> Tensor:
        """(items, pixels)."""
        return torch.einsum("is,isn->in", self.weights, self.x)

    @property
    def worth(self) -> Tensor:
        """How many independent draws the mean is as precise as, (items,).

        The variance of the samples over that of their weighted mean, each summed over pixels: the
        number of samples if they are independent and equally heavy.
        """
        spread, noise = (
            part.diagonal(dim1=-2, dim2=-1).sum(1)
            for part in (self.covariance(), self.mean_noise())
        )
        count = torch.full_like(noise, self.x.shape[1])
        return torch.where(noise > 0, spread / noise, count).minimum(count)

    def along(self, vectors: Tensor) -> Draws:
        """The coordinates along the columns of ``vectors`` (items, pixels, directions)."""
        return Draws(self.x @ vectors, self.weights, self.groups)

    def mean_noise(self) -> Tensor:
        """The covariance of the weighted mean under repetition, (items, pixels, pixels).

        From the scatter of the groups' means; from the weights if there is one group only, which
        does not see that particles share ancestors.
        """
        if self.groups == 1:
            share = self.weights.square().sum(1)
            spread = self._scatter(self.x - self.mean[:, None], self.weights)
            return spread * (share / (1 - share))[:, None, None]
        parts = self.weights[..., None] * self.x
        means = parts.unflatten(1, (self.groups, -1)).sum(2) * self.groups
        even = torch.full_like(means[..., 0], 1 / (self.groups * (self.groups - 1)))
        return self._scatter(means - self.mean[:, None], even)

    def covariance(self) -> Tensor:
        """(items, pixels, pixels), unbiased when groups are independent draws of one posterior."""
        return self._scatter(self.x - self.mean[:, None], self.weights) + self.mean_noise()

    @staticmethod
    def _scatter(centred: Tensor, weights: Tensor) -> Tensor:
        return (weights[..., None] * centred).mT @ centred
