"""What is measured, how, and how precisely."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from invdiff.errors import ShapeError
from invdiff.noise import Noise, require_finite
from invdiff.operators.base import Operator

__all__ = ["Problem"]


@dataclass(frozen=True)
class Problem:
    r"""An inverse problem: :math:`y = A(x) + \text{noise}`, one row per item.

    Arguments:
        y: The measurements, (n, *operator.range), floating point or complex.
        operator: The map :math:`A` from images (n, *operator.domain) to measurements.
        noise: ``Gaussian(sigma)``, ``Poisson(gain)`` or ``Transmission(photons)``.

    Raises:
        ShapeError: y does not fit the operator.
        TypeError: y is of an integer or of the wrong kind of dtype.
        NotFinite: y has NaN or infinite entries.
    """

    y: Tensor
    operator: Operator
    noise: Noise

    def __post_init__(self) -> None:
        self.operator._check(
            self.y, self.operator.range, self.operator.complex_range, "measurement"
        )
        if self.y.shape[0] == 0:
            raise ShapeError("The measurement has no items: its first axis is 0. Pass at least 1.")
        require_finite(self.y, "measurement")
        self.noise.check(self.y)

    @classmethod
    def _checked(cls, y: Tensor, operator: Operator, noise: Noise) -> Problem:
        """From parts that were checked before: on a GPU every check makes the host wait."""
        problem = object.__new__(cls)
        for name, value in (("y", y), ("operator", operator), ("noise", noise)):
            object.__setattr__(problem, name, value)
        return problem

    def __len__(self) -> int:
        return self.y.shape[0]

    @cached_property
    def center(self) -> Tensor:
        """The measurement in the units of A x, (b, *range)."""
        return self.noise.center(self.y)

    @cached_property
    def precision(self) -> Tensor:
        """The weight of every real number of the residual, (1 or b, *range); 0 if unmeasured."""
        weight = self.noise.precision(self.y).expand(self.y.shape)
        observed = self.operator.observed
        return weight if observed is None else weight * observed.to(weight)

    @cached_property
    def measured(self) -> Tensor:
        """How many real numbers were measured, per row (b,); 1 if none, to divide by."""
        count = (self.precision > 0).flatten(1).sum(1).clamp(min=1).to(self.y.real.dtype)
        return 2 * count if self.y.is_complex() else count

    @cached_property
    def normal(self) -> Callable[[Tensor], Tensor]:
        r"""The map :math:`x \mapsto A^* W A x` of a linear operator, by its shortest way."""
        return self.operator.normal(self.precision)

    def residual(self, x: Tensor) -> Tensor:
        """y - A x in the units of A x, for x (b, *domain)."""
        return self.center - self.operator(x)

    def misfit(self, x: Tensor) -> Tensor:
        r""":math:`\sum_i w_i |y - A x|_i^2` per row, (b,): the noise-weighted squared residual."""
        return (self.precision * self.residual(x).abs().square()).flatten(1).sum(1)

    def chi2(self, x: Tensor) -> Tensor:
        r"""The misfit per measured number, (b,).

        Its expectation is exactly 1 when x is drawn from the posterior, since then (x, y) has
        the same law as (truth, y).
        """
        return self.misfit(x) / self.measured

    def log_likelihood(self, x: Tensor) -> Tensor:
        """log p(y | x) per row, (b,), normalised in y."""
        value = self.noise.log_likelihood(self.y, self.operator(x))
        observed = self.operator.observed
        if observed is not None:
            value = torch.where(observed.to(value.device), value, 0)
        return value.flatten(1).sum(1)

    def rows(self, index: Tensor) -> Problem:
        """The problem of the rows ``index`` (integers): chunks and particles are this."""
        chosen = self.y[index.to(self.y.device)]
        return Problem._checked(chosen, self.operator.rows(index), self.noise.rows(index))

    def to(self, device: torch.device | str) -> Problem:
        """The same problem on another device."""
        return Problem(self.y.to(device), self.operator.to(device), self.noise.to(device))
