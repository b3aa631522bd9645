"""Classical reconstructions for `measure_reconstruction.py`, and how their weights are found."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from reconstruction_trials import Trial
from torch import Tensor
from torch.nn.functional import interpolate

from invdiff.baselines import tv
from invdiff.demos import photo
from invdiff.metrics import psnr
from invdiff.noise import Gaussian
from invdiff.operators import fbp, hann
from invdiff.priors import AffinePrior
from invdiff.wavelets import l1_wavelet

__all__ = ["FIXED", "WEIGHTED", "reconstruct", "tuned"]

Weighted = Callable[[Trial, float], Tensor]


def _arguments(trial: Trial) -> tuple[object, Tensor, float | Tensor]:
    noise = trial.problem.noise
    assert isinstance(noise, Gaussian)
    return trial.problem.operator, trial.problem.y, noise.sigma


def _scale(trial: Trial) -> float:
    """The unit of the images: weights are the same for every brightness."""
    return trial.prior.scale if isinstance(trial.prior, AffinePrior) else 1.0


def _tv(trial: Trial, weight: float) -> Tensor:
    nonnegative = trial.task.startswith("ct")
    return tv(*_arguments(trial), weight / _scale(trial), nonnegative=nonnegative)


def _wavelet(trial: Trial, weight: float) -> Tensor:
    return l1_wavelet(*_arguments(trial), weight / _scale(trial))


def biharmonic(trial: Trial) -> Tensor:
    return photo.biharmonic(trial.problem)


def _bicubic(trial: Trial) -> Tensor:
    return interpolate(trial.problem.y, scale_factor=photo.FACTOR, mode="bicubic")


def _fbp(trial: Trial) -> Tensor:
    return fbp(trial.problem.operator, trial.problem.y, hann, incomplete=True)


def _zero_filled(trial: Trial) -> Tensor:
    return trial.problem.operator.adjoint(trial.problem.y)


FIXED: dict[str, dict[str, Callable[[Trial], Tensor]]] = {
    "inpaint": {"biharmonic": biharmonic},
    "sr": {"bicubic": _bicubic},
    "ct60": {"filtered backprojection": _fbp},
    "ct20": {"filtered backprojection": _fbp},
    "mri": {"zero-filled": _zero_filled},
}
# The grids of weights: the best was never at an end.
WEIGHTED: dict[str, dict[str, tuple[Weighted, tuple[float, ...]]]] = {
    "inpaint": {"total variation": (_tv, (2, 4, 8, 16, 32))},
    "sr": {"total variation": (_tv, (2, 4, 8, 16, 32))},
    "ct60": {"total variation": (_tv, (1.25, 2.5, 5, 10, 20))},
    "ct20": {"total variation": (_tv, (1.25, 2.5, 5, 10, 20))},
    "mri": {
        "total variation": (_tv, (40, 80, 160, 320, 640)),
        "L1-wavelet": (_wavelet, (20, 40, 80, 160, 320)),
    },
}


def reconstruct(trial: Trial, method: str, weight: float | None) -> Tensor:
    """A classical image (1, *domain)."""
    if weight is None:
        return FIXED[trial.task][method](trial)
    return WEIGHTED[trial.task][method][0](trial, weight)


def tuned(trials: Iterable[Trial], method: str) -> dict[float, float]:
    """The mean PSNR in dB of every weight of the method's grid."""
    cases = list(trials)
    solve, grid = WEIGHTED[cases[0].task][method]

    def score(trial: Trial, weight: float) -> float:
        shown = trial.show(solve(trial, weight))[0].numpy()
        return psnr(shown, trial.truth.numpy(), trial.data_range)

    return {weight: float(np.mean([score(t, weight) for t in cases])) for weight in grid}
