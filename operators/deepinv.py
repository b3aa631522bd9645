"""The bridge to deepinv, both ways: its linear physics here, our operators there."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor

from invdiff.operators.base import Operator

__all__ = ["FromDeepinv", "as_deepinv"]


@dataclass(frozen=True, eq=False, repr=False)
class FromDeepinv(Operator):
    """A ``deepinv.physics.LinearPhysics`` as an operator.

    The physics is copied, and called with the image alone: deepinv keeps the parameters of its
    last call, which would change the operator. Only its A and A_adjoint are used, not its noise.

    Arguments:
        physics: The linear physics.
        shape: The shape of one (real) image, such as (1, 64, 64).

    Raises:
        TypeError: If the physics is not linear or its measurement is not one real tensor.
    """

    physics: Any
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        from deepinv.physics import LinearPhysics

        if not isinstance(self.physics, LinearPhysics):
            raise TypeError(
                f"Got {type(self.physics).__name__}, expected a deepinv.physics.LinearPhysics. "
                "Write a nonlinear physics as an Operator of its own."
            )
        object.__setattr__(self, "physics", copy.deepcopy(self.physics))
        probe = self._probe
        if not isinstance(probe, Tensor) or probe.is_complex():
            raise TypeError(
                f"{type(self.physics).__name__} gives a {type(probe).__name__}, expected one real "
                "tensor. Wrap the parts of a stacked physics one by one."
            )

    @cached_property
    def _probe(self) -> Any:
        """The measurement of an empty image: its shape, and where the parameters live."""
        tensors = [*self.physics.parameters(), *self.physics.buffers()]
        device = tensors[0].device if tensors else torch.device("cpu")
        with torch.no_grad():
            return self.physics.A(torch.zeros(1, *self.shape, device=device))

    @property
    def domain(self) -> tuple[int, ...]:
        return tuple(self.shape)

    @property
    def range(self) -> tuple[int, ...]:
        return tuple(self._probe.shape[1:])

    @cached_property
    def _exact(self) -> bool:
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(1, *self.domain, generator=generator).to(self._probe)
        y = torch.randn(1, *self.range, generator=generator).to(self._probe)
        with torch.no_grad():
            forward, back = self(x), self.adjoint(y)
        gap = (forward * y).sum() - (x * back).sum()
        return bool(gap.abs() <= 1e-5 * forward.norm() * y.norm())

    @property
    def adjoint_exact(self) -> bool:
        """Measured once by the dot test on zero-mean vectors: some physics are approximate."""
        return self._exact

    def to(self, device: torch.device | str) -> Self:
        return type(self)(copy.deepcopy(self.physics).to(device), self.shape)

    def _physics(self, like: Tensor) -> Any:
        if like.dtype == self._probe.dtype and like.device == self._probe.device:
            return self.physics
        return copy.deepcopy(self.physics).to(device=like.device, dtype=like.dtype)

    def _forward(self, x: Tensor) -> Tensor:
        result: Tensor = self._physics(x).A(x)
        return result

    def _adjoint(self, y: Tensor) -> Tensor:
        result: Tensor = self._physics(y).A_adjoint(y)
        return result

    def __repr__(self) -> str:
        digest = hashlib.sha256()
        for name, value in sorted(self.physics.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        physics = f"{type(self.physics).__name__}(sha256={digest.hexdigest()[:12]})"
        return f"FromDeepinv({physics}, shape={self.shape})"


def as_deepinv(operator: Operator) -> Any:
    """A linear operator as a ``deepinv.physics.LinearPhysics`` without noise.

    Raises TypeError if the operator is not linear.
    """
    from deepinv.physics import LinearPhysics

    adjoint = operator.H
    return LinearPhysics(A=operator, A_adjoint=adjoint, img_size=operator.domain)
