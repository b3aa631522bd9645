"""What every sampler must hold, whatever its mathematics.

Each clause is a function that takes a sampler. Samplers that are broken on purpose fail it at the
end of this file: a clause that cannot fail guards nothing.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from helpers import MEASURED, DenseOperator, Saturating, small_prior, small_problem

import invdiff.samplers
from invdiff import (
    AFDPS,
    DAPS,
    DDNM,
    DDRM,
    DDS,
    DPS,
    FKC,
    FPSSMC,
    LGD,
    MMPS,
    MPGD,
    STSL,
    SVDD,
    TDS,
    TMPD,
    ConjugateTDS,
    DDNMPlus,
    DiffPIR,
    FKSteering,
    Gaussian,
    MCGDiff,
    NotFinite,
    PiGDM,
    PnPDM,
    Problem,
    REDDiff,
    integrators,
    karras,
    sample,
    smc,
)
from invdiff.covariance import IsotropicCovariance, TweedieCovariance
from invdiff.samplers import Sampler, Skeleton, SplitSMC, afdps, daps, fk_steering, red_diff
from invdiff.samplers.base import Image

SAMPLERS = {
    "afdps": AFDPS(),
    "afdps-diffusion": AFDPS(form=afdps.Diffusion()),
    "afdps-flow": AFDPS(form=afdps.Flow()),
    "conjugate-tds": ConjugateTDS(),
    "conjugate-tds-moves": ConjugateTDS(moves=1, resampling=smc.Stratified()),
    "daps": DAPS(),
    "ddnm": DDNM(),
    "ddnm-plus": DDNMPlus(),
    "ddrm": DDRM(),
    "dds": DDS(),
    "diffpir": DiffPIR(),
    "dps": DPS(),
    "dps-heun": DPS(integrator=integrators.Heun()),
    "dps-unipc": DPS(integrator=integrators.unipc()),
    "dps-deis": DPS(integrator=integrators.DEIS()),
    "fk-steering": FKSteering(),
    "fkc": FKC(),
    "fps-smc": FPSSMC(),
    "lgd": LGD(),
    "mcgdiff": MCGDiff(),
    "mmps": MMPS(),
    "mpgd": MPGD(),
    "pigdm": PiGDM(),
    "pnp-dm": PnPDM(),
    "red-diff": REDDiff(),
    "skeleton": Skeleton(),
    "split-smc": SplitSMC(moves=3, last_moves=6, denoising_steps=4, first_steps=6),
    "stsl": STSL(),
    "svdd": SVDD(),
    "tds": TDS(),
    "tds-isotropic": TDS(covariance=IsotropicCovariance(), resampling=smc.Residual()),
    "tmpd": TMPD(),
}
COUPLED = (AFDPS, ConjugateTDS, FKC, FKSteering, FPSSMC, MCGDiff, SplitSMC, TDS)
LADDER = karras(8, 0.01, 5.0)
ROUNDING = 1e-10  # batched products of another shape round otherwise; amplified by few steps


@pytest.fixture(params=SAMPLERS.values(), ids=SAMPLERS.keys())
def sampler(request: pytest.FixtureRequest) -> Sampler:
    return request.param


def run(sampler: Sampler, problem: Problem | None = None, **options: Any):
    problem = small_problem() if problem is None else problem
    prior = options.pop("prior", None) or small_prior()
    options = {"samples": 4, "seed": 5, "progress": False} | options
    return sample(problem, prior, sampler, LADDER, **options)


def assert_same(a, b, tolerance: float = ROUNDING) -> None:
    for field in ("x", "log_w", "chi2"):
        left, right = getattr(a, field), getattr(b, field)
        assert left.shape == right.shape
        gap = float((left - right).abs().max())
        assert gap <= tolerance * max(1.0, float(right.abs().max())), (field, gap)


class Spy:
    """A prior that counts rows, and fails when a budget of calls is used up."""

    def __init__(self, prior: Any, budget: float = float("inf")) -> None:
        self.prior, self.budget, self.calls, self.rows = prior, budget, 0, 0

    def __call__(self, x, sigma):
        self.calls += 1
        self.rows += len(x)
        if self.calls > self.budget:
            raise KeyboardInterrupt
        return self.prior(x, sigma)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.prior, name)

    def __repr__(self) -> str:
        return repr(self.prior)


@dataclass(frozen=True, eq=False, repr=False)
class SpiedOperator(DenseOperator):
    """Writes down the rows it is applied to."""

    log: tuple[list[int], list[int]] = ((), ())

    def _forward(self, x):
        self.log[0].append(len(x))
        return super()._forward(x)

    def _adjoint(self, y):
        self.log[1].append(len(y))
        return super()._adjoint(y)


# The clauses.


def chunk_free(sampler: Sampler) -> None:
    whole = run(sampler)
    for chunk in (1, 2):
        assert_same(run(sampler, chunk=chunk), whole)


def rows_limit_free(sampler: Sampler, prior: Any = None) -> None:
    whole = run(sampler, prior=prior)
    for rows in (1, 5):
        assert_same(run(sampler, rows=rows, prior=prior), whole)


def order_free(sampler: Sampler) -> None:
    problem, names = small_problem(), ("a", "b", "c")
    order = torch.tensor([2, 0, 1])
    straight = run(sampler, problem, ids=names)
    turned = run(sampler, problem.rows(order), ids=[names[i] for i in order.tolist()])
    for field in ("x", "log_w", "chi2"):
        gap = (getattr(turned, field) - getattr(straight, field)[order]).abs().max()
        assert float(gap) <= ROUNDING * max(1.0, float(getattr(straight, field).abs().max()))


def resumes(sampler: Sampler, folder: Any) -> None:
    """Killed in the first chunk, then in the second, then finished: the same bits."""
    spy = Spy(small_prior())
    whole = run(sampler, chunk=2, prior=spy)
    for share in (0.3, 0.5):
        with pytest.raises(KeyboardInterrupt):
            broken = Spy(small_prior(), budget=round(share * spy.calls))
            run(sampler, chunk=2, prior=broken, checkpoint=folder, checkpoint_every=1)
        run(sampler, seed=9)  # what a sampler remembers outside its state is gone after this
    again = Spy(small_prior())
    resumed = run(sampler, chunk=2, prior=again, checkpoint=folder, checkpoint_every=1)
    assert again.calls < spy.calls  # it did go on, rather than begin again
    for field in ("x", "log_w", "chi2"):
        assert torch.equal(getattr(resumed, field), getattr(whole, field)), field
    assert resumed.counts == whole.counts
    assert all(torch.equal(resumed.trace[name], whole.trace[name]) for name in whole.trace)


def nan_stays(sampler: Sampler) -> None:
    problem = small_problem()
    matrix = problem.operator.matrix.clone()
    matrix[1, 0, 0] = float("nan")
    sick = replace(problem, operator=DenseOperator(matrix))
    with pytest.raises(NotFinite, match="item 'b' sample 0") as caught:
        run(sampler, sick, ids=["a", "b", "c"])
    healthy, rest = run(sampler, ids=["a", "b", "c"]), caught.value.posterior
    quiet = run(sampler, sick, ids=["a", "b", "c"], throw=False)
    assert rest.ok.tolist() == quiet.ok.tolist() == [True, False, True]
    assert rest.suspect[1]
    assert torch.isnan(rest.x[1]).any()  # never replaced by numbers
    for kept in (rest, quiet):
        for field in ("x", "log_w", "chi2"):
            gap = (getattr(kept, field) - getattr(healthy, field))[[0, 2]].abs().max()
            assert float(gap) <= ROUNDING * max(1.0, float(getattr(healthy, field).abs().max()))


def particles_are_prefixes(sampler: Sampler) -> None:
    few, many = run(sampler, samples=4), run(sampler, samples=8)
    assert float((few.x - many.x[:, :4]).abs().max()) <= ROUNDING


def keeps_precision(sampler: Sampler) -> None:
    for dtype in (torch.float32, torch.float64):
        posterior = run(sampler, small_problem(dtype=dtype))
        assert posterior.x.dtype == dtype
        assert posterior.log_w.dtype == posterior.chi2.dtype == torch.float64
        assert torch.isfinite(posterior.x).all()


def counts_are_true(sampler: Sampler) -> None:
    log: tuple[list[int], list[int]] = ([], [])
    problem, spy = small_problem(), Spy(small_prior())
    operator = SpiedOperator(problem.operator.matrix, log)
    posterior = run(sampler, replace(problem, operator=operator), prior=spy)
    rows = 3 * 4
    counts = {"vjp": 0.0} | posterior.counts
    assert counts["prior"] == spy.rows / rows
    # The loop measures the misfit of the result once, which is not the sampler's cost.
    assert counts["forward"] == sum(log[0]) / rows - 1
    assert counts.get("adjoint", 0.0) == sum(log[1]) / rows
    assert counts["forward"] > 0


def follows_the_seed(sampler: Sampler) -> None:
    first, again, other = (run(sampler, seed=seed) for seed in (0, 0, 1))
    assert first.x.numpy().tobytes() == again.x.numpy().tobytes()
    assert first.log_w.numpy().tobytes() == again.log_w.numpy().tobytes()
    assert float((first.x - other.x).abs().min(2).values.min()) > 0


def leaves_global_state(sampler: Sampler) -> None:
    torch_before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    run(sampler, rows=5)
    assert torch.equal(torch.get_rng_state(), torch_before)
    assert np.array_equal(np.random.get_state()[1], numpy_before)  # noqa: NPY002


def leaves_inputs(sampler: Sampler) -> None:
    problem, prior = small_problem(items=1), small_prior()
    given = [problem.y, problem.operator.matrix, prior.mean, prior.variances, LADDER]
    before = [value.clone() for value in given]
    run(sampler, problem, prior=prior)
    assert all(torch.equal(a, b) for a, b in zip(given, before, strict=True))


def rebuilt_by_repr(sampler: Sampler) -> None:
    modules = [invdiff.samplers, integrators, smc, afdps, daps, fk_steering, red_diff]
    known = {name: getattr(module, name) for module in modules for name in module.__all__}
    known |= {one.__name__: one for one in (IsotropicCovariance, TweedieCovariance)}
    assert eval(repr(sampler), known) == sampler
    assert hash(sampler) == hash(eval(repr(sampler), known))


def noise_per_item(sampler: Sampler) -> None:
    levels = torch.tensor([[0.1], [0.3], [0.9]], dtype=torch.float64)
    together = run(sampler, small_problem(sigma=levels))
    for i in range(3):
        alone = run(
            sampler, small_problem(sigma=float(levels[i])).rows(torch.tensor([i])), ids=[i]
        )
        assert float((together.x[i] - alone.x[0]).abs().max()) <= ROUNDING
    if isinstance(sampler, DDNM):
        return  # the pseudoinverse of a matrix is that of any multiple of its data's weight
    # Far above what the data scatter by: DPS and STSL read smaller levels off the residual.
    vague = run(sampler, small_problem(sigma=50.0))
    assert float((together.x[0] - vague.x[0]).abs().max()) > 0.01


INDEPENDENT = [
    pytest.param(one, id=name) for name, one in SAMPLERS.items() if not isinstance(one, COUPLED)
]


def test_every_sampler_is_here():
    classes = {getattr(invdiff.samplers, name) for name in invdiff.samplers.__all__} - {Sampler}
    assert classes == {type(one) for one in SAMPLERS.values()}


def test_chunk_free(sampler):
    chunk_free(sampler)


def test_rows_limit_free(sampler):
    rows_limit_free(sampler)


def test_order_free(sampler):
    order_free(sampler)


def test_resumes(sampler, tmp_path):
    resumes(sampler, tmp_path)


def test_nan_stays_in_its_item(sampler):
    nan_stays(sampler)


@pytest.mark.parametrize("sampler", INDEPENDENT)
def test_particles_are_prefixes(sampler):
    particles_are_prefixes(sampler)


def test_keeps_precision(sampler):
    keeps_precision(sampler)


def test_counts_are_true(sampler):
    counts_are_true(sampler)


def test_follows_the_seed(sampler):
    follows_the_seed(sampler)


def test_leaves_global_state(sampler):
    leaves_global_state(sampler)


def test_leaves_inputs(sampler):
    leaves_inputs(sampler)


def test_rebuilt_by_repr(sampler):
    rebuilt_by_repr(sampler)


def test_noise_per_item(sampler):
    noise_per_item(sampler)


def test_nonlinear_operators(sampler):
    problem = small_problem(kind=Saturating)
    if sampler.needs_linear:
        with pytest.raises(TypeError, match=r"needs a linear operator.*Use DPS or STSL"):
            run(sampler, problem)
    else:
        posterior = run(sampler, problem)
        assert posterior.ok.all()
        assert_same(run(sampler, problem, chunk=1), posterior)


def test_says_what_it_did(sampler):
    posterior = run(sampler)
    steps = len(LADDER) - 1
    assert posterior.kind == sampler.kind
    assert posterior.provenance["sampler"] == repr(sampler)
    assert posterior.provenance["seed"] == 5
    assert posterior.counts["prior"] >= steps
    assert posterior.trace
    assert all(value.shape[:2] == (steps, 3) for value in posterior.trace.values())
    assert (posterior.log_w == 0).all() or "log_evidence" in posterior.trace


def test_device(sampler, device):
    posterior = run(sampler, small_problem().to(device))
    assert posterior.x.device.type == device.type
    assert float((posterior.x.cpu() - run(sampler).x).abs().max()) <= 1e-6


# Broken on purpose: the tests of the tests.


@dataclass(frozen=True)
class Plain:
    """Walks to the denoised image with a small pull of the data; correct as it is."""

    kind = "approximate"
    needs_linear = True

    def init(self, problem, prior, sigma, rng):
        return Image(
            sigma * rng.normal(torch.zeros(len(problem), *problem.operator.domain).to(problem.y))
        )

    def step(self, state, sigma, sigma_next, problem, prior, rng):
        x0 = prior(state.x, sigma)
        x0 = x0 + 0.01 * problem.operator.adjoint(problem.residual(x0))
        x = x0 + (sigma_next / sigma) * (state.x - x0) + 0.1 * sigma_next * rng.normal(x0)
        return Image(x), {}


class BatchNorm(Plain):
    """One norm over the whole batch, as in four published codes of DPS."""

    def step(self, state, sigma, sigma_next, problem, prior, rng):
        (x,), info = super().step(state, sigma, sigma_next, problem, prior, rng)
        return Image(x * (1 + 0.01 * problem.residual(x).norm())), info


class Hides(Plain):
    """Replaces NaN by zeros."""

    def step(self, state, sigma, sigma_next, problem, prior, rng):
        (x,), info = super().step(state, sigma, sigma_next, problem, prior, rng)
        return Image(x.nan_to_num()), info


class ByPosition(Plain):
    """Randomness that belongs to a place in the batch."""

    def step(self, state, sigma, sigma_next, problem, prior, rng):
        noise = torch.randn(state.x.shape, generator=torch.Generator().manual_seed(rng.step))
        (x,), info = super().step(state, sigma, sigma_next, problem, prior, rng)
        return Image(x + noise.to(x)), info


class GlobalNoise(Plain):
    def step(self, state, sigma, sigma_next, problem, prior, rng):
        (x,), info = super().step(state, sigma, sigma_next, problem, prior, rng)
        return Image(x + torch.randn_like(x)), info


class Remembers(Plain):
    """Keeps something outside its state, which no checkpoint sees."""

    memory = 0.0

    def step(self, state, sigma, sigma_next, problem, prior, rng):
        (x,), info = super().step(state, sigma, sigma_next, problem, prior, rng)
        type(self).memory = 0.0 if rng.step == 1 else type(self).memory + float(x[0, 0])
        return Image(x + type(self).memory), info


class Forgets(Plain):
    """Resumed runs of it begin from wrong randomness: draws run on from step to step."""

    streams: dict[Any, Any] = {}  # noqa: RUF012

    def step(self, state, sigma, sigma_next, problem, prior, rng):
        first = self.streams.setdefault((rng.ids, rng.particles), rng.at(0))
        return super().step(state, sigma, sigma_next, problem, prior, first)


class Upcasts(Plain):
    def step(self, state, sigma, sigma_next, problem, prior, rng):
        (x,), info = super().step(state, sigma, sigma_next, problem, prior, rng)
        return Image(x.double()), info

    def init(self, problem, prior, sigma, rng):
        return Image(super().init(problem, prior, sigma, rng).x)


class Smuggles(Plain):
    """Applies the operator behind the counter's back."""

    def step(self, state, sigma, sigma_next, problem, prior, rng):
        problem.operator.operator(state.x)
        return super().step(state, sigma, sigma_next, problem, prior, rng)


