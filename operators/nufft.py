"""The Fourier transform between a grid of pixels and any frequencies, by FINUFFT or cuFINUFFT.

References:
    | A parallel nonuniform fast Fourier transform library based on an "exponential of semicircle"
      kernel (Barnett et al., 2019)
    | https://doi.org/10.1137/18M120885X
    | cuFINUFFT: a load-balanced GPU library for general-purpose nonuniform FFTs (Shih et al.,
      2021)
    | https://doi.org/10.1109/IPDPSW52791.2021.00105
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

__all__ = ["nufft", "nufft_adjoint"]

# The relative error asked for. A narrower kernel would save little: times are much the same.
ACCURACY = {torch.complex64: 1e-6, torch.complex128: 1e-13}

Kind = tuple[int, tuple[int, ...], int]  # type 1 or 2, pixels, how many at once


def nufft(x: Tensor, points: Tensor, shape: tuple[int, ...]) -> Tensor:
    r""":math:`(Fx)(k) = N^{-1/2} \sum_r x(r)\, e^{-2 \pi i k \cdot r}`, orthonormal on a grid.

    The N pixels have the positions r = index - size // 2 along every axis. Differentiable in x.

    Arguments:
        x: Complex (b, c, *shape).
        points: The frequencies k in cycles per pixel, (1 or b, samples, dimensions), float64.
        shape: Two or three sizes.

    Gives (b, c, samples). In complex64 the points are rounded too, to a part of 6e-8 of half a
    cycle, so that values are right to about 1e-7 times the number of pixels along an axis.

    Raises ModuleNotFoundError if FINUFFT (CPU) or cuFINUFFT (CUDA) is not installed.
    """
    result: Tensor = _Transform.apply(x, points, shape, True)
    return result


def nufft_adjoint(y: Tensor, points: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The adjoint of ``nufft``, to rounding error: (b, c, samples) -> (b, c, *shape)."""
    result: Tensor = _Transform.apply(y, points, shape, False)
    return result


class _Transform(torch.autograd.Function):
    """Both directions; the derivative of one is the other."""

    @staticmethod
    def forward(x: Tensor, points: Tensor, shape: tuple[int, ...], forward: bool) -> Tensor:
        if points.shape[0] == 1:
            return _transform_all(x, points[0], shape, forward)
        rows = zip(x.split(1), points, strict=True)
        return torch.cat([_transform_all(row, own, shape, forward) for row, own in rows])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.points, ctx.shape, ctx.forward = inputs

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        back = _Transform.apply(gradient, ctx.points, ctx.shape, not ctx.forward)
        return back, None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        result: Tensor = _Transform.apply(tangent, ctx.points, ctx.shape, ctx.forward)
        return result

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[int | None, ...],
        x: Tensor,
        points: Tensor,
        shape: tuple[int, ...],
        forward: bool,
    ) -> tuple[Tensor, int]:
        if in_dims[0] is None or in_dims[1] is not None:
            raise ValueError("Only the image can be mapped over, not the trajectory.")
        x = x.movedim(in_dims[0], 1)  # beside the coils
        result = _Transform.apply(x.flatten(1, 2), points, shape, forward)
        return result.unflatten(1, x.shape[1:3]), 1


def _transform_all(x: Tensor, points: Tensor, shape: tuple[int, ...], forward: bool) -> Tensor:
    """One plan for all rows and coils of x (b, c, ...)."""
    count = x.shape[0] * x.shape[1]
    result_shape = (*x.shape[:2], *((points.shape[0],) if forward else shape))
    if count == 0:
        return x.new_zeros(result_shape)
    x = x.detach().resolve_conj().contiguous().reshape(count, *x.shape[2:])
    axes = (2 * math.pi * points.to(x.device, torch.float64)).to(x.real.dtype).unbind(1)
    kind = 2 if forward else 1, shape, count
    settings: dict[str, Any] = {
        "eps": ACCURACY[x.dtype],
        "isign": -1 if forward else 1,
        "dtype": str(x.dtype).removeprefix("torch."),
        "upsampfac": 2.0,  # or it may be chosen for each direction, and they are no more adjoint
    }
    run = _on_gpu if x.is_cuda else _on_cpu
    result = run(x, [axis.contiguous() for axis in axes], kind, settings)
    return result.reshape(result_shape) / math.sqrt(math.prod(shape))


def _on_cpu(x: Tensor, axes: list[Tensor], kind: Kind, settings: dict[str, Any]) -> Tensor:
    try:
        import finufft
    except ModuleNotFoundError as error:
        raise _missing("FINUFFT", "mri") from error
    plan = finufft.Plan(*kind, nthreads=torch.get_num_threads(), **settings)
    plan.setpts(*(axis.numpy() for axis in axes))
    return torch.from_numpy(plan.execute(x.numpy()))


def _on_gpu(x: Tensor, axes: list[Tensor], kind: Kind, settings: dict[str, Any]) -> Tensor:
    try:
        import cufinufft
    except ModuleNotFoundError as error:
        raise _missing("cuFINUFFT", "mri-cuda") from error
    with torch.cuda.device(x.device):
        stream = torch.cuda.current_stream().cuda_stream
        device = torch.cuda.current_device()
        plan = cufinufft.Plan(*kind, gpu_stream=stream, gpu_device_id=device, **settings)
        plan.setpts(*axes)
        result: Tensor = plan.execute(x)
    return result


def _missing(library: str, extra: str) -> ModuleNotFoundError:
    return ModuleNotFoundError(
        f"Non-Cartesian MRI needs {library}, which is not installed. Install it with: "
        f"pip install 'invdiff[{extra}]'"
    )
