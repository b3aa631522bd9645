"""The gold standard: a Gibbs sampler against quadrature, an exact denoiser, and the joint law."""

from dataclasses import replace

import pytest
import torch
from helpers import generator
from scipy import stats

from invdiff import Gaussian, Problem
from invdiff.certify import collapsed, levy
from invdiff.certify.gibbs import Gibbs, GibbsState, split_r_hat
from invdiff.certify.latents import Exponential, InverseGamma, mixture_of
from invdiff.certify.levy import OPERATORS, levy_case
from invdiff.operators.matrix import Matrix
from invdiff.priors.increments import BernoulliLaplace, Gauss, Laplace, Student
from invdiff.priors.lattice import lattice_for
from invdiff.priors.levy import LevyPrior
from invdiff.priors.smoothing import posterior_moments
from invdiff.rng import Rng

LAWS = [
    Gauss(0.25),
    Laplace(1.0),
    Student(1),
    Student(2),
    Student(3),
    BernoulliLaplace(0.1, 1.0),
    BernoulliLaplace(0.4, 2.0),
]
NAMES = [repr(law) for law in LAWS]


def measured(prior, matrix, sigma, items, seed):
    x = prior.draw(Rng(seed, range(items), 1))
    clean = x @ matrix.T
    y = clean + sigma * torch.randn(clean.shape, generator=generator(seed), dtype=torch.float64)
    return x, Problem(y, Matrix(matrix[None]), Gaussian(sigma))


def scores(draws, exact):
    """Errors of the chains' means (items, n) in their own standard errors, Student distributed."""
    means = draws.mean(2)
    return (means.mean(1) - exact) / (means.std(1) / means.shape[1] ** 0.5)


def quadrature(law, problem, spacing=0.1, reach=60):
    """E[x | y] of three samples, by sums over a cube of increments, (items, 3)."""
    steps = torch.arange(-reach, reach + 1, dtype=torch.float64)
    mass = (1 - law.atom) * spacing * law.log_density(spacing * steps).exp()
    mass[reach] += law.atom
    u = spacing * torch.stack(torch.meshgrid(steps, steps, steps, indexing="ij")).flatten(1)
    x = u.cumsum(0)
    prior = torch.einsum("i,j,k->ijk", mass, mass, mass).flatten()
    means = []
    for y in problem.y:
        residual = y[:, None] - problem.operator.matrix[0] @ x
        weight = prior * (-0.5 * residual.square().sum(0) / problem.noise.sigma**2).exp()
        means.append((x @ weight) / weight.sum())
    return torch.stack(means)


@pytest.mark.parametrize("law", [Laplace(1.0), Student(1), BernoulliLaplace(0.4, 2.0)], ids=repr)
def test_means_match_quadrature_with_fewer_data_than_samples(law):
    # Increments beyond 6, left out by the cube, are ruled out by the first and last sample's data.
    matrix = torch.tensor([[1.0, 0.2, -0.1], [0.3, -0.2, 1.0]], dtype=torch.float64)
    prior = LevyPrior(law, 3)
    y = torch.tensor([[0.5, 1.5], [-0.2, 0.1]], dtype=torch.float64)
    problem = Problem(y, Matrix(matrix[None]), Gaussian(0.4))
    draws = Gibbs(prior, problem, chains=100).run(20, 60, 1, generator(0)).signals
    tolerance = 0.01 * draws.flatten(1, 2).std(
        1
    )  # of the cube: its end, and the kink of a density
    error = (draws.flatten(1, 2).mean(1) - quadrature(law, problem)).abs() - tolerance
    standard = draws.mean(2).std(1) / 10
    # 6 normal numbers beyond 4.5: one false alarm in 2e4.
    assert float((error / standard).max()) < 4.5


@pytest.mark.parametrize("law", LAWS, ids=NAMES)
@pytest.mark.parametrize("sigma", [0.3, 2.0])
def test_means_and_variances_match_the_exact_denoiser(law, sigma):
    prior = LevyPrior(law, 12)
    _, problem = measured(prior, torch.eye(12, dtype=torch.float64), sigma, 4, seed=3)
    mean, variance = posterior_moments(problem.y, sigma, lattice_for(law, 12, sigma))
    draws = Gibbs(prior, problem, chains=40).run(30, 60, 1, generator(1)).signals
    # 48 numbers of Student's law with 39 degrees of freedom beyond 5.5: one false alarm in 8000.
    assert float(scores(draws, mean).abs().max()) < 5.5
    squares = (draws - mean[:, None, None]).square()
    assert float(scores(squares, variance).abs().max()) < 5.5


