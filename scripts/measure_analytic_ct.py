"""Tables of docs/operators.md: filtered backprojection against ASTRA, and the logarithm of counts.

    python scripts/measure_analytic_ct.py [--views 60 180]

The Shepp-Logan phantom, 256 x 256, projected from a grid of 1024 x 1024 with strips; half a turn
of parallel rays, or a whole turn of a fan with twice as many views. PSNR in dB of the whole image
and of its inner disc, for a range of 1. Takes about two minutes of one core.
"""

from __future__ import annotations

import argparse
import math

import numpy as np
import torch
from scipy.stats import poisson
from skimage.data import shepp_logan_phantom
from skimage.transform import resize

from invdiff.operators import (
    CTOperator,
    Geometry,
    cosine,
    fbp,
    hann,
    project_once,
    ram_lak,
    shepp_logan,
)
from invdiff.operators.ct_filter import ramp_filter
from invdiff.transmission import Transmission

SIZE, FINER = 256, 4
WINDOWS = (ram_lak, shepp_logan, cosine, hann)
FAN = {"pixel_size": 1.0, "source_to_axis": 600.0, "source_to_detector": 1000.0}


def phantom() -> tuple[np.ndarray, np.ndarray]:
    """The phantom on the fine grid, and its means over pixels."""
    shape = (SIZE * FINER, SIZE * FINER)
    fine = resize(shepp_logan_phantom(), shape, order=0, anti_aliasing=False).astype(np.float32)
    return fine, fine.reshape(SIZE, FINER, SIZE, FINER).mean(axis=(1, 3))


def psnr(image: np.ndarray, truth: np.ndarray) -> str:
    t = np.arange(SIZE) - (SIZE - 1) / 2
    disc = np.hypot(t[:, None], t) <= SIZE / 2
    error = np.square(image - truth)
    return " / ".join(f"{-10 * math.log10(part.mean()):.1f}" for part in (error, error[disc]))


def quality(views: int) -> None:
    fine, truth = phantom()
    scans = {
        "parallel": Geometry.parallel((SIZE, SIZE), views, pixel_size=1.0),
        "fan": Geometry.fan((SIZE, SIZE), 2 * views, **FAN),
    }
    for name, geometry in scans.items():
        operator = CTOperator(geometry)
        data = torch.from_numpy(project_once(geometry.finer(FINER), fine).copy())[None, None]
        found = [psnr(fbp(operator, data, w)[0, 0].numpy(), truth) for w in WINDOWS]
        print(f"| {name}, {geometry.views} views |", " | ".join(found), "|")
        if name == "parallel":
            adjoints = [operator.adjoint(ramp_filter(data, 1.0, w)) for w in WINDOWS]
            images = [math.pi / views * x[0, 0].numpy() for x in adjoints]
            print("| by the adjoint (ASTRA's) |", " | ".join(psnr(x, truth) for x in images), "|")


def logarithm(electronic: float) -> None:
    """Exact moments: Poisson probabilities, and 101 nodes for the normal noise."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(101)
    noise = Transmission(1e5, electronic)
    for rate in (18, 25, 34, 100, 183, 400):
        counts = np.arange(int(rate + 12 * math.sqrt(rate)) + 40)
        y = torch.from_numpy(counts[:, None] + electronic * nodes)
        p = torch.from_numpy(poisson.pmf(counts, rate)[:, None] * weights / weights.sum())
        off, precision = noise.center(y) - math.log(1e5 / rate), noise.precision(y)
        mean = float((p * off).sum())
        deviation = float((p * (off - mean) ** 2).sum().sqrt())
        expected = math.sqrt(rate + electronic**2) / rate
        measured = float((p / precision).sum().sqrt())
        average = float((p * precision * off).sum() / (p * precision).sum())
        print(
            f"| {rate} | {mean:+.3f} | {average:+.3f} | {deviation:.3f} | "
            f"{expected / deviation - 1:+.1%} | {measured / deviation - 1:+.1%} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--views", type=int, nargs="*", default=[60, 180])
    chosen = parser.parse_args()
    for views in chosen.views:
        quality(views)
    logarithm(5.0)


if __name__ == "__main__":
    main()
