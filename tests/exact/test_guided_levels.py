"""One level of the guided samplers against dense algebra."""

from dataclasses import dataclass

import pytest
import torch
from linear_gaussian import MEASURED, gaussian, matrix_problem, normal
from torch import Tensor

from invdiff import Gaussian, Problem, conditioning
from invdiff.integrators import Estimate
from invdiff.linalg import as_matrix
from invdiff.operators import AsComplex, CartesianMRI, Inpainting
from invdiff.priors.gaussian import GaussianPrior
from invdiff.rng import Rng
from invdiff.samplers.ddnm import DDNM
from invdiff.samplers.diffpir import DiffPIR
from invdiff.samplers.guided import Place
from invdiff.samplers.lgd import LGD
from invdiff.samplers.mmps import MMPS
from invdiff.samplers.mpgd import MPGD
from invdiff.samplers.pigdm import PiGDM
from invdiff.samplers.tmpd import TMPD

ROUNDING = 1e-8  # direct and iterative solves in float64, of condition numbers up to 1e4
LEVEL = torch.tensor(0.4, dtype=torch.float64)


def image_problem(operator, sigma: float | Tensor = 0.2) -> tuple[Problem, GaussianPrior]:
    prior = gaussian(5, operator.domain)
    clean = operator(prior.draw(Rng(0, [0, 1], 1)))
    y = clean + 0.2 * normal(*clean.shape, seed=8)
    return Problem(y * operator.observed, operator, Gaussian(sigma)), prior


def uneven_inpainting() -> tuple[Problem, GaussianPrior]:
    sigma = 0.1 + normal(1, 1, 4, 4, seed=3).abs()
    return image_problem(Inpainting.random((1, 4, 4), 0.5, seed=2), sigma)


def complex_coils() -> tuple[Problem, GaussianPrior]:
    real, imaginary = normal(1, 2, 3, 4, seed=1), normal(1, 2, 3, 4, seed=2)
    mask = torch.zeros(1, 1, 3, 4)
    mask[..., ::2] = 1
    maps = torch.complex(real, imaginary)
    return image_problem(CartesianMRI(maps, mask) @ AsComplex((1, 3, 4)))


CASES = {
    "matrix": lambda: (matrix_problem(rows=2), gaussian()),
    "inpainting": uneven_inpainting,
    "coils": complex_coils,
}


def place(problem: Problem, prior, reach: float = 1e-9, rng: Rng | None = None) -> Place:
    """At a random image; with hardly any reach, nothing can overshoot."""
    rng = rng or Rng(0, list(range(len(problem))), 1)
    x = normal(len(problem), *problem.operator.domain, seed=7)
    return Place(x, LEVEL, reach, problem.y.real.new_empty(len(problem), 0), problem, prior, rng)


@dataclass(frozen=True)
class Algebra:
    """The same problem in matrices and vectors: B = W^(1/2) A, r = W^(1/2) (y - A D)."""

    b: Tensor
    residual: Tensor
    clean: Tensor
    jacobian: Tensor
    weights: Tensor


def algebra(spot: Place, prior: GaussianPrior) -> Algebra:
    problem = spot.problem
    clean = prior(spot.x, spot.sigma)
    residual = problem.residual(clean).flatten(1)
    weights = problem.precision.expand(problem.y.shape).flatten(1)
    if residual.is_complex():
        residual = torch.cat([residual.real, residual.imag], 1)
        weights = torch.cat([weights, weights], 1)
    root = weights.sqrt()
    identity = torch.eye(prior.mean.numel(), dtype=torch.float64)
    covariance = prior.covariance
    jacobian = covariance @ torch.linalg.inv(covariance + spot.sigma**2 * identity)
    b = root[..., None] * as_matrix(problem.operator)
    return Algebra(b, (root * residual)[..., None], clean.flatten(1), jacobian, weights)


