r"""The ways to read an answer, compared without asking again.

A network's answer wrapped by a form d and meant in a form e is undone by two numbers:

.. math:: D' = A\,x + B\,D(c\,x; \tau), \quad B = c_{out}^e(\sigma) / c_{out}^d(\tau), \quad
          A = c_{skip}^e(\sigma) - B\, c\, c_{skip}^d(\tau).

So the error of every reading follows from the inner products of x, D and the truth.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from invdiff.inspection.forms import FORMS, Form

__all__ = ["Reading", "errors", "readings"]

ROUNDING = 1e-13


@dataclass(frozen=True)
class Reading:
    """What the answer was taken for, and what it is.

    Arguments:
        declared: The form the prior unwraps.
        actual: The form the network was trained in.
        sign: -1 if the network answers with the sign reversed.
    """

    declared: Form
    actual: Form
    sign: float = 1.0

    @property
    def mistakes(self) -> int:
        """How many things would be wrong."""
        return int(self.declared != self.actual) + int(self.sign < 0)

    @property
    def words(self) -> str:
        """The mistake that would make this right; empty if there is none."""
        sign = "the sign of the network's output is reversed" if self.sign < 0 else ""
        if self.declared == self.actual:
            return sign
        article = "an" if self.actual.name in ("epsilon", "x0") else "a"
        form = f"{article} {self.actual.name} model declared as {self.declared.name}"
        return f"{form}, and {sign}" if sign else form

    @property
    def advice(self) -> str:
        """What to do about it; empty if nothing."""
        form = "" if self.declared == self.actual else f"Declare it as {self.actual.name}."
        return f"{form} Negate its output.".strip() if self.sign < 0 else form

    def factors(self, sigma: float, told: float, into: float) -> tuple[float, float]:
        """A and B, where c is ``into`` and the level told is not always the true one."""
        b = self.sign * self.actual.out(sigma) / self.declared.out(told)
        return self.actual.skip(sigma) - b * into * self.declared.skip(told), b


def readings(declared: str | None) -> Iterator[Reading]:
    """As declared first, then every pair of forms, of one declared form if that is known."""
    for form in FORMS:
        if declared in (None, form.name):
            yield Reading(form, form)
    for form in FORMS:
        if declared in (None, form.name):
            for actual in FORMS:
                for sign in (1.0, -1.0):
                    if (form, sign) != (actual, 1.0):
                        yield Reading(form, actual, sign)


def errors(truth: Tensor, noisy: Tensor, answer: Tensor, factors: Tensor) -> Tensor:
    """The mean squared error of every reading, (readings, n), from its factors (readings, 2)."""
    stack = torch.stack([noisy, answer, truth], 1).flatten(2).double()
    inner = stack @ stack.mT / stack.shape[2]
    weights = torch.cat([factors, -torch.ones_like(factors[:, :1])], 1)
    squares = torch.einsum("ri,nij,rj->rn", weights, inner, weights)
    # Large factors of opposite sign leave nothing but rounding, which must not look like success.
    return squares + ROUNDING * torch.einsum(
        "ri,nij,rj->rn", weights.abs(), inner.abs(), weights.abs()
    )
