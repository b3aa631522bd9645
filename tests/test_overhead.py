"""What the loop itself costs: operations and waits a step, and memory. Counted, never timed."""

import gc
import sys
from pathlib import Path

import pytest
import torch
from helpers import MEASURED, PIXELS, DenseOperator, generator

from invdiff import DPS, STSL, TDS, Gaussian, Problem, geometric, sample
from invdiff.integrators import Heun, dpm_solver_2m, unipc
from invdiff.samplers.mmps import MMPS
from invdiff.samplers.pigdm import PiGDM
from invdiff.samplers.skeleton import Skeleton

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts"))
from measure_overhead import (
    OPERATORS,
    Counting,
    Half,
    count_deepinv,
    count_ours,
    per_step,
    problem,
)


def fidelities():
    from deepinv.sampling import DPSDataFidelity, PiGDMDataFidelity

    return [(DPS(), DPSDataFidelity), (PiGDM(), PiGDMDataFidelity)]


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("place", [0, 1], ids=["dps", "pigdm"])
@pytest.mark.filterwarnings("ignore")  # deepinv's own
def test_half_of_deepinvs_operations(name, place):
    """Measured: 38 to 54 operations a step against 126 to 133, and no wait against one."""
    sampler, fidelity = fidelities()[place]
    task = problem(name)
    ours, our_waits, _ = per_step(lambda steps: count_ours(sampler, task, steps))
    theirs, their_waits, _ = per_step(lambda steps: count_deepinv(fidelity, task, steps))
    assert ours <= 0.5 * theirs
    assert our_waits == 0
    assert their_waits >= 1  # so the counter sees them


@pytest.mark.parametrize(
    "sampler", [DPS(), DPS(integrator=unipc()), DPS(integrator=Heun()), PiGDM(), STSL(),
                Skeleton(), Skeleton(integrator=dpm_solver_2m())], ids=repr
)  # fmt: skip
def test_steps_never_wait(sampler, monkeypatch):
    """Nothing is read from a device between the first step and the last, traces included.

    On the host a copy to the host is no operation, so calls are counted as well.
    """
    fetched = []
    for name in ("cpu", "item", "numpy"):
        true = getattr(torch.Tensor, name)
        monkeypatch.setattr(
            torch.Tensor,
            name,
            lambda x, *a, true=true, **k: (fetched.append(1), true(x, *a, **k))[1],
        )
    counts = []
    for steps in (5, 25):
        fetched.clear()
        counts.append((count_ours(sampler, problem("inpainting"), steps).waits, len(fetched)))
    assert counts[0] == counts[1]


def test_waits_are_seen():
    class Curious(DPS):
        def estimate(self, place):
            estimate = super().estimate(place)
            assert float(estimate.info["chi2"][0]) >= 0
            return estimate

    assert per_step(lambda steps: count_ours(Curious(), problem("identity"), steps))[1] == 1
    with Counting() as seen:
        assert bool(torch.ones(3).any())
    assert seen.waits == 1


# Memory.

LADDER = geometric(60, 0.05, 5.0)
EARLY, LATE = float(LADDER[10]), float(LADDER[55])


class Saved:
    """A tensor that autograd keeps for a backward pass; counts those alive."""

    alive = 0

    def __init__(self, tensor):
        self.tensor = tensor.detach()  # or an output would keep its own graph alive
        Saved.alive += 1

    def __del__(self):
        Saved.alive -= 1


class Watching(Half):
    """A curved prior that looks, when first called at a level, at what is alive."""

    def __init__(self):
        self.bytes, self.saved = {}, {}

    def __call__(self, x, sigma):
        level = float(sigma)
        self.saved.setdefault(level, Saved.alive)
        if level in (EARLY, LATE) and level not in self.bytes:
            self.bytes[level] = tensor_bytes()
        return torch.tanh(x) / (1 + sigma**2).to(x)

    def error_variance(self, sigma):
        return sigma**2 / (1 + sigma**2)


def tensor_bytes() -> int:
    storages = {
        each.untyped_storage().data_ptr(): each.untyped_storage().nbytes()
        for each in gc.get_objects()
        if type(each) is torch.Tensor and each.layout is torch.strided
    }
    return sum(storages.values())


ROWS = 50


def watch(sampler) -> Watching:
    matrix = torch.randn(1, MEASURED, PIXELS, generator=generator(0), dtype=torch.float64)
    y = torch.ones(1, MEASURED, dtype=torch.float64)
    task, prior = Problem(y, DenseOperator(matrix), Gaussian(0.5)), Watching()
    gc.collect()
    with torch.autograd.graph.saved_tensors_hooks(Saved, lambda saved: saved.tensor):
        sample(task, prior, sampler, LADDER, samples=ROWS, progress=False)
    return prior


def is_flat(prior: Watching) -> bool:
    """45 steps add no more than their trace, at most three numbers a row; an image has six."""
    return prior.bytes[LATE] - prior.bytes[EARLY] <= 45 * 3 * ROWS * 8


SAMPLERS = [DPS(), DPS(integrator=unipc(3)), STSL(), MMPS(), PiGDM(), TDS(), Skeleton()]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
def test_memory_is_flat_and_gradients_are_released(sampler):
    prior = watch(sampler)
    assert is_flat(prior)
    assert set(prior.saved.values()) == {0}  # at the beginning of every level
    assert Saved.alive == 0


class Hoards(DPS):
    """Keeps its graphs, and with them an image a step."""

    kept = []  # noqa: RUF012

    def estimate(self, place):
        self.kept.append(torch.tanh(place.x.detach().requires_grad_()).exp())
        return super().estimate(place)


def test_hoarding_is_seen():
    prior = watch(Hoards())
    assert not is_flat(prior)
    assert prior.saved[LATE] > prior.saved[EARLY] > 0
    Hoards.kept.clear()
    assert Saved.alive == 0
