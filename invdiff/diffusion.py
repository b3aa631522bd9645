"""The steps that samplers share: denoise with a derivative, and walk down one level."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from invdiff.priors.base import Prior

__all__ = ["Transition", "ancestral", "denoise_vjp", "extrapolate", "number", "renoise", "share"]


def number(level: Tensor) -> float:
    """A level, () on the host, as a Python number; unlike ``float``, no operation of torch."""
    value: Any = level.tolist()
    return float(value)


def denoise_vjp(
    prior: Prior, x: Tensor, sigma: Tensor
) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    r"""D(x), and the map :math:`u \mapsto J^T u` with :math:`J = \partial D / \partial x`."""
    with torch.enable_grad():
        leaf = x.detach().requires_grad_(True)
        clean = prior(leaf, sigma)

    def vjp(u: Tensor) -> Tensor:
        (gradient,) = torch.autograd.grad(clean, leaf, u, retain_graph=True)
        return gradient

    return clean.detach(), vjp


def share(sigma: Tensor, sigma_next: Tensor) -> Tensor:
    r""":math:`\phi = 1 - (\sigma'/\sigma)^2`, how far an ancestral step goes towards x0."""
    return 1 - (sigma_next / sigma) ** 2


class Transition(NamedTuple):
    """A Gaussian step: its mean (b, *shape) and its standard deviation, ()."""

    mean: Tensor
    std: Tensor

    def draw(self, noise: Tensor) -> Tensor:
        return self.mean + self.std * noise

    def log_ratio(self, other: Transition, x: Tensor) -> Tensor:
        """log of this density over the other's at x, per row (b,), float64; stds are equal."""
        mine = (x - self.mean).double().square().flatten(1).sum(1)
        theirs = (x - other.mean).double().square().flatten(1).sum(1)
        return (theirs - mine) / (2 * self.std.double() ** 2)


def ancestral(
    x: Tensor,
    x0: Tensor,
    sigma: Tensor,
    sigma_next: Tensor,
    error_variance: Tensor | float = 0.0,
) -> Transition:
    r"""The reverse step :math:`N(x_0 + (\sigma'/\sigma)^2 (x - x_0), s^2)`.

    .. math:: s^2 = \sigma'^2 \phi + \phi^2 v(\sigma), \qquad \phi = 1 - (\sigma'/\sigma)^2

    The second term is the spread of x0 given x, which a plain step of finite length must inject or
    the samples come out too narrow; steps towards ``extrapolate`` do without it.
    At :math:`\sigma' = 0` the step is the mean itself.

    Arguments:
        x: The state (b, *shape).  x0: The clean estimate (b, *shape).
        sigma: The level of x.  sigma_next: The level to go to.
        error_variance: :math:`v(\sigma)`, from the prior, or 0.

    (Ho et al., 2020; the variance: Bao et al., Analytic-DPM, 2022.)
    """
    towards = share(sigma, sigma_next)
    variance = sigma_next**2 * towards + towards**2 * error_variance
    std = torch.where(sigma_next > 0, variance, 0.0).sqrt()
    return Transition(x0 + (1 - towards) * (x - x0), std)


def extrapolate(x0: Tensor, slope: Tensor, sigma: Tensor, sigma_next: Tensor) -> Tensor:
    r""":math:`D + \tfrac12 h\, \mathrm{d}D/\mathrm{d}\lambda`, the clean estimate in mid-step.

    With :math:`\lambda = -\ln\sigma` and the slope taken from the step before, an ancestral step
    towards it, without the extra spread, is a stochastic multistep method: the variance of the
    samples is wrong by O(steps^-2) rather than O(1/steps). The last step, to 0, stays plain.

    (Lu et al., DPM-Solver++, 2022: SDE-DPM-Solver++(2M).)
    """
    if sigma_next == 0:
        return x0
    return x0 + 0.5 * torch.log(sigma / sigma_next) * slope


def renoise(x0: Tensor, direction: Tensor, sigma_next: float, noise: Tensor, eta: float) -> Tensor:
    r""":math:`x_0 + \sigma' (\sqrt{1 - \eta^2}\, \epsilon + \eta\, \xi)`, eta as in DDRM and DDS.

    Not the eta of DDIM: here 0.85 keeps only half of the old noise direction.
    (Kawar et al., Denoising diffusion restoration models, 2022.)
    """
    kept: float = (1 - eta**2) ** 0.5
    return x0.add(direction, alpha=sigma_next * kept).add(noise, alpha=sigma_next * eta)