@pytest.mark.parametrize("law", LAWS, ids=NAMES)
def test_moments_given_the_variances_average_to_those_of_the_posterior(law):
    """Mean and variance against the denoiser; both are those of the draws, with less noise."""
    prior = LevyPrior(law, 12)
    _, problem = measured(prior, torch.eye(12, dtype=torch.float64), 0.5, 4, seed=3)
    mean, variance = posterior_moments(problem.y, 0.5, lattice_for(law, 12, 0.5))
    found = Gibbs(prior, problem, chains=200).run(30, 100, 1, generator(1))
    draws = found.signals.flatten(1, 2)
    smallest = variance.amin(1)
    of_draws = (draws.mean(1) - mean).square().mean() / variance.mean()
    assert (found.mean - mean).square().mean() / variance.mean() <= of_draws
    # Between seeds, variances scatter by up to 5 % for rare jumps and 1 % for the other laws.
    ratio = found.covariance.diagonal(dim1=1, dim2=2) / variance
    assert float((ratio - 1).abs().max()) < (0.25 if law.atom else 0.05)
    assert float(torch.linalg.eigvalsh(found.covariance)[:, 0].min()) > 0.05 * smallest.min()


def test_the_moments_of_a_gaussian_walk_are_exact():
    """Given v, which is certain, nothing is left to chance: against dense algebra, to rounding."""
    prior, matrix = LevyPrior(Gauss(0.25), 12), torch.randn(5, 12, generator=generator(4)).double()
    _, problem = measured(prior, matrix, 0.3, 3, seed=2)
    found = Gibbs(prior, problem, chains=2).run(0, 3, 1, generator(0))
    time = torch.arange(1, 13, dtype=torch.float64)
    walk = 0.25 * torch.minimum(time[:, None], time)
    gain = walk @ matrix.T @ torch.linalg.inv(matrix @ walk @ matrix.T + 0.09 * torch.eye(5))
    assert torch.allclose(found.mean, problem.y @ gain.T, atol=1e-9)
    exact = walk - gain @ matrix @ walk
    assert torch.allclose(found.covariance, exact.expand(3, -1, -1), atol=1e-9)


def joint_p_value(law, break_it=lambda gibbs: gibbs):
    """The smallest p-value, times their number, that sweeps leave p(x, y) as it is.

    The chains start at the truths that made their data, so that every state after a sweep is
    again a draw of the prior, independent between chains.
    """
    prior, matrix = LevyPrior(law, 6), torch.randn(3, 6, generator=generator(5)).double()
    x, problem = measured(prior, matrix, 0.5, 5000, seed=7)
    gibbs, source = break_it(Gibbs(prior, problem)), generator(2)
    u = torch.cat([x[:, :1], x.diff(dim=1)], 1)
    variances = mixture_of(law).given(u, source)
    state = GibbsState(u, variances, u != 0 if law.atom else torch.ones_like(u) > 0)
    for _ in range(6):
        state = gibbs.sweep(state, source)
    fresh = prior.draw(Rng(8, range(5000), 1)).diff(dim=1, prepend=torch.zeros(5000, 1))
    now = state.increments
    figures = [lambda u: u[:, 0], lambda u: u[:, -1], lambda u: u.sum(1), lambda u: u.abs().sum(1)]
    figures += [lambda u: (u[:, 1:] * u[:, :-1]).sum(1), lambda u: u.abs().amin(1)]
    values = [
        stats.ks_2samp(figure(now), figure(fresh), method="asymp").pvalue for figure in figures
    ]
    misfit = (problem.misfit(state.signal)).numpy()
    values.append(stats.kstest(misfit, stats.chi2(3).cdf).pvalue)
    if law.atom:
        counts = torch.stack([(now != 0).sum(1).bincount(minlength=7) for now in (now, fresh)])
        values.append(stats.chi2_contingency(counts[:, counts.sum(0) > 20]).pvalue)
    return min(values) * len(values)


@pytest.mark.parametrize("law", LAWS, ids=NAMES)
def test_sweeps_leave_the_joint_law_unchanged(law):
    assert joint_p_value(law) > 1e-4  # the false-alarm rate, by Bonferroni's inequality


def wrong_noise(gibbs):
    problem = Problem(gibbs.problem.y, gibbs.problem.operator, Gaussian(0.4))
    return Gibbs(gibbs.prior, problem)


