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
from invdiff.inspection.questions import Question

__all__ = ["Reading", "products", "readings"]


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
        article = "an" if self.actual.name[0] in "aeiou" else "a"
        form = f"{article} {self.actual.name} model declared as {self.declared.name}"
        return f"{form}, and {sign}" if sign else form

    @property
    def advice(self) -> str:
        """What to do about it; empty if nothing."""
        form = "" if self.declared == self.actual else f"Declare it as {self.actual.name}."
        return f"{form} Negate its output.".strip() if self.sign < 0 else form

    def factors(self, question: Question, sigma: float) -> tuple[float, float]:
        """A and B for an answer to a question."""
        told = question.told(sigma)
        b = self.sign * self.actual.out(sigma) / self.declared.out(told)
        return self.actual.skip(sigma) - b * question.into(sigma, told) * self.declared.skip(
            told
        ), b

    def image(self, question: Question, sigma: float, noisy: Tensor, answer: Tensor) -> Tensor:
        """The denoised image, in the range of the question."""
        a, b = self.factors(question, sigma)
        return a * noisy + b * answer

    def errors(self, question: Question, sigma: float, inner: Tensor) -> Tensor:
        """The mean squared error of each image, from ``products``, in the question's range."""
        a, b = self.factors(question, sigma)
        weights = torch.tensor([a, b, -1.0], dtype=torch.float64)
        return (inner @ weights) @ weights


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


def products(truth: Tensor, noisy: Tensor, answer: Tensor) -> Tensor:
    """The inner products per pixel of (noisy, answer, truth), (n, 3, 3), float64."""
    stack = torch.stack([noisy, answer, truth], 1).flatten(2).double()
    return stack @ stack.mT / stack.shape[2]
