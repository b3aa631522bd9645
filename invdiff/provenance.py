"""Where a result comes from: everything needed to make it again."""

from __future__ import annotations

import hashlib
import platform
import resource
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch
from torch import Tensor

from invdiff.priors.base import Prior
from invdiff.problem import Problem
from invdiff.rng import ItemId
from invdiff.samplers.base import Sampler

__all__ = ["describe", "digest", "peak_memory_gb", "versions"]


def describe(
    problem: Problem,
    prior: Prior,
    sampler: Sampler,
    ladder: Tensor,
    samples: int,
    seed: int,
    names: tuple[ItemId, ...],
) -> dict[str, Any]:
    """The description of a run, ready for JSON."""
    return {
        "measurement_sha256": digest(problem.y),
        "operator": repr(problem.operator),
        "noise": repr(problem.noise),
        "prior": prior.name,
        "prior_sha256": prior.sha256,
        "prior_repr": repr(prior),
        "sampler": repr(sampler),
        "ladder": ladder.tolist(),
        "samples": samples,
        "seed": seed,
        "ids": list(names),
        "dtype": str(problem.y.dtype),
        "device": problem.y.device.type,
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """The versions that a result depends on."""
    try:
        own = version("invdiff")
    except PackageNotFoundError:  # a source tree that was never installed
        own = "uninstalled"
    return {
        "invdiff": own,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
    }


def digest(values: Tensor) -> str:
    """The SHA-256 of a tensor's numbers."""
    numbers = values.detach().cpu().resolve_conj().contiguous().numpy()
    return hashlib.sha256(numbers.tobytes()).hexdigest()


def peak_memory_gb(device: torch.device) -> float:
    """The largest memory so far, in 1e9 bytes: of the GPU, or of this process."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 1e9, 3)
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9, 3)
