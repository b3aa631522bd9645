r"""Integrators that use earlier evaluations: exponential multistep methods.

In :math:`\lambda = -\ln\sigma` the flow is :math:`\dot x = D - x`, and :math:`x / \sigma`
changes only through D. What is not known in advance is replaced by a polynomial through what was
seen; the rest is integrated exactly, with weights computed on the host in float64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from invdiff.diffusion import number
from invdiff.exponential import exponential_weights
from invdiff.priors.base import Prior
from invdiff.rng import Rng
from invdiff.walk import Field, Known, Walk

__all__ = ["DEIS", "DPMSolver2M", "Multistep", "UniPC", "check_share"]


@dataclass(frozen=True)
class DPMSolver2M:
    r"""Goes to the clean estimate as extrapolated to mid-step: second order.

    .. math:: x' = \bar D + r^{1 + \eta^2} (x - \bar D)
              + \sigma' \sqrt{1 - r^{2 \eta^2}}\, \xi, \quad
              \bar D = D_i + \tfrac{h_i}{2 h_{i-1}} (D_i - D_{i-1}), \quad r = \sigma'/\sigma

    with :math:`h = -\ln r`. Between 0, the deterministic flow, and 1, the reverse process with
    DDPM's noise, eta is that of the equation
    :math:`\mathrm{d}x = (1 + \eta^2)(D - x)\, \mathrm{d}\lambda + \sqrt2\, \eta\, \sigma\,
    \mathrm{d}W`, which DDIM's eta tends to over short steps.

    (Lu et al., DPM-Solver++, 2022: DPM-Solver++(2M) and SDE-DPM-Solver++(2M).)
    """

    eta: float = 0.0
    kept: int = field(default=1, init=False, repr=False)

    def __post_init__(self) -> None:
        check_share("eta", self.eta)

    def reach(self, sigma: float, sigma_next: float) -> float:
        return 1 - math.pow(sigma_next / sigma, 1 + self.eta**2)

    def step(
        self, field: Field, walk: Walk, sigma: Tensor, sigma_next: Tensor, prior: Prior, rng: Rng
    ) -> tuple[Walk, dict[str, Tensor]]:
        x0, info, _ = field(walk.x, sigma)
        now, then = number(sigma), number(sigma_next)
        if then == 0:
            return walk.moved(x0), info
        here, target = Known(-math.log(now), x0), x0
        for before in walk.known():
            share = 0.5 * math.log(now / then) / (here.level - before.level)
            target = x0.lerp(before.image, -share)
        x = target.lerp(walk.x, 1 - self.reach(now, then))
        if self.eta:
            spread = then * math.sqrt(1 - (then / now) ** (2 * self.eta**2))
            x = x.add(rng.normal(x0), alpha=spread)
        return walk.moved(x, [here]), info


@dataclass(frozen=True)
class Multistep:
    r"""The deterministic exponential Adams-Bashforth method: D is a polynomial in lambda.

    .. math:: x' = e^{-h} x + \sum_j w_j D_{i-j},
              \quad w_j = \int_0^h e^{-(h - t)}\, \ell_j(t)\, \mathrm{d}t

    with the Lagrange polynomials :math:`\ell_j` on the last ``order`` levels. The first steps
    have fewer, so start with short ones (``ladder.ramped``) where the full order matters. Guided
    estimates enter the history as they are.

    Arguments:
        order: The number of estimates in a step, 1 to 4.

    (Lu et al., DPM-Solver++, 2022: 3 is DPM-Solver++(3M), up to terms of higher order.)
    """

    order: int = 3

    def __post_init__(self) -> None:
        _check_order(self.order)

    @property
    def kept(self) -> int:
        return self.order - 1

    def reach(self, sigma: float, sigma_next: float) -> float:
        return 1 - sigma_next / sigma

    def step(
        self, field: Field, walk: Walk, sigma: Tensor, sigma_next: Tensor, prior: Prior, rng: Rng
    ) -> tuple[Walk, dict[str, Tensor]]:
        x0, info, _ = field(walk.x, sigma)
        if number(sigma_next) == 0:
            return walk.moved(x0), info
        here = -math.log(number(sigma))
        known = [Known(here, x0), *walk.known()]
        return walk.moved(
            _advance(walk.x, known, here, -math.log(number(sigma_next))), known
        ), info


@dataclass(frozen=True)
class UniPC:
    r"""The same, and each step redone with the estimate found at its end: one order more.

    .. math:: x_{i+1} = e^{-h} x_i + \sum_{j \ge -1} w_j D_{i-j}, \quad
              D_{i+1} = D(\text{the predicted } x_{i+1})

    The corrected image is where the next step starts from; the estimate is not taken again, so
    there is still one evaluation a step. Deterministic.

    Arguments:
        order: That of the predictor, 1 to 3; the method is of one order more.

    (Zhao et al., UniPC, 2023.)
    """

    order: int = 2

    def __post_init__(self) -> None:
        _check_order(self.order)

    @property
    def kept(self) -> int:
        return self.order + 1

    def reach(self, sigma: float, sigma_next: float) -> float:
        return 1 - sigma_next / sigma

    def step(
        self, field: Field, walk: Walk, sigma: Tensor, sigma_next: Tensor, prior: Prior, rng: Rng
    ) -> tuple[Walk, dict[str, Tensor]]:
        x0, info, _ = field(walk.x, sigma)
        if number(sigma_next) == 0:
            return walk.moved(x0), info
        x, here = walk.x, -math.log(number(sigma))
        # The image that the last step started from comes first, then the estimates.
        started, estimates = walk.known()[:1], [Known(here, x0), *walk.known()[1:]]
        for level, start in started:
            x = _advance(start, estimates, level, here)
        then = -math.log(number(sigma_next))
        predicted = _advance(x, estimates[: self.order], here, then)
        return walk.moved(predicted, [Known(here, x), *estimates]), info


@dataclass(frozen=True)
class DEIS:
    r"""Adams-Bashforth for the noise: :math:`\epsilon = (x - D)/\sigma` a polynomial in lambda.

    .. math:: x' = x + \sum_j \epsilon_{i-j} \int_\sigma^{\sigma'} \ell_j(\ln s)\, \mathrm{d}s

    Deterministic, one evaluation a step. Start with short steps where the full order matters.

    Arguments:
        order: The number of estimates in a step, 1 to 4.

    (Zhang and Chen, Fast sampling of diffusion models with exponential integrator, 2023.)
    """

    order: int = 2

    def __post_init__(self) -> None:
        _check_order(self.order)

    @property
    def kept(self) -> int:
        return self.order - 1

    def reach(self, sigma: float, sigma_next: float) -> float:
        return 1 - sigma_next / sigma

    def step(
        self, field: Field, walk: Walk, sigma: Tensor, sigma_next: Tensor, prior: Prior, rng: Rng
    ) -> tuple[Walk, dict[str, Tensor]]:
        x0, info, _ = field(walk.x, sigma)
        now, then = number(sigma), number(sigma_next)
        if then == 0:
            return walk.moved(x0), info
        here = -math.log(now)
        known = [Known(here, (walk.x - x0) / now), *walk.known()]
        nodes, length = tuple(each.level - here for each in known), math.log(now / then)
        x = walk.x
        for weight, (_, noise) in zip(exponential_weights(nodes, length, -1), known, strict=True):
            x = x.add(noise, alpha=then * weight)
        return walk.moved(x, known), info


def _advance(x: Tensor, estimates: Sequence[Known], start: float, end: float) -> Tensor:
    """x from one level to another, with the polynomial through the estimates."""
    nodes = tuple(each.level - start for each in estimates)
    x = x * math.exp(start - end)
    for weight, (_, x0) in zip(exponential_weights(nodes, end - start), estimates, strict=True):
        x = x.add(x0, alpha=weight)
    return x


def check_share(name: str, value: float) -> None:
    """Raises ValueError unless the value is from 0 to 1."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name} is {value}, expected a number from 0 to 1.")


def _check_order(order: int) -> None:
    if order not in (1, 2, 3, 4):
        raise ValueError(f"order is {order}, expected 1, 2, 3 or 4.")
