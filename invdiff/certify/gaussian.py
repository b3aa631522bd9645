"""Gaussian images under six operators, and one strongly anisotropic Gaussian."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from invdiff.certify.case import Case, Truth
from invdiff.ladder import karras
from invdiff.noise import Gaussian
from invdiff.operators import (
    AsComplex,
    CartesianMRI,
    Inpainting,
    Matrix,
    MeanPooling,
    Operator,
    ParallelBeamCT,
    birdcage_maps,
    cartesian_mask,
)
from invdiff.priors.gaussian import GaussianPrior
from invdiff.problem import Problem
from invdiff.rng import Rng

__all__ = ["OPERATORS", "anisotropic", "gaussian_images", "grid_covariance", "simulate"]

STD, LENGTH = 0.15, 3.0


def grid_covariance(side: int, std: float = STD, length: float = LENGTH) -> Tensor:
    """The covariance std^2 exp(-d / length) of the pixels of a square image, d in pixels."""
    ticks = torch.arange(side, dtype=torch.float64)
    place = torch.cartesian_prod(ticks, ticks)
    return std**2 * torch.exp(-torch.cdist(place, place) / length)


def simulate(images: Tensor, operator: Operator, sigma: float, rng: Rng) -> Problem:
    """Measures images (items, *shape), in single precision as users have them."""
    clean = operator(images)
    y = clean + sigma * rng.normal(clean)
    if operator.observed is not None:
        y = y * operator.observed
    return Problem(y.to(torch.complex64 if y.is_complex() else torch.float32), operator,
                   Gaussian(sigma))  # fmt: skip


def inpainting(side: int) -> Operator:
    return Inpainting.random((1, side, side), 0.5, 0)


def super_resolution(side: int) -> Operator:
    return MeanPooling((1, side, side), 2)


def deblurring(side: int) -> Operator:
    """A Gaussian blur of one pixel, renormalised at the borders."""
    ticks = torch.arange(side, dtype=torch.float64)
    row = torch.exp(-0.5 * (ticks[:, None] - ticks).square())
    row = row / row.sum(1, keepdim=True)
    return Matrix(torch.kron(row, row)[None], (1, side, side))


def tomography(side: int) -> Operator:
    """Eight views; a ray through the image is about as heavy as a pixel."""
    return ParallelBeamCT((side, side), views=8, pixel_size=0.3)


def stiff_tomography(side: int) -> Operator:
    """The same with longer pixels: the noise is three times smaller beside the data."""
    return ParallelBeamCT((side, side), views=8, pixel_size=1.0)


def magnetic_resonance(side: int) -> Operator:
    """Half of the columns of k-space, four coils; real and imaginary parts are two channels."""
    mask = cartesian_mask((side, side), 2.0, 0.25, seed=0).mask
    return CartesianMRI(birdcage_maps(4, side, side), mask) @ AsComplex((1, side, side))


OPERATORS: dict[str, tuple[str, Callable[[int], Operator]]] = {
    "inpainting": ("inpainting, 50 %", inpainting),
    "sr": ("super-resolution x2", super_resolution),
    "deblur": ("Gaussian deblurring", deblurring),
    "ct": ("CT, 8 views", tomography),
    "ct-stiff": ("CT, 8 views, long rays", stiff_tomography),
    "mri": ("MRI, 4 coils, x2", magnetic_resonance),
}


def gaussian_images(
    name: str, operator: str, side: int, sigma: float, items: int, draws: int
) -> Case:
    """``items`` images of a Gaussian prior, measured once each; ``draws`` exact ones of every."""
    what, make = OPERATORS[operator]
    model = make(side)
    channels = model.domain[0]
    mean = torch.zeros(model.domain, dtype=torch.float64)
    mean[0] = 0.5
    covariance = torch.kron(torch.eye(channels, dtype=torch.float64), grid_covariance(side))
    prior = GaussianPrior.dense(mean, covariance)
    rng = Rng(0, tuple(f"{name}/{k}" for k in range(items)), 1)
    images = prior.draw(rng)
    problem = simulate(images, model, sigma, rng.at(1))
    title = f"Gaussian images, {side} x {side}, {what}, noise {sigma:g}"
    return _case(name, title, problem, prior, images, draws, prior.sigma_min, prior.sigma_max)


def anisotropic(name: str, items: int, draws: int) -> Case:
    """Sixteen numbers with variances from 1 to 0.01, eight random combinations, noise 0.1."""
    pixels, measured = 16, 8
    rng = Rng(0, [name], 1)
    like = torch.empty(1, pixels, pixels, dtype=torch.float64)
    vectors = torch.linalg.qr(rng.normal(like)[0]).Q
    variances = torch.logspace(0, -2, pixels, dtype=torch.float64)
    mean = torch.zeros(pixels, dtype=torch.float64)
    prior = GaussianPrior.dense(mean, vectors * variances @ vectors.T)
    matrix = rng.at(1).normal(like[:, :measured]) / math.sqrt(pixels)
    rows = Rng(1, tuple(f"{name}/{k}" for k in range(items)), 1)
    images = prior.draw(rows)
    problem = simulate(images, Matrix(matrix), 0.1, rows.at(1))
    title = "Anisotropic Gaussian, 16 unknowns, 8 measurements, noise 0.1"
    return _case(name, title, problem, prior, images, draws, 0.002, 80.0)


def _case(
    name: str,
    title: str,
    problem: Problem,
    prior: GaussianPrior,
    images: Tensor,
    draws: int,
    low: float,
    high: float,
) -> Case:
    exact = prior.posterior(problem)
    covariance = exact.covariances[0, 0]  # the same for every measurement
    values, vectors = torch.linalg.eigh(covariance)
    noise = torch.randn(
        *(len(images), draws, len(values)),
        dtype=torch.float64,
        generator=torch.Generator().manual_seed(0),
    )
    centred = (noise * values.clamp(min=0).sqrt()) @ vectors.T
    truth = Truth(
        exact.mean,
        covariance.expand(len(images), -1, -1),
        exact.mean[:, None] + centred.reshape(len(images), draws, *images.shape[1:]),
        exact.log_evidence,
    )
    return Case(name, title, problem, prior, images, truth, lambda steps: karras(steps, low, high))
