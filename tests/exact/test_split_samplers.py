"""Split samplers against dense algebra, quadrature, and the exact law of their own recursions.

Where everything is affine in the random numbers, these are replaced by unit vectors, one row for
each: the exact mean and covariance of a draw come out without any sampling. Elsewhere a
Kolmogorov-Smirnov distance of K independent rows is compared with 2.2 / sqrt(K), which a right
kernel exceeds in 1 of 8000 runs; whitened means with 4.5 standard errors, 1 of 25000 in six
dimensions; whitened eigenvalues, whose range is 0.88 to 1.13, with 0.8 and 1.22.
"""

from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import pytest
import torch
from helpers import PIXELS, DenseOperator, Saturating, generator, small_prior, small_problem

from invdiff import Gaussian, Problem, REDDiff, geometric, karras, sample
from invdiff.certify.nonlinear import Square
from invdiff.conditional import draw_gaussian, draw_langevin, stiffness
from invdiff.integrators import DDIM, Heun, dpm_solver_2m, sde_dpm_solver_2m
from invdiff.linalg import as_matrix
from invdiff.operators import AsComplex, CartesianMRI, Identity, Inpainting, birdcage_maps
from invdiff.priors.gaussian import GaussianPrior
from invdiff.reverse import reverse
from invdiff.rng import Rng
from invdiff.samplers.daps import DAPS, ErrorVariance, NoiseVariance
from invdiff.samplers.pnp_dm import PnPDM
from invdiff.samplers.red_diff import LogWeight, PosteriorWeight, PowerWeight, TruncatedWeight

F64 = torch.float64
ROWS = 1500
KS = 2.2 / ROWS**0.5


class Units:
    """Random numbers of which row j has a 1 in place j, all others 0; the last row has none."""

    def __init__(self, rows: int) -> None:
        self.rows, self.used = rows, 0

    def normal(self, like):
        if like.is_complex():
            return torch.view_as_complex(self.normal(torch.view_as_real(like)))
        size = like[0].numel()
        eye = torch.eye(self.rows, dtype=like.dtype)[:, self.used : self.used + size]
        self.used += size
        return eye.reshape(like.shape).clone()


def affine_law(draw, numbers: int):
    """The mean and covariance of ``draw(rows, rng)``, affine in that many random numbers."""
    rng = Units(numbers + 1)
    x = draw(numbers + 1, rng).flatten(1)
    assert rng.used == numbers
    root = x[:-1] - x[-1]
    return x[-1], root.T @ root


def mri() -> Problem:
    """Complex data of real channels, half of them observed."""
    mask = torch.tensor([1.0, 0, 1, 0]).expand(1, 1, 3, 4)
    operator = CartesianMRI(birdcage_maps(2, 3, 4), mask) @ AsComplex((1, 3, 4))
    clean = operator(torch.randn(1, *operator.domain, generator=generator(1), dtype=F64))
    noise = torch.randn(clean.shape, generator=generator(2), dtype=clean.dtype)
    y = (clean + 0.3 * noise) * operator.observed
    return Problem(y, operator, Gaussian(0.2))


def masked() -> Problem:
    operator = Inpainting(torch.tensor([[[[1.0, 0, 1], [0, 0, 1]]]]))
    y = torch.randn(1, 1, 2, 3, generator=generator(3), dtype=F64) * operator.observed
    levels = torch.linspace(0.1, 0.6, 6, dtype=F64).reshape(1, 1, 2, 3)
    return Problem(y, operator, Gaussian(levels))


PROBLEMS = {"dense": lambda: small_problem(1), "masked": masked, "mri": mri}


def conditional_law(problem: Problem, center: torch.Tensor, variance: float):
    """Mean, covariance by dense algebra, complex numbers as pairs of real ones."""
    matrix, y = as_matrix(problem.operator)[0], problem.y.flatten(1)[0]
    weight = problem.precision.expand(problem.y.shape).flatten(1)[0].double()
    if y.is_complex():
        y, weight = torch.cat([y.real, y.imag]), torch.cat([weight, weight])
    precision = matrix.T * weight @ matrix + torch.eye(matrix.shape[1], dtype=F64) / variance
    covariance = torch.linalg.inv(precision)
    return covariance @ (matrix.T @ (weight * y) + center / variance), covariance


def centre(problem: Problem) -> torch.Tensor:
    return torch.linspace(-1, 1, torch.Size(problem.operator.domain).numel(), dtype=F64)


