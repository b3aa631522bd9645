"""What an operator is: the map from an image to its noise-free measurement.

Shapes, everywhere in the package: b rows (one row is one particle of one item), ``*domain`` the
shape of an image without the row axis, ``*range`` the shape of a measurement. Images carry a
channel axis, so a grey image of 64 x 48 pixels has the domain (1, 64, 48).
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from invdiff.errors import ShapeError

if TYPE_CHECKING:
    from invdiff.operators.algebra import Adjoint, Composition, Scaled

__all__ = ["Operator"]


@dataclass(frozen=True, eq=False, repr=False)
class Operator(ABC):
    r"""A linear or nonlinear map :math:`A`, applied to a batch of rows.

    A subclass is a frozen dataclass that gives ``domain``, ``range`` and ``_forward``, and, if it
    is linear, ``_adjoint`` with :math:`\langle A x, y \rangle = \langle x, A^* y \rangle`
    (the Hermitian inner product for complex arrays). Nothing changes when it is called.

    Tensor fields lead with 1 (shared by all rows) or with b (one entry per item), and are cast to
    the device and the precision of the input. Two operators are equal when their ``repr`` is:
    it holds every number, and the SHA-256 of every tensor.
    """

    @property
    @abstractmethod
    def domain(self) -> tuple[int, ...]:
        """The shape of one image."""

    @property
    @abstractmethod
    def range(self) -> tuple[int, ...]:
        """The shape of one measurement."""

    @property
    def complex_domain(self) -> bool:
        """Whether images are complex."""
        return False

    @property
    def complex_range(self) -> bool:
        """Whether measurements are complex."""
        return False

    @property
    def linear(self) -> bool:
        """Whether :math:`A` is linear, so that ``adjoint`` and ``H`` exist."""
        return True

    @property
    def adjoint_exact(self) -> bool:
        """Whether ``adjoint`` is the adjoint to rounding error."""
        return True

    @property
    def observed(self) -> Tensor | None:
        """Which entries of the measurement are data, (1 or b, *range) of bool; None: all."""
        return None

    def bounds(self, low: float, high: float) -> tuple[float, float] | None:
        """The values a measurement can take when the image lies in [low, high], if known."""
        return None

    @abstractmethod
    def _forward(self, x: Tensor) -> Tensor: ...

    def _adjoint(self, y: Tensor) -> Tensor:
        raise TypeError(f"{self} is not linear: it has no adjoint. Use linearize(x) instead.")

    def __call__(self, x: Tensor) -> Tensor:
        """A x, for x (b, *domain); gives (b, *range). Raises ShapeError or TypeError."""
        self._check(x, self.domain, self.complex_domain, "image")
        return self._forward(x)

    def adjoint(self, y: Tensor) -> Tensor:
        """A* y, for y (b, *range); gives (b, *domain). Raises ShapeError or TypeError."""
        self._check(y, self.range, self.complex_range, "measurement")
        return self._adjoint(y)

    def normal(self, weight: Tensor) -> Callable[[Tensor], Tensor]:
        r"""The map :math:`x \mapsto A^* W A x` on (b, *domain), for solvers that repeat it.

        W are real weights that broadcast to (b, *range), such as ``Problem.precision``. An
        operator that has a shorter way than ``adjoint(weight * A(x))`` prepares it here, once.
        """
        return lambda x: self._adjoint(weight * self._forward(x))

    @property
    def H(self) -> Adjoint:
        """The adjoint as an operator."""
        if not self.linear:
            raise TypeError(f"{self} is not linear: it has no adjoint. Use linearize(x) instead.")
        from invdiff.operators.algebra import Adjoint

        return Adjoint(self)

    def linearize(self, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        r"""A x and the map :math:`u \mapsto (\partial A / \partial x)^* u` at x (b, *domain)."""
        if self.linear:
            return self(x), self.adjoint
        with torch.enable_grad():
            leaf = x.detach().requires_grad_(True)
            value = self(leaf)

        def vjp(u: Tensor) -> Tensor:
            (gradient,) = torch.autograd.grad(value, leaf, u, retain_graph=True)
            return gradient

        return value.detach(), vjp

    def __matmul__(self, inner: Operator) -> Composition:
        from invdiff.operators.algebra import Composition

        return Composition(self, inner)

    def __rmul__(self, factor: float) -> Scaled:
        from invdiff.operators.algebra import Scaled

        return Scaled(self, float(factor))

    @property
    def items(self) -> int | None:
        """How many items the tensor fields describe, or None if they are shared by all rows."""
        for value in self._field_values():
            if isinstance(value, Tensor) and value.shape[0] != 1:
                return value.shape[0]
            if isinstance(value, Operator) and value.items is not None:
                return value.items
        return None

    def rows(self, index: Tensor) -> Self:
        """The operator of the rows ``index`` (integers, (b,)): shared fields stay shared."""

        def select(value: Any) -> Any:
            if isinstance(value, Operator):
                return value.rows(index)
            if isinstance(value, Tensor) and value.shape[0] != 1:
                return value[index.to(value.device)]
            return value

        return self if self.items is None else self._map_fields(select)

    def to(self, device: torch.device | str) -> Self:
        """The same operator with its tensors on another device."""
        return self._map_fields(
            lambda value: value.to(device) if isinstance(value, Tensor | Operator) else value
        )

    def _map_fields(self, function: Callable[[Any], Any]) -> Self:
        return replace(self, **{f.name: function(getattr(self, f.name)) for f in fields(self)})

    def _field_values(self) -> list[Any]:
        return [getattr(self, f.name) for f in fields(self)]

    def __repr__(self) -> str:
        inside = ", ".join(f"{f.name}={_show(getattr(self, f.name))}" for f in fields(self))
        return f"{type(self).__name__}({inside})"

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and repr(other) == repr(self)

    def __hash__(self) -> int:
        return hash(repr(self))

    def _check(self, x: Tensor, shape: tuple[int, ...], is_complex: bool, what: str) -> None:
        if tuple(x.shape[1:]) != shape or x.ndim != len(shape) + 1:
            hint = (
                "Add a leading item axis: x[None]."
                if tuple(x.shape) == shape
                else f"Pass an array of shape (items, {', '.join(map(str, shape))})."
            )
            raise ShapeError(
                f"The {what} has shape {tuple(x.shape)}, but {self} takes {what}s of shape "
                f"{shape} behind one item axis. {hint}"
            )
        if x.is_complex() != is_complex or not (x.is_floating_point() or x.is_complex()):
            expected = "complex64 or complex128" if is_complex else "float32 or float64"
            raise TypeError(
                f"The {what} has dtype {x.dtype}, but {self} takes {expected}. "
                "Convert it, scaled to the declared range."
            )
        items = self.items
        if items is not None and x.shape[0] != items:
            raise ShapeError(
                f"The {what} has {x.shape[0]} rows, but {self} holds parameters of {items} items. "
                "Take the matching rows with operator.rows(index)."
            )


def _show(value: Any) -> str:
    if not isinstance(value, Tensor):
        return repr(value)
    numbers = value.detach().cpu().resolve_conj().contiguous().numpy().tobytes()
    digest = hashlib.sha256(numbers).hexdigest()[:12]
    return f"Tensor(shape={tuple(value.shape)}, {value.dtype}, sha256={digest})"