def guided(known: Algebra, spread: Tensor) -> Tensor:
    """D + sigma^2 J^T B^T (I + spread)^-1 r, for ``spread`` (b, m, m) of the whitened data."""
    total = torch.eye(known.b.shape[1], dtype=torch.float64) + spread
    pull = known.b.mT @ torch.linalg.solve(total, known.residual)
    return known.clean + LEVEL**2 * (known.jacobian.T @ pull)[..., 0]


def gap(estimate: Estimate, expected: Tensor) -> float:
    return float((estimate.x0.flatten(1) - expected).abs().max())


@pytest.mark.parametrize("variance", [None, 0.7])
@pytest.mark.parametrize("solver", ["closed form", "conjugate gradients"])
@pytest.mark.parametrize("case", CASES)
def test_pigdm_against_explicit_inverse(case, solver, variance, monkeypatch):
    if solver == "conjugate gradients":
        monkeypatch.setattr(conditioning, "small_singular_system", lambda problem: None)
    problem, prior = CASES[case]()
    spot = place(problem, prior)
    known = algebra(spot, prior)
    noise = float(LEVEL) ** 2
    spread = float(prior.error_variance(LEVEL))
    if variance is not None:
        spread = noise * variance / (noise + variance)
    expected = guided(known, spread * known.b @ known.b.mT)
    sampler = PiGDM(variance=variance, cg_tolerance=1e-12)
    assert gap(sampler.estimate(spot), expected) < ROUNDING
    assert gap(PiGDM(variance=2.0).estimate(spot), expected) > 1e-3  # a wrong one is seen


def test_pigdm_never_overshoots_along_its_step():
    """Where the step is shortened, the divisor is at least what the exact curvature asks for."""
    problem, prior = matrix_problem(rows=2), gaussian()
    spot, free = place(problem, prior, reach=0.99), place(problem, prior)
    known = algebra(spot, prior)
    variance = float(prior.error_variance(LEVEL))
    start = known.clean
    full, cut = (PiGDM().estimate(at).x0 - start for at in (free, spot))
    kept = (cut * full).sum(1) / full.square().sum(1)
    assert float((cut - kept[:, None] * full).abs().max()) < ROUNDING  # shortened, not turned
    gradient = full[..., None] / LEVEL**2
    total = torch.eye(MEASURED, dtype=torch.float64) + variance * known.b @ known.b.mT
    change = known.b @ known.jacobian @ gradient
    bend = (change.mT @ torch.linalg.solve(total, change))[:, 0, 0]
    overshoot = 0.99 * LEVEL**2 * bend / gradient.square().sum((1, 2))
    assert bool((1 / kept >= overshoot.clamp(min=1) - ROUNDING).all())


@pytest.mark.parametrize("case", CASES)
def test_mmps_is_the_posterior_mean(case):
    """E[x0 | x, y] of a Gaussian prior: two measurements of x0, one of them with noise sigma."""
    problem, prior = CASES[case]()
    spot = place(problem, prior)
    known = algebra(spot, prior)
    identity = torch.eye(prior.mean.numel(), dtype=torch.float64)
    given_x = torch.linalg.inv(prior.covariance) + identity / LEVEL**2
    hessian = given_x + known.b.mT @ known.b
    shift = torch.linalg.solve(hessian, known.b.mT @ known.residual)[..., 0]
    estimate = MMPS(cg_tolerance=1e-12).estimate(spot)
    assert gap(estimate, known.clean + shift) < ROUNDING
    assert gap(PiGDM().estimate(spot), known.clean + shift) > 1e-2


@pytest.mark.parametrize("case", CASES)
def test_tmpd_against_explicit_row_sums(case):
    problem, prior = CASES[case]()
    spot = place(problem, prior)
    known = algebra(spot, prior)
    a = as_matrix(problem.operator)
    seen = (known.weights > 0).double()
    sums = LEVEL**2 * (a @ known.jacobian @ a.mT @ seen[..., None])[..., 0]
    clamped = known.weights * sums.clamp(min=0)
    assert gap(TMPD().estimate(spot), guided(known, torch.diag_embed(clamped))) < ROUNDING
    assert bool((sums < 0).any()) or case == "inpainting"  # the clamp is met