def wrong_atom(gibbs):
    return Gibbs(LevyPrior(replace(gibbs.prior.law, probability=0.5), 6), gibbs.problem)


@pytest.mark.parametrize("law", [Laplace(1.0), Student(1), BernoulliLaplace(0.4, 2.0)], ids=repr)
def test_the_joint_test_sees_a_wrong_noise_level(law):
    assert joint_p_value(law, wrong_noise) < 1e-4


def test_the_joint_test_sees_wrong_conditionals(monkeypatch):
    assert joint_p_value(BernoulliLaplace(0.4, 2.0), wrong_atom) < 1e-4
    for mixture, law in ((Exponential, Laplace(1.0)), (InverseGamma, Student(3))):
        right = mixture.given
        with monkeypatch.context() as patch:
            patch.setattr(
                mixture, "given", lambda self, u, g, right=right: 1.3 * right(self, u, g)
            )
            assert joint_p_value(law) < 1e-4


def test_the_joint_test_sees_exchanges_without_rejection(monkeypatch):
    exchange = collapsed._exchange

    def always(first, second, m, source):
        exchange(first, second, m, source)
        return torch.ones_like(first) > 0

    monkeypatch.setattr(collapsed, "_exchange", always)
    assert joint_p_value(Student(1)) < 1e-4


def test_chains_from_wide_starts_agree_where_a_jump_is_free_to_move():
    # A jump of 20 between observed samples 2 and 6: it sits at any of four places, equally likely.
    prior, picked = LevyPrior(Student(1), 8), torch.tensor([0, 1, 5, 6, 7])
    x = torch.tensor([0.0, 0, 20, 20, 20, 20, 20, 20], dtype=torch.float64)
    matrix = torch.eye(8, dtype=torch.float64)[picked]
    problem = Problem((matrix @ x)[None], Matrix(matrix[None]), Gaussian(0.1))
    draws = Gibbs(prior, problem, chains=16).run(50, 200, 1, generator(0)).signals
    assert float(split_r_hat(draws).max()) < 1.1
    place = draws.diff(dim=3)[..., 1:5].abs().argmax(3).flatten()
    share = place.bincount(minlength=4) / len(place)
    # A standard error of 0.008 for independent draws, several times that for correlated ones.
    torch.testing.assert_close(share, torch.full((4,), 0.25), atol=0.1, rtol=0)


def test_split_r_hat_tells_mixed_from_stuck_and_from_drifting_chains():
    draws = torch.randn(2, 4, 400, 3, generator=generator(0), dtype=torch.float64)
    assert float((split_r_hat(draws) - 1).abs().max()) < 0.02
    stuck = draws + torch.arange(4.0)[:, None, None]
    drifting = draws + torch.linspace(0, 3, 400)[:, None]
    assert float(split_r_hat(stuck).min()) > 1.2
    assert float(split_r_hat(drifting).min()) > 1.2


@pytest.mark.parametrize("operator", OPERATORS)
def test_a_case_holds_together(operator, monkeypatch):
    monkeypatch.setattr(levy, "_DRAWS", 50)
    case = levy_case("laplace", operator, 2, 0)
    truth, problem = case.truth, case.problem
    assert case.name == f"levy-laplace-{operator}"
    assert truth.draws.shape[0] == 2 and truth.draws.shape[2] == 64
    # 400 draws: five standard errors, of the mean and of the variance of Gaussians.
    gap = (truth.draws.mean(1) - truth.mean) / truth.std
    assert float(gap.abs().max()) < 5 / 400**0.5
    assert float((truth.draws.var(1) / truth.std.square() - 1).abs().max()) < 5 * (2 / 400) ** 0.5
    assert float(split_r_hat(truth.draws.unflatten(1, (8, -1))).max()) < 1.2
    # The misfit of posterior draws, averaged over data of the model, is 1; 2 items of at least 23
    # numbers: a standard deviation of at most 0.21.
    misfit = problem.rows(torch.arange(2).repeat_interleave(100)).chi2(
        truth.draws[:, ::4].flatten(0, 1)
    )
    assert abs(float(misfit.mean()) - 1) < 1
    ladder = case.ladder(20)
    assert float(ladder[0]) > 10 * float(truth.mean.abs().max()) / 8
    assert 0 < float(ladder[-2]) < float(truth.std.min())


def test_a_case_of_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="expected one of"):
        levy_case("laplace", "radon", 2, 0)
    with pytest.raises(ValueError, match="expected one of"):
        levy_case("cauchy", "identity", 2, 0)
