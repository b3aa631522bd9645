"""How well reconstructions predict samples of k-space that were measured but withheld.

    python scripts/measure_kspace_holdout.py FILE.npz [--splits 3] [--json OUT.json]

FILE.npz is what `invdiff recon mri` reads (docs/formats.md). No ground truth is needed: a tenth
of the measured samples outside of the calibration centre is withheld, at random, in all coils; the
image is reconstructed from the rest, and its own k-space is compared with what was withheld. The
error is relative, ||predicted - withheld|| / ||withheld||; the noise of the withheld samples alone
gives the floor. The weights of the classical methods are tuned on one more split, which is not
reported.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from invdiff.baselines import tv
from invdiff.datasets.kspace import KSpace
from invdiff.demos.mri import mri_case, mri_prior
from invdiff.files import save_json
from invdiff.operators import AsComplex, CartesianMRI
from invdiff.sample import sample
from invdiff.sense import sense_cg
from invdiff.wavelets import l1_wavelet

SHARE = 0.1
WEIGHTS = 10.0 ** np.arange(1, 4.01, 0.25)  # in the scale of the image
METHODS: dict[str, Callable[[CartesianMRI, Tensor, float, float, float], Tensor]] = {
    "sense_cg": lambda A, y, sigma, weight, scale: sense_cg(A, y, sigma, weight / scale**2),
    "l1_wavelet": lambda A, y, sigma, weight, scale: l1_wavelet(A, y, sigma, weight / scale),
    "tv": lambda A, y, sigma, weight, scale: _tv(A, y, sigma, weight / scale),
}


class Split(NamedTuple):
    """What is reconstructed from, and the operator and the samples to be predicted."""

    kept: KSpace
    held: CartesianMRI
    samples: Tensor

    def error(self, image: Tensor) -> float:
        """The relative error of a complex image (1, 1, rows, columns)."""
        return float((self.held(image) - self.samples).norm() / self.samples.norm())

    @property
    def floor(self) -> float:
        """The expected error of the true image: the noise of the withheld samples."""
        count = int(self.held.observed.sum())
        return self.kept.sigma * (2 * count) ** 0.5 / float(self.samples.norm())


def split(kspace: KSpace, maps: Tensor, seed: int) -> Split:
    """Withholds SHARE of the samples outside of the centre."""
    generator = np.random.Generator(np.random.Philox(seed))
    width = kspace.calibration_width
    top, left = (n // 2 - width // 2 for n in kspace.mask.shape)
    outside = kspace.mask.astype(bool)
    outside[top : top + width, left : left + width] = False
    places = np.flatnonzero(outside)
    held = np.zeros(kspace.mask.shape, dtype=bool)
    held.ravel()[generator.choice(places, round(SHARE * places.size), replace=False)] = True
    kept = replace(
        kspace, kspace=kspace.kspace * ~held, mask=kspace.mask * ~held, maps=maps[0].numpy()
    )
    operator = CartesianMRI(maps, torch.from_numpy(held)[None, None])
    return Split(kept, operator, torch.from_numpy(kspace.kspace * held)[None])


def reconstruct(part: Split, name: str, weight: float, scale: float) -> Tensor:
    """A classical image of one split."""
    y = torch.from_numpy(part.kept.kspace)[None]
    return METHODS[name](part.kept.operator(), y, part.kept.sigma, weight, scale)


def posterior(part: Split, samples: int, steps: int, seed: int) -> tuple[Tensor, Tensor]:
    """The posterior mean and one sample, as `invdiff recon mri` draws them."""
    case = mri_case(part.kept, steps, "")
    found = sample(
        case.problem, case.prior, case.sampler, case.ladder, samples=samples, seed=seed, rows=4
    )
    join = AsComplex((1, *part.kept.mask.shape))
    return join(found.mean), join(found.x[:, 0])


def _tv(operator: CartesianMRI, y: Tensor, sigma: float, weight: float) -> Tensor:
    join = AsComplex(operator.domain)
    return join(tv(operator @ join, y, sigma, weight, iterations=100))


def tuned_weights(part: Split, scale: float) -> dict[str, float]:
    """The best of WEIGHTS on one split, for every classical method."""
    best = {}
    for name in METHODS:
        errors = {w: part.error(reconstruct(part, name, w, scale)) for w in WEIGHTS}
        best[name] = float(min(errors, key=lambda w: errors[w]))
        print(f"{name}: weight {best[name]:.3g} / scale, tuned on another split", flush=True)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    kspace = KSpace.load(options.file)
    maps, scale = kspace.operator().maps, mri_prior(kspace).scale
    weights = tuned_weights(split(kspace, maps, options.splits), scale)
    rows: list[dict[str, float]] = []
    for seed in range(options.splits):
        part = split(kspace, maps, seed)
        row = {"noise_floor": part.floor}
        for name, weight in weights.items():
            row[name] = part.error(reconstruct(part, name, weight, scale))
        mean, one = posterior(part, options.samples, options.steps, seed)
        row |= {"posterior_mean": part.error(mean), "sample": part.error(one)}
        rows.append(row)
        print(f"split {seed}:", *(f"{k} {v:.4f}" for k, v in row.items()), flush=True)
    mean_row = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    print("mean:", *(f"{k} {v:.4f}" for k, v in mean_row.items()))
    if options.json is not None:
        save_json(options.json, {"weights": weights, "scale": scale, "rows": rows})


if __name__ == "__main__":
    main()