@pytest.mark.parametrize("solver", ["closed form", "conjugate gradients"])
@pytest.mark.parametrize("case", CASES)
def test_diffpir_against_dense_minimum(case, solver, monkeypatch):
    if solver == "conjugate gradients":
        monkeypatch.setattr(conditioning, "small_singular_system", lambda problem: None)
    problem, prior = CASES[case]()
    spot = place(problem, prior)
    known = algebra(spot, prior)
    for weight in (1.0, 8.0):
        identity = torch.eye(prior.mean.numel(), dtype=torch.float64)
        error = float(prior.error_variance(LEVEL))
        hessian = known.b.mT @ known.b + weight / error * identity
        expected = known.clean + torch.linalg.solve(hessian, known.b.mT @ known.residual)[..., 0]
        estimate = DiffPIR(prior_weight=weight, cg_tolerance=1e-12).estimate(spot)
        assert gap(estimate, expected) < ROUNDING
    assert gap(DiffPIR(prior_weight=2.0).estimate(spot), expected) > 1e-3


@pytest.mark.parametrize("case", CASES)
def test_mpgd_reaches_the_minimum_along_its_gradient(case):
    """Its step is a multiple of B* r, and |y - A x|^2 + |x - D|^2 / v is flat along it there."""
    problem, prior = CASES[case]()
    spot = place(problem, prior)
    known = algebra(spot, prior)
    estimate = MPGD().estimate(spot)
    moved = (estimate.x0.flatten(1) - known.clean)[..., None]
    gradient = known.b.mT @ known.residual
    length = (moved * gradient).sum((1, 2)) / gradient.square().sum((1, 2))
    assert float((moved - length[:, None, None] * gradient).abs().max()) < ROUNDING
    variance = float(prior.error_variance(LEVEL))
    slope = gradient - known.b.mT @ (known.b @ moved) - moved / variance
    along = (slope * gradient).sum((1, 2)) / gradient.square().sum((1, 2))
    assert float(along.abs().max()) < ROUNDING
    half = MPGD(step_size=0.5).estimate(spot).x0.flatten(1) - known.clean
    assert float((2 * half - moved[..., 0]).abs().max()) < ROUNDING
    assert estimate.noise is not None
    direction = (spot.x.flatten(1) - known.clean) / LEVEL
    assert float((estimate.noise.flatten(1) - direction).abs().max()) < ROUNDING


@pytest.mark.parametrize("case", CASES)
def test_lgd_against_automatic_differentiation(case):
    """The gradient of the averaged likelihood, its guesses held, with respect to x."""
    problem, prior = CASES[case]()
    names, draws = list(range(len(problem))), 5
    spot = place(problem, prior, rng=Rng(3, names, 1))
    spread = float(prior.error_variance(LEVEL).sqrt())
    x = spot.x.clone().requires_grad_(True)
    again, clean = Rng(3, names, 1), prior(x, LEVEL)
    guesses = [clean + spread * again.normal(clean) for _ in range(draws)]
    logs = torch.stack([-0.5 * problem.misfit(guess) for guess in guesses])
    (gradient,) = torch.autograd.grad(logs.logsumexp(0).sum(), x)
    expected = (clean + LEVEL**2 * gradient).detach().flatten(1)
    assert gap(LGD(draws=draws).estimate(spot), expected) < ROUNDING
    assert gap(LGD(draws=draws + 1).estimate(place(problem, prior)), expected) > 1e-3


@pytest.mark.parametrize("case", CASES)
def test_ddnm_fits_the_data_and_keeps_the_rest(case):
    problem, prior = CASES[case]()
    spot = place(problem, prior)
    known = algebra(spot, prior)
    estimate = DDNM().estimate(spot)
    moved = (estimate.x0.flatten(1) - known.clean)[..., None]
    pseudo = torch.linalg.pinv(known.b, rtol=1e-10)
    assert float((moved - pseudo @ known.residual).abs().max()) < ROUNDING
    if case != "coils":  # more numbers than pixels: they cannot all be fitted
        assert float(problem.chi2(estimate.x0).max()) < ROUNDING
