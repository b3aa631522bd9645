"""What the data say of an item and what the prior, kept beside the other results of its cell."""

from __future__ import annotations

from pathlib import Path

import torch

from invdiff.demos.case import Case
from invdiff.files import load_arrays, save_arrays
from invdiff.posterior import Posterior
from invdiff.report.range_null import Split, range_null_split

__all__ = ["SPLIT", "find_split", "load_split", "save_split"]

SPLIT = ".split.npz"  # the ending of a cell's file
PROBES = 8  # random vectors that tell the share of the data in each pixel
NAMES = ("data", "prior", "share", "fraction", "residual")


def find_split(case: Case, posterior: Posterior) -> Split:
    """The split of the posterior mean. Raises what ``range_null_split`` does."""
    variance = float(case.prior.error_variance(case.ladder[0]))
    mean = posterior.mean.to(case.problem.y.device)
    return range_null_split(case.problem, mean, variance, probes=PROBES)


def save_split(path: Path, split: Split) -> None:
    """Writes it whole. Raises OSError."""
    arrays = {name: getattr(split, name).cpu().numpy() for name in NAMES}
    save_arrays(path, arrays, {"probes": split.probes})


def load_split(path: Path) -> Split:
    """What ``save_split`` wrote. Raises OSError or ValueError."""
    arrays, about = load_arrays(path, "split")
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    return Split(**tensors, probes=int(about["probes"]))
