"""Bad input is refused before anything expensive, with words that help."""

import math

import pytest
import torch
from helpers import MEASURED, PIXELS, DenseOperator, generator, small_prior, small_problem

from invdiff import (
    DPS,
    TDS,
    Gaussian,
    NotFinite,
    Poisson,
    Problem,
    ShapeError,
    karras,
    sample,
)
from invdiff.operators import AsComplex, CartesianMRI, Identity, Inpainting
from invdiff.priors.gaussian import GaussianPrior
from invdiff.rng import Rng

LADDER = karras(4, 0.01, 5.0)
OPERATOR = DenseOperator(torch.randn(1, MEASURED, PIXELS, generator=generator(0)))


class Ranged:
    """A prior of images in [-1, 1]; fails the test when it is evaluated."""

    def __init__(self, shape=(1, 4, 4)):
        self.gaussian = GaussianPrior.dense(torch.zeros(shape), 0.1 * torch.eye(math.prod(shape)))

    value_range = (-1.0, 1.0)

    def __call__(self, x, sigma):
        pytest.fail("a check came after the first evaluation")

    def __getattr__(self, name):
        return getattr(self.gaussian, name)


def test_missing_item_axis():
    with pytest.raises(ShapeError, match=r"Add a leading item axis: x\[None\]"):
        Problem(torch.zeros(MEASURED), OPERATOR, Gaussian(0.1))


def test_wrong_shape():
    with pytest.raises(
        ShapeError, match=r"has shape \(2, 7\).*Pass an array of shape \(items, 4\)"
    ):
        Problem(torch.zeros(2, 7), OPERATOR, Gaussian(0.1))


def test_no_items():
    with pytest.raises(ShapeError, match="no items"):
        Problem(torch.zeros(0, MEASURED), OPERATOR, Gaussian(0.1))


def test_wrong_number_of_operator_rows():
    operator = DenseOperator(torch.zeros(3, MEASURED, PIXELS))
    with pytest.raises(ShapeError, match=r"2 rows.*parameters of 3 items"):
        Problem(torch.zeros(2, MEASURED), operator, Gaussian(0.1))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_not_finite(bad):
    y = torch.zeros(2, MEASURED)
    y[1, 2] = bad
    with pytest.raises(NotFinite, match=r"measurement has 1 entries.*items \[1\]"):
        Problem(y, OPERATOR, Gaussian(0.1))


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool, torch.complex64])
def test_wrong_kind_of_numbers(dtype):
    with pytest.raises(TypeError, match="takes float32 or float64"):
        Problem(torch.zeros(2, MEASURED, dtype=dtype), OPERATOR, Gaussian(0.1))


def test_noise_level_is_never_guessed():
    with pytest.raises(TypeError, match="sigma"):
        Gaussian()
    with pytest.raises(TypeError, match="noise"):
        Problem(torch.zeros(2, MEASURED), OPERATOR)


def refused(error, words, problem, prior=None, sampler=None, ladder=LADDER, **options):
    with pytest.raises(error, match=words):
        sample(
            problem, prior or Ranged(problem.operator.domain), sampler or DPS(), ladder, **options
        )


def test_0_255_images_are_no_minus_1_to_1_images():
    mask = Inpainting.random((1, 4, 4), 0.5, seed=0)
    y = 255 * torch.rand(1, 1, 4, 4, generator=generator(0)) * mask.observed
    refused(
        ValueError, r"0\.\.255 images are not \[-1, 1\] images", Problem(y, mask, Gaussian(0.1))
    )
    # What the mask hides is not measured, so it is not judged.
    hidden = torch.where(mask.observed, 0.3, 255.0)
    problem = Problem(hidden, mask, Gaussian(0.1))
    prior = Ranged().gaussian
    assert sample(problem, prior, DPS(), LADDER, progress=False).ok.all()


def test_ladder_outside_the_prior_s_range():
    problem = Problem(torch.zeros(1, 1, 4, 4), Identity((1, 4, 4)), Gaussian(0.1))
    for ladder in (karras(4, 0.01, 1e4), karras(4, 1e-7, 5.0)):
        refused(ValueError, r"Use karras\(steps, prior.sigma_min", problem, ladder=ladder)


def test_ladder_that_rises():
    refused(ValueError, "fall strictly and end in 0", small_problem(), ladder=LADDER.flip(0))


def test_prior_of_another_shape():
    problem = Problem(torch.zeros(1, 1, 4, 4), Identity((1, 4, 4)), Gaussian(0.1))
    refused(ShapeError, r"shape \(1, 4, 5\)", problem, prior=Ranged((1, 4, 5)))


def test_complex_images_need_the_bridge():
    operator = CartesianMRI(torch.ones(1, 2, 4, 4, dtype=torch.complex64), torch.ones(1, 1, 4, 4))
    problem = Problem(
        torch.zeros(1, *operator.range, dtype=torch.complex64), operator, Gaussian(0.1)
    )
    refused(TypeError, r"operator @ AsComplex", problem, prior=Ranged((2, 4, 4)))


@pytest.mark.parametrize("name", ["samples", "chunk", "rows", "checkpoint_every"])
def test_counts(name):
    refused(ValueError, f"{name} is 0, expected a count", small_problem(), **{name: 0})