# Near the data and near another image.


@pytest.mark.parametrize("variance", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("name", PROBLEMS)
def test_gaussian_draw_has_the_exact_law(name, variance):
    """To 1e-8 of the size, what conjugate gradients to 1e-12 leave."""
    problem = PROBLEMS[name]()
    c = centre(problem)
    mean, covariance = conditional_law(problem, c, variance)

    def draw(rows, rng):
        many = problem.rows(torch.zeros(rows, dtype=torch.long))
        at = c.reshape(problem.operator.domain).expand(rows, *problem.operator.domain)
        return draw_gaussian(many, at, variance, rng, tolerance=1e-12, iterations=300)

    numbers = len(c) + problem.y[0].numel() * (2 if problem.y.is_complex() else 1)
    found_mean, found = affine_law(draw, numbers)
    assert (found_mean - mean).abs().max() < 1e-8 * (1 + mean.abs().max())
    assert (found - covariance).abs().max() < 1e-8 * covariance.abs().max()


def test_gaussian_draw_keeps_its_tolerance():
    """Errors in units of the draw's standard deviation stay below tolerance times the residual."""
    problem, c, variance = small_problem(1), centre(small_problem(1)), 1e4
    many = problem.rows(torch.zeros(50, dtype=torch.long))
    at = c.expand(50, PIXELS)
    rough = draw_gaussian(many, at, variance, Rng(0, [0], 50), tolerance=1e-3)
    exact = draw_gaussian(many, at, variance, Rng(0, [0], 50), tolerance=1e-13, iterations=500)
    _, covariance = conditional_law(problem, c, variance)
    white = torch.linalg.solve(torch.linalg.cholesky(covariance), (rough - exact).T)
    moved = at + variance**0.5 * Rng(0, [0], 50).normal(at)
    right = (many.precision.sqrt() * many.residual(moved)).norm(dim=1) + 4 * 2  # and the noise
    assert (white.norm(dim=0) <= 1e-3 * right).all()


def moments_agree(x, mean, covariance) -> bool:
    white = torch.linalg.solve(torch.linalg.cholesky(covariance), (x - mean).T)
    values = torch.linalg.eigvalsh(torch.cov(white))
    centred = float(white.mean(1).abs().max()) < 4.5 / ROWS**0.5
    return centred and 0.8 < float(values[0]) and float(values[-1]) < 1.22


@pytest.mark.parametrize("variance", [0.05, 4.0])
def test_langevin_draw_has_the_exact_moments(variance):
    """A linear operator again: the same law as above, by a chain."""
    problem = small_problem(1)
    many, c = problem.rows(torch.zeros(ROWS, dtype=torch.long)), centre(problem)
    mean, covariance = conditional_law(problem, c, variance)
    at = c.expand(ROWS, PIXELS)
    for scale in (1.0, 1.6):
        start = at + (scale * variance) ** 0.5 * Rng(0, [0], ROWS).normal(at)
        x = draw_langevin(many, start, at, scale * variance, Rng(1, [0], ROWS), steps=200)
        assert moments_agree(x, mean, covariance) == (scale == 1)


def square_problem(rows: int = ROWS) -> Problem:
    return Problem(torch.ones(rows, 1, dtype=F64), Square((1,)), Gaussian(0.5))


GRID = torch.linspace(-8, 8, 16001, dtype=F64)


def distance(x: torch.Tensor, log_density: torch.Tensor) -> float:
    """Kolmogorov-Smirnov, of samples from a density on the grid."""
    cumulative = log_density.softmax(0).cumsum(0)
    ordered = x.flatten().sort().values
    place = torch.searchsorted(GRID, ordered).clamp(max=len(GRID) - 1)
    ranks = (torch.arange(len(ordered), dtype=F64) + 0.5) / len(ordered)
    return float((cumulative[place] - ranks).abs().max())


@pytest.mark.parametrize("variance", [0.3, 3.0])
def test_langevin_draw_of_a_nonlinear_operator(variance):
    """x^2 = 1 +- 0.5 near 0.4, from far away and from the flat point 0: two modes, one heavier."""
    problem = square_problem()
    c = torch.full((ROWS, 1), 0.4, dtype=F64)
    truth = -((1 - GRID**2) ** 2) / 0.5 - (GRID - 0.4) ** 2 / (2 * variance)
    for start in (torch.zeros_like(c), 3 * Rng(0, [0], ROWS).normal(c)):
        x = draw_langevin(problem, start, c, variance, Rng(2, [0], ROWS), steps=200)
        assert distance(x, truth) < KS
    few = draw_langevin(problem, 0 * c, c, variance, Rng(2, [0], ROWS), steps=2)
    assert distance(few, truth) > KS


def test_no_variance_gives_the_centre():
    """What an error variance that underflows asks for."""
    problem, c = small_problem(2, kind=Saturating), torch.ones(2, PIXELS, dtype=F64)
    start = c + 1
    for variance in (0.0, 1e-310):
        x = draw_langevin(problem, start, c, variance, Rng(0, [0, 1], 1), steps=3)
        assert torch.equal(x, c)
    near = draw_langevin(problem, c, c, 1e-280, Rng(0, [0, 1], 1), steps=3)
    assert torch.allclose(near, c)
    x = draw_gaussian(small_problem(2), c, 0.0, Rng(0, [0, 1], 1))
    assert torch.equal(x, c)


def test_langevin_rows_and_breaks():
    problem = small_problem(3, kind=Saturating)
    c = torch.zeros(3, PIXELS, dtype=F64)
    x = draw_langevin(problem, c, c, 1.0, Rng(0, ["a", "b", "c"], 1), steps=20)
    alone = draw_langevin(
        problem.rows(torch.tensor([1])), c[:1], c[:1], 1.0, Rng(0, ["b"], 1), steps=20
    )
    assert torch.allclose(alone[0], x[1], atol=1e-12)
    c[2, 0] = torch.nan
    broken = draw_langevin(problem, c, c, 1.0, Rng(0, ["a", "b", "c"], 1), steps=20)
    assert torch.isnan(broken[2]).any()
    assert torch.allclose(broken[:2], x[:2], atol=1e-12)
    sick = problem.operator.matrix.clone()
    sick[0, 0, 0] = torch.nan
    task = Problem(problem.y, Saturating(sick), problem.noise)
    start = torch.zeros(3, PIXELS, dtype=F64)
    assert torch.isnan(
        draw_langevin(task, start, start, 1.0, Rng(0, [0, 1, 2], 1), steps=5)[0]
    ).any()


def test_stiffness_is_the_largest_eigenvalue():
    problem = small_problem(3)
    probe = torch.randn(3, PIXELS, generator=generator(0), dtype=F64)
    found = stiffness(problem, 0 * probe, probe, iterations=200)
    a = problem.operator.matrix
    exact = torch.linalg.eigvalsh(a.mT @ a)[:, -1] / 0.09
    assert torch.allclose(found, exact, rtol=1e-6)
    few = stiffness(problem, 0 * probe, probe)
    assert (few <= exact * (1 + 1e-12)).all()
    assert (few > 0.8 * exact).all()
    x = 0.3 * torch.randn(3, PIXELS, generator=generator(1), dtype=F64)
    bent = small_problem(3, kind=Saturating)
    slope = (1 - (a @ x[..., None]).tanh() ** 2) * a
    exact = torch.linalg.eigvalsh(slope.mT @ slope)[:, -1] / 0.09
    assert torch.allclose(stiffness(bent, x, probe, iterations=300), exact, rtol=1e-6)


# The prior's own process.


@pytest.mark.parametrize(("steps", "bound"), [(15, 0.1), (60, 0.006)])
def test_reverse_draws_the_clean_image(steps, bound):
    """The law of x0 given x, affine in the noise: its moments without sampling, second order."""
    prior, sigma = small_prior(), torch.tensor(0.7, dtype=F64)
    x = torch.randn(1, PIXELS, generator=generator(4), dtype=F64)
    numbers = PIXELS * (steps - 1)
    mean, covariance = affine_law(
        lambda rows, rng: reverse(
            prior, x.expand(rows, -1), sigma, sde_dpm_solver_2m(), steps, rng
        ),
        numbers,
    )
    c = prior.covariance
    exact = 0.49 * c @ torch.linalg.inv(c + 0.49 * torch.eye(PIXELS, dtype=F64))
    root = torch.linalg.cholesky(exact)
    white = torch.linalg.solve(root, torch.linalg.solve(root, covariance).T)
    assert (torch.linalg.eigvalsh(white) - 1).abs().max() < bound
    shift = torch.linalg.solve(root, mean - prior(x, sigma)[0])
    assert shift.abs().max() < bound


@pytest.mark.parametrize(
    "integrator", [DDIM(), Heun(), dpm_solver_2m()], ids=["euler", "heun", "2m"]
)
def test_reverse_flow_reaches_the_prior(integrator):
    """Its end is m + C^(1/2) (C + sigma^2)^(-1/2) (x - m), but for what more steps remove."""
    prior, sigma = small_prior(), torch.tensor(2.0, dtype=F64)
    x = torch.randn(5, PIXELS, generator=generator(5), dtype=F64)
    gains = (prior.variances / (prior.variances + 4)).sqrt()
    exact = prior.mean + prior.basis.filter(x - prior.mean, gains)
    gaps = [
        float((reverse(prior, x, sigma, integrator, n, Rng(0, [0], 5)) - exact).abs().max())
        for n in (10, 40, 160)
    ]
    assert gaps[2] < 0.3 * gaps[1] < 0.3 * 0.4 * gaps[0]
    assert gaps[2] < 0.02


def test_reverse_below_the_prior_s_least_level_is_one_step():
    prior = small_prior()
    x = torch.randn(2, PIXELS, generator=generator(5), dtype=F64)
    least = torch.tensor(prior.sigma_min, dtype=F64)
    for sigma, steps in ((least, 10), (0.5 * least, 10), (1000 * least, 1)):
        once = reverse(prior, x, sigma, sde_dpm_solver_2m(), steps, Rng(0, [0], 2))
        assert torch.equal(once, prior(x, sigma))


# PnPDM.


def fixed_level(sampler, problem: Problem, prior, rho: float) -> torch.Tensor:
    """Samples of a run that stays at one level."""
    ladder = torch.tensor([rho, 0.0], dtype=F64)
    posterior = sample(problem, prior, sampler, ladder, samples=ROWS, seed=3, progress=False)
    return posterior.x[0]


class Tight(PnPDM):
    """Holds the two images closer than it says: the wrong prior variance."""

    def _fit(self, x, z, variance, problem, rng):
        return super()._fit(x, z, 0.6 * variance, problem, rng)


class Blind(PnPDM):
    """Forgets the data in one sweep of four."""

    def _fit(self, x, z, variance, problem, rng):
        x = super()._fit(x, z, variance, problem, rng)
        x[::4] = x[::4].mean(1, keepdim=True)
        return x


@pytest.mark.parametrize("broken", [None, Tight, Blind])
def test_pnp_dm_has_its_stationary_law(broken):
    """x at level rho has the posterior with the noise covariance sigma^2 + rho^2 A A^T."""
    problem, prior, rho = small_problem(1), small_prior(), 0.4
    kernel = broken or PnPDM
    x = fixed_level(kernel(last_sweeps=20, denoising_steps=15), problem, prior, rho)
    a, c = problem.operator.matrix[0], prior.covariance
    noise = 0.09 * torch.eye(len(a), dtype=F64) + rho**2 * a @ a.T
    gain = c @ a.T @ torch.linalg.inv(a @ c @ a.T + noise)
    mean = prior.mean + gain @ (problem.y[0] - a @ prior.mean)
    assert moments_agree(x, mean, c - gain @ a @ c) == (broken is None)


def one_number() -> GaussianPrior:
    return GaussianPrior.dense(torch.zeros(1, dtype=F64), torch.ones(1, 1, dtype=F64))


class Deaf(PnPDM):
    """Never hears of the data."""

    def _fit(self, x, z, variance, problem, rng):
        return x + variance**0.5 * rng.normal(x)


@pytest.mark.parametrize("broken", [None, Deaf])
def test_pnp_dm_has_its_stationary_law_under_a_nonlinear_operator(broken):
    """p(x) int p(y | z) N(z; x, rho^2) dz by quadrature, for x^2 = 1 +- 0.5."""
    rho = 0.25
    sampler = (broken or PnPDM)(last_sweeps=20, denoising_steps=12, langevin_steps=20)
    x = fixed_level(sampler, square_problem(1), one_number(), rho)
    coarse = GRID[::20]
    likelihood = torch.exp(-((1 - coarse**2) ** 2) / 0.5)
    smooth = torch.exp(-((GRID[:, None] - coarse) ** 2) / (2 * rho**2)) @ likelihood
    found = distance(x, -0.5 * GRID**2 + smooth.log())
    assert (found < KS) == (broken is None)


@cache
def anisotropic() -> tuple[GaussianPrior, Problem]:
    """Sixteen numbers, variances from 1 to 0.01; eight measurements with noise 0.1."""
    source = generator(0)
    vectors = torch.linalg.qr(torch.randn(16, 16, generator=source, dtype=F64)).Q
    variances = torch.logspace(0, -2, 16, dtype=F64)
    prior = GaussianPrior.dense(torch.zeros(16, dtype=F64), vectors * variances @ vectors.T)
    matrix = torch.randn(1, 8, 16, generator=source, dtype=F64) / 4
    x = vectors @ (variances.sqrt() * torch.randn(16, generator=source, dtype=F64))
    y = matrix[0] @ x + 0.1 * torch.randn(8, generator=source, dtype=F64)
    return prior, Problem(y[None], DenseOperator(matrix), Gaussian(0.1))


def fit(sampler, ladder, draws: int) -> tuple[float, float, float]:
    """The divergence of the samples' Gaussian from the exact one, and the extreme eigenvalues."""
    prior, problem = anisotropic()
    truth = prior.posterior(problem)
    posterior = sample(problem, prior, sampler, ladder, samples=draws, seed=0, progress=False)
    root = torch.linalg.cholesky(truth.covariance[0])
    white = torch.linalg.solve(root, (posterior.x[0] - truth.mean[0]).T)
    values = torch.linalg.eigvalsh(torch.cov(white))
    shift = white.mean(1).square().sum()
    divergence = 0.5 * float(values.sum() - 16 + shift - values.log().sum())
    return divergence, float(values[0]), float(values[-1])


def test_pnp_dm_converges_on_an_anisotropic_gaussian():
    """Exact draws score 0.038 and 0.83 to 1.19 with 2000 draws; measured 0.07, 0.91 to 1.24."""
    sampler = PnPDM(denoising_steps=10)
    close, low, high = fit(sampler, geometric(60, 0.03, 3.0), 2000)
    assert close < 0.1
    assert 0.8 < low < high < 1.25
    far, _, too_wide = fit(sampler, geometric(20, 0.1, 3.0), 500)
    assert far > 0.3
    assert too_wide > 1.8


# DAPS.


@pytest.mark.parametrize("variance", [NoiseVariance(), ErrorVariance(), NoiseVariance(0.5)])
def test_daps_has_the_law_of_its_recursion(variance):
    """Under a Gaussian prior every part is affine; the whole, multiplied out with matrices.

    Mean and covariance go level by level through the flow, the conditional draw and the noise.
    """
    prior, problem = small_prior(), small_problem(1)
    ladder = karras(5, 0.05, 4.0)
    sampler = DAPS(variance=variance, cg_tolerance=1e-12)
    mean, spread = torch.zeros(PIXELS, dtype=F64), 16 * torch.eye(PIXELS, dtype=F64)
    for sigma, sigma_next in pairwise(ladder):
        points = torch.cat([torch.eye(PIXELS, dtype=F64), torch.zeros(1, PIXELS, dtype=F64)])
        ends = reverse(prior, points, sigma, sampler.integrator, 5, Rng(0, [0], PIXELS + 1))
        flow, offset = (ends[:-1] - ends[-1]).T, ends[-1]
        mean, spread = flow @ mean + offset, flow @ spread @ flow.T
        r2 = float(variance(prior, sigma))
        zero, covariance = conditional_law(problem, 0 * mean, r2)
        mean = zero + covariance @ mean / r2
        spread = covariance + covariance @ spread @ covariance / r2**2
        spread = spread + sigma_next**2 * torch.eye(PIXELS, dtype=F64)
    options = {"samples": ROWS, "seed": 1, "progress": False}
    x = sample(problem, prior, sampler, ladder, **options).x[0]
    assert moments_agree(x, mean, spread)
    wrong = sample(problem, prior, DAPS(variance=NoiseVariance(2.0)), ladder, **options).x[0]
    assert not moments_agree(wrong, mean, spread)


def test_daps_is_too_wide():
    """As published tables say; exact draws have eigenvalues of 0.7 to 1.4 with 500 draws."""
    divergence, _, widest = fit(DAPS(), karras(60, 0.002, 80.0), 500)
    assert divergence > 1
    assert 2 < widest < 4


def test_daps_takes_any_operator():
    """Two signs are left; half of the samples find each: 4.5 standard errors."""
    problem, prior = square_problem(1), one_number()
    x = sample(problem, prior, DAPS(), karras(30, 0.01, 10.0), samples=400, progress=False).x[0]
    assert abs(int((x > 0).sum()) - 200) < 45
    assert 0.8 < float(x.abs().mean()) < 1.1


# REDDiff's weightings.


def test_weightings_are_the_published_ones():
    """As multiples of (mu - D): lambda f(sigma) / sigma for images and data of unit scale."""
    one = torch.ones(2, dtype=F64)
    published = {
        PowerWeight(1.0): lambda t: t,
        PowerWeight(0.5): lambda t: t**0.5,
        PowerWeight(2.0): lambda t: t**2,
        PowerWeight(2 / 3): lambda t: t ** (2 / 3),
        PowerWeight(0.0): lambda t: 1.0,
        LogWeight(): lambda t: torch.tensor(1 + t).log().item(),
        TruncatedWeight(): lambda t: min(t, 1.0),
        PosteriorWeight(): lambda t: 1 / t,
    }
    for weighting, function in published.items():
        for sigma in (0.1, 1.0, 7.0):
            found = weighting(sigma, 1.0, one)
            assert found.tolist() == pytest.approx([function(sigma) / sigma] * 2, rel=1e-6)
            # Images s times as large: the data's curvature and 1 / sigma^2 fall alike.
            scaled = weighting(5 * sigma, 5.0, one / 25)
            assert scaled.tolist() == pytest.approx((found / 25).tolist(), rel=1e-6)


def test_red_diff_finds_its_own_optimum():
    """Identity, Gaussian prior: with 1/sigma^2 the posterior mean; lambda pulls as it should.

    At the last levels g = W (mu - y) + lambda C^{-1} (mu - m). Measured 0.08: steps shrink with
    sigma, and leave a fifth of the posterior's deviation. Without the prior the gap is 0.2.
    """
    prior = GaussianPrior.dense(torch.zeros(3, dtype=F64), torch.eye(3, dtype=F64))
    y = torch.tensor([[1.0, -0.5, 0.3]], dtype=F64)
    problem = Problem(y, Identity((3,)), Gaussian(0.5))
    ladder = karras(400, 0.002, 10.0)
    for weight in (1.0, 4.0):
        sampler = REDDiff(prior_weight=weight)
        found = sample(problem, prior, sampler, ladder, samples=20, progress=False).mean[0]
        assert (found - 4 * y[0] / (4 + weight)).abs().max() < 0.12
    pulled = sample(
        problem, prior, REDDiff(weighting=PowerWeight(), prior_weight=0.25), ladder,
        samples=20, progress=False,
    ).mean[0]  # fmt: skip
    # The pull is 0.25 curvature (mu - D), nothing at low levels: the data alone are left.
    assert (pulled - y[0]).abs().max() < 0.05


@dataclass(frozen=True)
class Broken(REDDiff):
    """Drops the prior's weight."""

    def step(self, state, sigma, sigma_next, problem, prior, rng):
        free = REDDiff(prior_weight=0.0)
        return free.step(state, sigma, sigma_next, problem, prior, rng)


def test_a_dropped_weight_is_seen():
    y = torch.tensor([[1.0, -0.5, 0.3]], dtype=F64)
    prior = GaussianPrior.dense(torch.zeros(3, dtype=F64), torch.eye(3, dtype=F64))
    problem = Problem(y, Identity((3,)), Gaussian(0.5))
    ladder = karras(400, 0.002, 10.0)
    found = sample(problem, prior, Broken(), ladder, samples=20, progress=False).mean[0]
    assert (found - 0.8 * y[0]).abs().max() > 0.12


@pytest.mark.parametrize("excess", [1.0, 1 + 1e-12, 1.005, 1.02])
def test_a_walk_from_the_lowest_level_is_one_step(excess):
    """Levels that differ by rounding leave multistep integrators nothing to divide by."""
    prior = small_prior()
    level = torch.tensor(prior.sigma_min * excess, dtype=torch.float64)
    x = prior.mean + float(level) * torch.ones(2, PIXELS, dtype=torch.float64)
    clean = reverse(prior, x, level, dpm_solver_2m(), 5, Rng(0, range(2), 1))
    assert float((clean - prior(x, level)).abs().max()) < 2 * float(level) * (excess - 1) + 1e-9
