"""Weighted statistics against NumPy's definitions, and files that survive."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import generator, small_prior, small_problem

from invdiff import TDS, NotFinite, Posterior, karras, sample

K = 12


def make(kind: str = "exact", weights: bool = True, samples: int = K) -> Posterior:
    x = torch.randn(2, samples, 1, 3, generator=generator(0), dtype=torch.float64)
    log_w = torch.randn(2, samples, generator=generator(1), dtype=torch.float64)
    return Posterior(
        x=x,
        log_w=log_w - 800 if weights else 0 * log_w,  # far below what exp can show
        chi2=torch.rand(2, samples, generator=generator(2), dtype=torch.float64),
        ids=(0, "b"),
        ok=torch.tensor([True, False]),
        suspect=torch.tensor([False, True]),
        kind=kind,
        trace={"ess": torch.rand(5, 2, generator=generator(3))},
        counts={"prior": 5.0},
        provenance={"seed": 3, "ladder": [1.0, 0.0]},
    )


def test_mean_and_spread():
    posterior = make()
    x, w = posterior.x.numpy(), np.exp(posterior.log_w.numpy() + 800)
    for i in range(2):
        mean = np.average(x[i], axis=0, weights=w[i])
        assert np.allclose(posterior.mean[i].numpy(), mean)
        flat = x[i].reshape(K, 3)
        covariance = np.cov(flat, rowvar=False, aweights=w[i])  # the same correction
        assert np.allclose(posterior.std[i].numpy().ravel(), np.sqrt(np.diag(covariance)))
    share = w / w.sum(1, keepdims=True)
    assert np.allclose(posterior.ess.numpy(), 1 / (share**2).sum(1))
    assert torch.allclose(posterior.weights.sum(1), torch.ones(2, dtype=torch.float64))


def test_equal_weights_are_the_plain_formulas():
    posterior = make(weights=False)
    assert torch.allclose(posterior.mean, posterior.x.mean(1))
    assert torch.allclose(posterior.std, posterior.x.std(1))
    for q in (0.1, 0.5, 0.77):
        expected = np.quantile(posterior.x.numpy(), q, axis=1, method="hazen")
        assert np.allclose(posterior.quantile(q).numpy(), expected)
    assert torch.equal(posterior.quantile(0.0), posterior.x.amin(1))
    assert torch.equal(posterior.quantile(1.0), posterior.x.amax(1))


def test_weighted_quantiles_interpolate_mid_ranks():
    posterior = make()
    x, w = posterior.x.numpy(), posterior.weights.numpy()
    for q in (0.03, 0.4, 0.9):
        for i in range(2):
            for pixel in range(3):
                values = x[i, :, 0, pixel]
                order = np.argsort(values)
                ranks = np.cumsum(w[i][order]) - 0.5 * w[i][order]
                expected = np.interp(q, ranks, values[order])
                assert float(posterior.quantile(q)[i, 0, pixel]) == pytest.approx(expected)


def test_a_weightless_sample_changes_nothing():
    posterior = make()
    log_w = torch.cat([posterior.log_w, torch.full((2, 1), -float("inf"))], 1)
    x = torch.cat([posterior.x, torch.full((2, 1, 1, 3), 50.0)], 1)
    longer = replace(posterior, x=x, log_w=log_w)
    assert torch.allclose(longer.mean, posterior.mean)
    assert torch.allclose(longer.std, posterior.std)
    assert torch.allclose(longer.quantile(0.3), posterior.quantile(0.3))


def test_one_sample():
    posterior = make(samples=1)
    assert torch.equal(posterior.mean, posterior.x[:, 0])
    assert torch.equal(posterior.quantile(0.3), posterior.x[:, 0])
    with pytest.raises(ValueError, match="samples=2"):
        _ = posterior.std


def test_a_point_estimate_has_no_uncertainty():
    posterior = make("point")
    with pytest.raises(TypeError, match="spread of its runs is not"):
        _ = posterior.std
    with pytest.raises(TypeError, match="no quantiles"):
        posterior.quantile(0.5)
    assert posterior.spread.shape == (2, 1, 3)


def test_refusals():
    with pytest.raises(ValueError, match="between 0 and 1"):
        make().quantile(1.5)
    with pytest.raises(TypeError, match="such as TDS"):
        _ = make().log_evidence


def test_save_and_load(tmp_path):
    posterior = make()
    first = posterior.save(tmp_path / "a")
    second = Posterior.load(first).save(tmp_path / "b")
    assert first.read_bytes() == second.read_bytes()
    assert first.with_suffix(".json").read_bytes() == second.with_suffix(".json").read_bytes()
    read = Posterior.load(tmp_path / "a")
    for name in ("x", "log_w", "chi2", "ok", "suspect"):
        assert torch.equal(getattr(read, name), getattr(posterior, name))
        assert getattr(read, name).dtype == getattr(posterior, name).dtype
    assert torch.equal(read.trace["ess"], posterior.trace["ess"])
    for name in ("ids", "kind", "counts", "provenance"):
        assert getattr(read, name) == getattr(posterior, name)
    assert repr(read) == "Posterior(2 items, 12 samples of (1, 3), exact, ok 1, suspect 1)"
    assert len(read) == 2


def test_names_with_dots_stay_apart(tmp_path):
    paths = [make(samples=k).save(tmp_path / f"sigma-0.{k}") for k in (2, 3)]
    assert [path.name for path in paths] == ["sigma-0.2.npz", "sigma-0.3.npz"]
    assert Posterior.load(tmp_path / "sigma-0.2").x.shape[1] == 2
    assert sorted(p.name for p in tmp_path.iterdir() if p.suffix == ".json") == [
        "sigma-0.2.json",
        "sigma-0.3.json",
    ]


def test_damaged_files(tmp_path):
    path = make().save(tmp_path / "a")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="truncated, damaged or of another kind"):
        Posterior.load(path)
    np.savez(path, about=np.array('{"format": "something else"}'))
    with pytest.raises(ValueError, match="no posterior written by invdiff"):
        Posterior.load(path)
    with pytest.raises(FileNotFoundError, match="no posterior at"):
        Posterior.load(tmp_path / "missing")


def test_suspects_are_named():
    """A noise level ten times too small or too large does not pass in silence."""
    items = 200
    matrix = torch.randn(items, 4, 6, generator=generator(0), dtype=torch.float64)
    problem = small_problem(items=1)
    operator = type(problem.operator)(matrix.reshape(1, -1, 6))  # 800 numbers about one image
    x = small_prior().mean[None]
    noise = torch.randn(1, 800, generator=generator(1), dtype=torch.float64)
    ladder = karras(30, 0.005, 5.0)
    for sigma, suspect in ((0.3, False), (0.03, True), (3.0, True)):
        task = type(problem)(operator(x) + 0.3 * noise, operator, type(problem.noise)(sigma))
        posterior = sample(task, small_prior(), TDS(), ladder, samples=50, progress=False)
        assert bool(posterior.suspect) is suspect, sigma
        assert posterior.ok.all()


def test_weights_that_vanish_are_not_ok():
    """All particles impossible: no mean exists, and the result must not claim one."""

    class Impossible(TDS):
        def step(self, state, *rest):
            state, info = super().step(state, *rest)
            return state._replace(log_w=torch.full_like(state.log_w, -float("inf"))), info

    with pytest.raises(NotFinite, match="the weights"):
        sample(small_problem(), small_prior(), Impossible(), karras(4, 0.01, 5.0), samples=4,
               progress=False)  # fmt: skip