@pytest.mark.parametrize("ids", [["a"], ["a", "a", "b"]])
def test_ids(ids):
    refused(ValueError, "Give every item its own id", small_problem(), ids=ids)


def test_things_that_are_no_prior_or_sampler():
    refused(TypeError, "is no prior", small_problem(), prior=lambda x, sigma: x)
    refused(TypeError, "is no sampler", small_problem(), sampler=object())


def test_exact_samplers_want_exact_adjoints():
    class Rough(DenseOperator):
        adjoint_exact = False

    problem = small_problem(kind=Rough)
    refused(TypeError, "adjoint of .* is not exact", problem, sampler=TDS())
    assert sample(problem, small_prior(), DPS(), LADDER, progress=False).ok.all()


def test_misfit_and_likelihood():
    problem = small_problem()
    x = torch.randn(3, PIXELS, generator=generator(2), dtype=torch.float64)
    residual = problem.y - problem.operator(x)
    assert torch.allclose(problem.residual(x), residual)
    assert torch.allclose(problem.misfit(x), residual.square().sum(1) / 0.09)
    assert torch.allclose(problem.chi2(x), residual.square().sum(1) / 0.09 / MEASURED)
    constant = -0.5 * MEASURED * math.log(2 * math.pi * 0.09)
    assert torch.allclose(problem.log_likelihood(x), constant - 0.5 * problem.misfit(x))


def test_unobserved_entries_are_not_counted():
    mask = torch.tensor([[1.0, 0.0], [1.0, 1.0]])[None, None]
    y = torch.tensor([[[[1.0, 9.0], [2.0, 3.0]]]])
    problem = Problem(y, Inpainting(mask), Gaussian(1.0))
    assert problem.measured.tolist() == [3.0]
    assert problem.misfit(torch.zeros(1, 1, 2, 2)).tolist() == [14.0]
    expected = -0.5 * 14 - 1.5 * math.log(2 * math.pi)
    assert float(problem.log_likelihood(torch.zeros(1, 1, 2, 2))) == pytest.approx(expected)


def test_nothing_measured_leaves_the_prior():
    """An empty mask is a way to draw from the prior, not a division by zero."""
    mask = torch.zeros(1, 1, 4, 4)
    problem = Problem(torch.zeros(1, 1, 4, 4), Inpainting(mask), Gaussian(0.1))
    for sampler in (DPS(), TDS()):
        posterior = sample(problem, Ranged().gaussian, sampler, LADDER, samples=3, progress=False)
        assert posterior.ok.all()
        assert (posterior.chi2 == 0).all()


def test_complex_numbers_count_twice():
    maps, mask = torch.ones(1, 1, 2, 2, dtype=torch.complex64), torch.ones(1, 1, 2, 2)
    operator = CartesianMRI(maps, mask) @ AsComplex((1, 2, 2))
    problem = Problem(torch.zeros(1, 1, 2, 2, dtype=torch.complex64), operator, Gaussian(1.0))
    assert problem.measured.tolist() == [8.0]


def test_chi2_is_one_on_average_for_posterior_draws():
    """(draw, y) has the law of (truth, y). 400 problems, |z| < 4.5: false alarms below 1e-5."""
    prior = small_prior()
    x = prior.draw(Rng(0, list(range(400)), 1))
    matrix = torch.randn(400, MEASURED, PIXELS, generator=generator(1), dtype=torch.float64)
    operator = DenseOperator(matrix)
    y = operator(x) + 0.3 * torch.randn(400, MEASURED, generator=generator(2), dtype=torch.float64)
    problem = Problem(y, operator, Gaussian(0.3))
    chi2 = problem.chi2(prior.posterior(problem).draw(1, generator(3))[:, 0])
    assert abs(float((chi2.mean() - 1) / chi2.std() * 20)) < 4.5


def test_rows_and_device():
    problem = small_problem(sigma=torch.tensor([[0.1], [0.2], [0.3]], dtype=torch.float64))
    part = problem.rows(torch.tensor([2, 0, 0]))
    assert torch.equal(part.y, problem.y[[2, 0, 0]])
    assert torch.equal(part.operator.matrix, problem.operator.matrix[[2, 0, 0]])
    assert part.noise.sigma.flatten().tolist() == [0.3, 0.1, 0.1]
    assert problem.to("cpu").y.device.type == "cpu"


def test_poisson_problem_runs():
    """Counts, their quadratic weights, and the exact likelihood in one run."""
    operator = Identity((1, 4, 4))
    truth = 1 + torch.rand(1, 1, 4, 4, generator=generator(0))
    y = torch.poisson(50 * truth, generator=generator(1))
    prior = GaussianPrior.dense(torch.full((1, 4, 4), 1.5), 0.1 * torch.eye(16))
    problem = Problem(y, operator, Poisson(50.0))
    posterior = sample(problem, prior, TDS(), karras(20, 0.01, 5.0), samples=200, progress=False)
    # Prior variance 0.1, noise variance 1.5 / 50: most of the way from 1.5 to the counts.
    expected = 1.5 + 0.1 / (0.1 + y / 2500) * (y / 50 - 1.5)
    assert float((posterior.mean - expected).abs().max()) < 0.1
