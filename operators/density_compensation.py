"""Weights that make the adjoint of non-Cartesian sampling an approximate inverse.

A weight is the area of k-space that its sample stands for, in units of the Cartesian grid's cell:
full Cartesian sampling has weights of one.

References:
    | Sampling density compensation in MRI: rationale and an iterative numerical solution (Pipe
      and Menon, 1999)
    | https://doi.org/10.1002/(SICI)1522-2594(199901)41:1<179::AID-MRM25>3.0.CO;2-V
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from invdiff.errors import ShapeError
from invdiff.operators.noncartesian_mri import NonCartesianMRI, check_range
from invdiff.operators.nufft import nufft, nufft_adjoint

__all__ = ["gridding", "pipe_menon_density", "radial_density"]


def gridding(operator: NonCartesianMRI, y: Tensor, density: Tensor) -> Tensor:
    r"""The image :math:`A^* W y` (b, 1, *shape), the simplest reconstruction.

    With maps of unit sum of squares it has the scale of the image, wherever k-space is covered.
    ``y`` is (b, coils, *sampling), ``density`` (1 or b, *sampling). Raises ShapeError.
    """
    if tuple(density.shape[1:]) != operator.range[1:]:
        raise ShapeError(
            f"The density has shape {tuple(density.shape)}, expected (1 or items, "
            f"{', '.join(map(str, operator.range[1:]))})."
        )
    return operator.adjoint(density.to(y.device, y.real.dtype)[:, None] * y)


def radial_density(trajectory: Tensor, shape: tuple[int, ...]) -> Tensor:
    r"""The ramp of straight spokes through the centre, (1 or b, spokes, samples), float64.

    With samples at the distances t along a spoke and the spacing :math:`\delta`, it is the rule
    for integrals in polar coordinates of d dimensions,

    .. math:: \int f(k)\, \mathrm{d}k \approx
              \sum_{\mathrm{spokes}} \Omega \sum_t \delta\, |t|^{d-1} f(t)

    times the N pixels of ``shape``. In two dimensions :math:`\Omega` is half the angle between
    the spoke's neighbours, whatever the order of the spokes, and the kink of :math:`|t|` at the
    centre is corrected to second order (Euler and Maclaurin): the central sample counts as
    :math:`\delta^2 / 6`. In three dimensions spokes are taken as evenly spread,
    :math:`\Omega = 2 \pi` / spokes.

    Arguments:
        trajectory: Cycles per pixel, (1 or b, spokes, samples, 2 or 3).
        shape: The shape of the image, height, width or depth, height, width.

    Raises:
        ShapeError: The trajectory has other axes, or other dimensions than the image.
        ValueError: A spoke is not straight, equally spaced and through the centre.
    """
    if trajectory.ndim != 4 or trajectory.shape[-1] != len(shape) or trajectory.shape[2] < 2:
        raise ShapeError(
            f"The trajectory has shape {tuple(trajectory.shape)} for an image {tuple(shape)}; "
            "expected (1 or items, spokes, at least 2 samples, 2 or 3)."
        )
    along, spacing, direction = _straight_spokes(trajectory.to(torch.float64))
    pixels = math.prod(shape)
    if len(shape) == 3:
        ball: Tensor = pixels * 2 * math.pi / trajectory.shape[1] * spacing * along**2
        return ball
    u = along.abs() / spacing
    kink = (1 - u).clamp(min=0) * (u**2 - u + 1 / 6)
    disc: Tensor = pixels * _angular_gaps(direction)[..., None] * spacing**2 * (u + kink)
    return disc


def _straight_spokes(trajectory: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Distances from the centre (b, spokes, samples), spacings (b, spokes, 1), directions."""
    span = trajectory[:, :, -1] - trajectory[:, :, 0]
    length = span.norm(dim=-1, keepdim=True)
    direction, spacing = span / length, length / (trajectory.shape[2] - 1)
    along = (trajectory * direction[:, :, None]).sum(-1)
    line = along[:, :, :1] + spacing * torch.arange(along.shape[2]).to(along)
    ideal = line[..., None] * direction[:, :, None]
    if not bool(((ideal - trajectory).abs() <= 1e-3 * spacing[..., None]).all()):
        raise ValueError(
            "A spoke is bent, unequally spaced, or does not pass through the centre; expected "
            "straight spokes. Use pipe_menon_density for any other trajectory."
        )
    return along, spacing, direction


def _angular_gaps(direction: Tensor) -> Tensor:
    """Half the angle between the neighbours of every spoke (b, spokes, 2); they sum to pi."""
    angle, order = torch.atan2(direction[..., 0], direction[..., 1]).remainder(math.pi).sort(-1)
    after = torch.cat([angle[:, 1:], angle[:, :1] + math.pi], 1)
    before = torch.cat([angle[:, -1:] - math.pi, angle[:, :-1]], 1)
    return torch.zeros_like(angle).scatter(1, order, (after - before) / 2)


def pipe_menon_density(trajectory: Tensor, shape: tuple[int, ...], iterations: int = 30) -> Tensor:
    r"""Weights for any trajectory, (1 or b, *sampling), float64.

    With the plane waves :math:`a_j(r) = N^{-1/2} e^{2 \pi i k_j \cdot r}` of the samples, it
    solves

    .. math:: \langle a_j, A^* W A\, a_j \rangle = \sum_l w_l |\langle a_j, a_l \rangle|^2 = 1

    by :math:`w_j \leftarrow w_j / \sum_l w_l |\langle a_j, a_l \rangle|^2`: each measured wave is
    reproduced with its own strength. The kernel is that of an image which fills ``shape``, its
    transform the triangle, so the sums are two transforms on a grid twice as large.

    Arguments:
        trajectory: Cycles per pixel, (1 or b, *sampling, 2 or 3).
        shape: The shape of the image.
        iterations: 30 leave sums within a few per cent of 1 for usual trajectories.

    Raises:
        ShapeError: The trajectory has other dimensions than the image.
        ValueError: A frequency is out of range, or there are no iterations.
        ModuleNotFoundError: FINUFFT is not installed (cuFINUFFT, on CUDA).
    """
    if trajectory.ndim < 3 or trajectory.shape[-1] != len(shape):
        raise ShapeError(
            f"The trajectory has shape {tuple(trajectory.shape)} for an image {tuple(shape)}; "
            "expected (1 or items, ..., 2 or 3)."
        )
    if iterations < 1:
        raise ValueError(f"iterations is {iterations}, expected at least 1.")
    check_range(trajectory)
    points = trajectory.to(torch.float64).flatten(1, -2)
    grid = tuple(2 * n - 1 for n in shape)
    triangle = torch.ones((), dtype=torch.float64, device=points.device)
    for n in shape:
        pairs = n - torch.arange(1 - n, n, device=points.device).abs()
        triangle = triangle[..., None] * pairs / n
    weights = points.new_ones(points.shape[:2])
    scale = math.prod(grid) / math.prod(shape)
    for _ in range(iterations):
        image = nufft_adjoint(weights.to(torch.complex128)[:, None], points, grid)
        sums = scale * nufft(triangle * image, points, grid)[:, 0].real
        weights = weights / sums
    return weights.reshape(trajectory.shape[:-1])