class Seedless(Plain):
    """seed=0 means: whatever seed 1 gives."""

    def step(self, state, sigma, sigma_next, problem, prior, rng):
        x = state.x if rng.step > 1 else torch.ones_like(state.x)
        fixed = type(rng)(1, rng.ids, rng.particles, rng.step)
        return super().step(Image(x), sigma, sigma_next, problem, prior, fixed)


class Mutates(Plain):
    def step(self, state, sigma, sigma_next, problem, prior, rng):
        problem.operator.operator.matrix.mul_(1.001)
        return super().step(state, sigma, sigma_next, problem, prior, rng)


class OneNoise(Plain):
    """Reads the first item's noise level for all."""

    def step(self, state, sigma, sigma_next, problem, prior, rng):
        x0 = prior(state.x, sigma)
        x = x0 + problem.precision[0, 0] * 1e-3 * problem.operator.adjoint(problem.residual(x0))
        return Image(x), {}


class Unreadable(Plain):
    def __repr__(self) -> str:
        return "Plain(secret=1)"


class CouplingPrior(Spy):
    """A prior whose rows see each other, such as one with batch normalisation."""

    def __call__(self, x, sigma):
        return super().__call__(x, sigma) + 0.01 * x.mean(0)


BROKEN = [
    (chunk_free, BatchNorm()),
    (chunk_free, ByPosition()),
    (order_free, ByPosition()),
    (partial(rows_limit_free, prior=CouplingPrior(small_prior())), Plain()),
    (nan_stays, BatchNorm()),
    (nan_stays, Hides()),
    (particles_are_prefixes, BatchNorm()),
    (particles_are_prefixes, ByPosition()),
    (keeps_precision, Upcasts()),
    (counts_are_true, Smuggles()),
    (follows_the_seed, GlobalNoise()),
    (follows_the_seed, Seedless()),
    (leaves_global_state, GlobalNoise()),
    (leaves_inputs, Mutates()),
    (noise_per_item, OneNoise()),
]


