"""Counts the tensor operations of a sampler's step, and how often the host waits for a result.

    python scripts/measure_overhead.py

The prior is trivial, so that everything counted is the loop's own. Operations are those that
torch dispatches; the host waits where a number is read off a tensor. deepinv's samplers beside.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

sys.path.insert(0, str(Path(__file__).parent))

from invdiff import DPS, Gaussian, Problem, geometric, sample
from invdiff.operators import Identity, Inpainting, Operator
from invdiff.samplers import Sampler
from invdiff.samplers.pigdm import PiGDM

SHAPE = (1, 8, 8)
OPERATORS: dict[str, Callable[[], Operator]] = {
    "identity": lambda: Identity(SHAPE),
    "inpainting": lambda: Inpainting.random(SHAPE, 0.5, seed=0),
}
WAITS = {"aten._local_scalar_dense.default", "aten.nonzero.default", "aten.equal.default"}


class Half:
    """The prior D(x) = x / 2, at any level: one operation."""

    sigma_min, sigma_max = 1e-3, 100.0
    value_range = -float("inf"), float("inf")
    name, sha256 = "half", "0"

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        return x * 0.5

    def check_shape(self, shape: tuple[int, ...]) -> None:
        pass

    def error_variance(self, sigma: Tensor) -> Tensor:
        return sigma


class Counting(TorchDispatchMode):
    """Counts what is dispatched inside it."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Any = (), options: Any = None
    ) -> Any:
        self.seen[str(function)] += 1
        return function(*arguments, **(options or {}))

    @property
    def waits(self) -> int:
        return sum(count for name, count in self.seen.items() if name in WAITS)


def problem(name: str) -> Problem:
    operator = OPERATORS[name]()
    y = torch.linspace(0, 1, 64).reshape(1, *SHAPE)
    return Problem(y if operator.observed is None else y * operator.observed, operator,
                   Gaussian(0.1))  # fmt: skip


def count_ours(sampler: Sampler, task: Problem, steps: int) -> Counting:
    with Counting() as seen:
        sample(task, Half(), sampler, geometric(steps, 0.01, 10.0), samples=2, progress=False)
    return seen


def count_deepinv(fidelity: Any, task: Problem, steps: int) -> Counting:
    """The same, by deepinv's posterior diffusion with DDPM steps: what its DPS class runs."""
    import deepinv
    from deepinv.sampling import DDPMSolver, PosteriorDiffusion, VariancePreservingDiffusion
    from measure_integrators import deepinv_denoiser

    times = torch.linspace(1, 0.001, steps + 1, dtype=torch.float64)
    solver = DDPMSolver(timesteps=times, rng=torch.Generator().manual_seed(0))
    denoiser, process = deepinv_denoiser(Half()), VariancePreservingDiffusion()
    model = PosteriorDiffusion(fidelity(), denoiser, process, solver)
    physics, noise = deepinv.physics.Denoising(), deepinv.physics.GaussianNoise(0.1)
    if isinstance(task.operator, Inpainting):
        physics = deepinv.physics.Inpainting(SHAPE, mask=task.operator.mask.float())
    physics.noise_model, y = noise, task.y.repeat(2, 1, 1, 1)
    with Counting() as seen:
        model(y, physics, x_init=(2, *SHAPE), seed=0)
    return seen


def per_step(count: Callable[[int], Counting]) -> tuple[float, float, int]:
    """Operations and waits of one more step, and the waits of a whole run of 30 steps."""
    short, long = count(10), count(30)
    operations = (sum(long.seen.values()) - sum(short.seen.values())) / 20
    return operations, (long.waits - short.waits) / 20, long.waits


def main() -> None:
    from deepinv.sampling import DPSDataFidelity, PiGDMDataFidelity

    print("method, operator: operations and waits a step, waits in a run of 30 steps")
    for name in OPERATORS:
        task = problem(name)
        for ours, theirs in ((DPS(), DPSDataFidelity), (PiGDM(), PiGDMDataFidelity)):
            for label, count in (
                (f"invdiff {type(ours).__name__}", lambda n: count_ours(ours, task, n)),  # noqa: B023
                (f"deepinv {theirs.__name__}", lambda n: count_deepinv(theirs, task, n)),  # noqa: B023
            ):
                operations, waits, run = per_step(count)
                print(f"{label}, {name}: {operations:.1f} and {waits:.1f}, {run}")


if __name__ == "__main__":
    main()
