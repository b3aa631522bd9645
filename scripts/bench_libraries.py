"""The projectors and the MRI operators that ``bench_operators`` times, ours and others'.

Each contender is made when its turn comes, so that it alone answers for its memory. All take and
give the same arrays: images (b, 1, rows, columns), complex for MRI.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from invdiff.linalg import cg
from invdiff.operators import CartesianMRI, CTOperator, Geometry, birdcage_maps, cartesian_mask
from invdiff.operators.ct_astra_cpu import AstraCPU
from invdiff.operators.ct_astra_cuda import AstraCUDA
from invdiff.operators.ct_backend import Backend
from invdiff.operators.ct_matrix import SystemMatrix

__all__ = ["Contender", "Products", "ct_contenders", "mri_contenders"]

REGULARISATION, ITERATIONS = 1e-2, 10


@dataclass(frozen=True)
class Products:
    """A x, A* y, and for MRI ten conjugate-gradient steps on A* A + 0.01 from A* y."""

    forward: Callable[[Tensor], Tensor]
    adjoint: Callable[[Tensor], Tensor]
    solve: Callable[[Tensor], Tensor] | None = None


@dataclass(frozen=True)
class Contender:
    """A library, what computes in it, and how to make it."""

    library: str
    backend: str
    make: Callable[[], Products]


def ct_contenders(size: int, views: int, device: torch.device) -> list[Contender]:
    """Parallel beams over a half turn, one cell as wide as a pixel, covering the diagonal."""
    geometry = Geometry.parallel((size, size), views, pixel_size=1.0)

    def ours(backend: Backend) -> Callable[[], Products]:
        def make() -> Products:
            operator = CTOperator(geometry, backend=backend)
            return Products(operator, operator.adjoint)

        return make

    if device.type == "cuda":
        return [
            Contender("invdiff", "matrix, cuda", ours(SystemMatrix())),
            Contender("invdiff", "astra_cuda", ours(AstraCUDA())),
            Contender("deepinv", "astra, cuda", lambda: _deepinv_astra(size, views, device)),
        ]
    return [
        Contender("invdiff", "matrix", ours(SystemMatrix())),
        Contender("invdiff", "astra_cpu", ours(AstraCPU())),
        Contender("astra", "linear, looped", lambda: _astra(size, views)),
        Contender("deepinv", "torch", lambda: _deepinv_ct(size, views, exact=True)),
        Contender("deepinv", "torch, fast adjoint", lambda: _deepinv_ct(size, views, exact=False)),
    ]


def mri_contenders(size: int, coils: int, device: torch.device) -> list[Contender]:
    """Four-fold random columns with 8 % of them in the centre."""
    maps = birdcage_maps(coils, size, size).to(device)
    mask = cartesian_mask((size, size), 4.0, 0.08, seed=0).mask.to(device)
    return [
        Contender("invdiff", "torch", lambda: _ours_mri(maps, mask)),
        Contender("deepinv", "torch", lambda: _deepinv_mri(maps, mask)),
        Contender("mrpro", "torch", lambda: _mrpro(maps, mask)),
    ]


def _astra(size: int, views: int) -> Products:
    import astra

    side = size / 2
    volume = astra.create_vol_geom(size, size, -side, side, -side, side)
    cells = int(np.ceil(size * 2**0.5))
    angles = np.pi * np.arange(views) / views
    rays = astra.create_proj_geom("parallel", 1.0, cells, angles)
    projector = astra.create_projector("linear", rays, volume)

    def loop(call: Callable[..., Any], arrays: Tensor, shape: tuple[int, int]) -> Tensor:
        result = torch.empty(len(arrays), 1, *shape)
        for array, out in zip(arrays[:, 0], result[:, 0], strict=True):
            call(projector, array, out=out)
        return result

    return Products(
        lambda x: loop(astra.projector.direct_FP, x, (views, cells)),
        lambda y: loop(astra.projector.direct_BP, y, (size, size)),
    )


def _deepinv_ct(size: int, views: int, *, exact: bool) -> Products:
    """A large batch in parts: all images rotated to all views have to fit into half the memory."""
    from deepinv.physics import Tomography

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        physics = Tomography(views, size, adjoint_via_backprop=exact, normalize=False)
    bytes_per_image = 16 * views * 2 * size**2  # measured: 1.4 GB at 512 x 512, 180 views
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    at_once = max(1, memory // 2 // bytes_per_image)

    def parts(call: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        return lambda a: torch.cat([call(part) for part in a.split(at_once)])

    return Products(parts(physics.A), parts(physics.A_adjoint))


def _deepinv_astra(size: int, views: int, device: torch.device) -> Products:
    from deepinv.physics import TomographyWithAstra

    physics = TomographyWithAstra((size, size), num_angles=views, device=device, normalize=False)
    return Products(physics.A, physics.A_adjoint)


def _ours_mri(maps: Tensor, mask: Tensor) -> Products:
    operator = CartesianMRI(maps, mask)
    normal = operator.normal(torch.ones(1, 1, 1, 1, device=maps.device))

    def solve(b: Tensor) -> Tensor:
        return cg(
            lambda x: normal(x) + REGULARISATION * x, b, iterations=ITERATIONS, tolerance=0
        ).x

    return Products(operator, operator.adjoint, solve)


def _deepinv_mri(maps: Tensor, mask: Tensor) -> Products:
    """Real channels (b, 2, ...) there; the conversion is a view, and not what is timed."""
    from deepinv.optim.linear import conjugate_gradient
    from deepinv.physics import MultiCoilMRI

    physics = MultiCoilMRI(
        mask[:, 0, None], maps, img_size=tuple(mask.shape[2:]), device=maps.device
    )

    def channels(a: Tensor) -> Tensor:
        return torch.view_as_real(a).movedim(-1, 1)

    def numbers(a: Tensor) -> Tensor:
        return torch.view_as_complex(a.movedim(1, -1).contiguous())

    def solve(b: Tensor) -> Tensor:
        found = conjugate_gradient(
            lambda x: physics.A_adjoint(physics.A(x)) + REGULARISATION * x,
            channels(b[:, 0]),
            max_iter=ITERATIONS,
            tol=0.0,
        )
        return numbers(found)[:, None]

    return Products(
        lambda x: numbers(physics.A(channels(x[:, 0]))),
        lambda y: numbers(physics.A_adjoint(channels(y)))[:, None],
        solve,
    )


def _mrpro(maps: Tensor, mask: Tensor) -> Products:
    """Arrays (others, coils, z, y, x) there; a view again."""
    from mrpro.algorithms.optimizers import cg as solver
    from mrpro.operators import CartesianMaskingOp, FastFourierOp, SensitivityOp

    operator = (
        CartesianMaskingOp(mask[:, :, None])
        @ FastFourierOp(dim=(-2, -1))
        @ SensitivityOp(maps[:, :, None])
    ).to(maps.device)

    def solve(b: Tensor) -> Tensor:
        def normal(x: Tensor) -> tuple[Tensor]:
            (result,) = operator.H(*operator(x))
            return (result + REGULARISATION * x,)

        (found,) = solver(normal, (b[:, :, None],), max_iterations=ITERATIONS, tolerance=0.0)
        return found[:, :, 0]

    return Products(
        lambda x: operator(x[:, :, None])[0][:, :, 0],
        lambda y: operator.H(y[:, :, None])[0][:, :, 0],
        solve,
    )