@pytest.mark.parametrize(
    ("clause", "broken"),
    BROKEN,
    ids=[f"{getattr(c, 'func', c).__name__}-{type(b).__name__}" for c, b in BROKEN],
)
def test_clause_catches(clause, broken):
    # Failed: a "with pytest.raises" inside the clause saw nothing raised.
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        clause(broken)


@pytest.mark.parametrize("broken", [Remembers(), Forgets()], ids=["Remembers", "Forgets"])
def test_resume_catches(broken, tmp_path):
    with pytest.raises(AssertionError):
        resumes(broken, tmp_path)


def test_repr_catches():
    with pytest.raises((NameError, TypeError, AssertionError)):
        rebuilt_by_repr(Unreadable())


@pytest.mark.parametrize(
    "clause",
    [chunk_free, rows_limit_free, order_free, nan_stays, particles_are_prefixes, keeps_precision,
     counts_are_true, follows_the_seed, leaves_global_state, leaves_inputs],
)  # fmt: skip
def test_clause_accepts_what_is_right(clause):
    """A broken sampler above fails for what it breaks: without that, it passes."""
    clause(Plain())


def test_gaussian_per_item_shape_is_checked():
    with pytest.raises(ValueError, match="Lead with 1"):
        small_problem(sigma=torch.ones(MEASURED))
    assert isinstance(small_problem(sigma=torch.tensor(0.2)).noise, Gaussian)
