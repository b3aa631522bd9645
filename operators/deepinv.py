"""The bridge to deepinv, both ways: its physics here, our operators there."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import InitVar, dataclass
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor

from invdiff.errors import ShapeError
from invdiff.operators.base import Operator

__all__ = ["FromDeepinv", "as_deepinv"]


@dataclass(frozen=True, eq=False, repr=False)
class FromDeepinv(Operator):
    """A ``deepinv.physics.Physics``, linear or not, as an operator.

    deepinv's physics keep the parameters of their last call, which would change the operator. So
    the physics is copied, the copy is out of reach, and it is called with the image alone. Only
    its A and A_adjoint are used, not its noise, sensor or solvers; derivatives of a physics that
    is not linear come from autograd. Its parameters are shared by all rows. Python functions that
    a physics is made of are not copied.

    Arguments:
        physics: The physics.
        shape: The shape of one image, such as (1, 64, 64).
        is_complex: Whether images are complex, which most of deepinv's are not.

    Raises:
        TypeError: If it is no physics, or its measurement is not one tensor.
        ShapeError: If its parameters differ from item to item.
    """

    physics: InitVar[Any]
    shape: tuple[int, ...]
    is_complex: bool = False

    def __post_init__(self, physics: Any) -> None:
        from deepinv.physics import Physics

        if not isinstance(physics, Physics):
            raise TypeError(
                f"Got {type(physics).__name__}, expected a deepinv.physics.Physics. "
                "Write other models as an Operator of their own."
            )
        vars(self)["_frozen"] = copy.deepcopy(physics)
        vars(self)["_converted"] = {}
        if not isinstance(self._probe, Tensor):
            raise TypeError(
                f"{type(physics).__name__} gives a {type(self._probe).__name__}, expected one "
                "tensor. Wrap the parts of a stacked physics one by one."
            )
        if self._probe.shape[:1] != (1,):
            raise ShapeError(
                f"{type(physics).__name__} gives a measurement of shape {tuple(self._probe.shape)}"
                " for one image, expected one row: its parameters must be shared by all items. "
                "Wrap the physics of each item."
            )

    @property
    def _physics(self) -> Any:
        return vars(self)["_frozen"]

    @cached_property
    def _probe(self) -> Any:
        """The measurement of an empty image: its shape, and where the parameters live."""
        tensors = [*self._physics.parameters(), *self._physics.buffers()]
        device = tensors[0].device if tensors else torch.device("cpu")
        kind = torch.complex64 if self.is_complex else torch.float32
        with torch.no_grad():
            return self._physics.A(torch.zeros(1, *self.shape, device=device, dtype=kind))

    @property
    def domain(self) -> tuple[int, ...]:
        return tuple(self.shape)

    @property
    def range(self) -> tuple[int, ...]:
        return tuple(self._probe.shape[1:])

    @property
    def complex_domain(self) -> bool:
        return self.is_complex

    @property
    def complex_range(self) -> bool:
        return bool(self._probe.is_complex())

    @cached_property
    def linear(self) -> bool:
        """Whether deepinv declares the physics to be linear."""
        from deepinv.physics import LinearPhysics

        return isinstance(self._physics, LinearPhysics)

    @cached_property
    def adjoint_exact(self) -> bool:
        """Measured once by the dot test on zero-mean vectors: some physics are approximate."""
        generator = torch.Generator().manual_seed(0)
        kind = torch.complex64 if self.is_complex else torch.float32
        x = torch.randn(1, *self.domain, generator=generator, dtype=kind).to(self._probe.device)
        y = torch.randn(1, *self.range, generator=generator, dtype=self._probe.dtype).to(x.device)
        with torch.no_grad():
            forward, back = self(x), self.adjoint(y)
        gap = (forward.conj() * y).real.sum() - (x.conj() * back).real.sum()
        return bool(gap.abs() <= 1e-5 * forward.norm() * y.norm())

    def to(self, device: torch.device | str) -> Self:
        return type(self)(copy.deepcopy(self._physics).to(device), self.shape, self.is_complex)

    def _at(self, like: Tensor) -> Any:
        """The physics on the device and with the precision of an array."""
        precision, device = like.real.dtype, like.device
        if precision == self._probe.real.dtype and device == self._probe.device:
            return self._physics
        known: dict[Any, Any] = vars(self)["_converted"]
        if (precision, device) not in known:

            def convert(value: Tensor) -> Tensor:
                if value.is_complex():
                    return value.to(device, precision.to_complex())
                return value.to(device, precision if value.is_floating_point() else value.dtype)

            known[precision, device] = copy.deepcopy(self._physics)._apply(convert)
        return known[precision, device]

    def _forward(self, x: Tensor) -> Tensor:
        result: Tensor = self._at(x).A(x)
        return result

    def _adjoint(self, y: Tensor) -> Tensor:
        if not self.linear:
            return super()._adjoint(y)
        result: Tensor = self._at(y).A_adjoint(y)
        # Among real images the adjoint is the real part.
        return result if self.is_complex else result.real.contiguous()

    def __repr__(self) -> str:
        digest = hashlib.sha256()
        for name, value in sorted(self._physics.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.detach().cpu().resolve_conj().contiguous().numpy().tobytes())
        physics = f"{type(self._physics).__name__}(sha256={digest.hexdigest()[:12]})"
        return f"FromDeepinv({physics}, shape={self.shape}, is_complex={self.is_complex})"


def as_deepinv(operator: Operator) -> Any:
    """A linear operator as a ``deepinv.physics.LinearPhysics`` without noise.

    Raises TypeError if the operator is not linear.
    """
    from deepinv.physics import LinearPhysics

    adjoint = operator.H
    return LinearPhysics(A=operator, A_adjoint=adjoint, img_size=operator.domain)
