"""The card of a training run: what it was, on what, and how large the denoiser's errors are."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import platform
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from invdiff.datasets.crops import LUMA
from invdiff.priors.card import Card, Source
from invdiff.priors.network import NetworkPrior
from invdiff.priors.transforms import GreyPrior

VALUE_RANGES = {"photo": (-1.0, 1.0), "ct": (-1.024, 3.071), "mr": (-1.0, 1.0)}
UNITS = {
    "photo": "8-bit value / 127.5 - 1",
    "ct": "HU / 1000",
    "mr": "real and imaginary part; a magnitude of 1 is the 99.9th percentile of an image",
}
SIGMAS = 24  # noise levels of the error curve


def draft_card(
    run: Path,
    images: Tensor,
    *,
    kind: str,
    name: str,
    status: str,
    hardware: str,
    data: tuple[Source, ...],
    limits: str,
    version: str = "1",
) -> Card:
    """The card of the weights in a run's folder, before anything was measured.

    Arguments:
        run: Where train_prior.py trained.
        images: For validation, (n, c, h, w).
        kind: "photo", "ct" or "mr".
        name, status, data, limits, version: As in ``Card``.
        hardware: What it was trained on.
    """
    weights = run / "weights.safetensors"
    with safe_open(weights, "pt") as file:
        meta = file.metadata()
    config = json.loads(meta["config"])
    ends = config["sigma_min"], config["sigma_max"]
    return Card(
        name=name,
        version=version,
        status=status,
        sha256=hashlib.sha256(weights.read_bytes()).hexdigest(),
        channels=images.shape[1],
        value_range=VALUE_RANGES[kind],
        units=UNITS[kind],
        multiple=2 ** len(config["widths"]),
        sigma_min=ends[0],
        sigma_max=ends[1],
        sigma_data=config["sigma_data"],
        mean=round(float(images.mean()), 4),
        variance=round(float(images.var()), 4),
        widths=tuple(config["widths"]),
        blocks=tuple(config["blocks"]),
        training=_history(config, meta) | {"hardware": hardware},
        data=data,
        limits=limits,
        denoising=(),
        error_sigmas=ends,
        error_variances=(1.0, 1.0),
        grey_error_variances=(1.0, 1.0) if images.shape[1] == 3 else (),
    )


def _history(config: dict[str, Any], meta: dict[str, str]) -> dict[str, str | int | float]:
    return {
        "script": "scripts/train_prior.py",
        "steps": int(meta["step"]),
        "minutes": float(meta["minutes"]),
        "pixels_per_batch": config["pixels"],
        "crops": ", ".join(f"{size} from {share:.0%}" for share, size in config["phases"]),
        "start": _start(config),
        "optimizer": f"Muon and AdamW, {config['rate']:g}, warm-up and cosine",
        "average": f"exponential, {config['ema']}",
        "ln_sigma": f"normal({config['log_mean']}, {config['log_std']}), "
        f"{config['uniform']:.0%} uniform",
        "precision": "bfloat16 autocast; weights stored in float16",
    }


def _start(config: dict[str, Any]) -> str:
    name = config.get("start")
    if name == config["kind"]:
        return "the weights of the version before"
    return f"the weights of {name}" if name else "random weights"


def with_error_curve(card: Card, prior: NetworkPrior, images: Tensor) -> Card:
    """The card with the denoiser's measured errors; of colours, those of grey images too."""
    sigmas = np.geomspace(card.sigma_min, card.sigma_max, SIGMAS)
    grid = tuple(float(f"{v:.5g}") for v in sigmas)
    grey: tuple[float, ...] = ()
    if card.channels == 3:
        luma = torch.from_numpy(LUMA)[:, None, None]
        grey = error_curve(GreyPrior(prior), (images * luma).sum(1, keepdim=True), grid)
    return dataclasses.replace(
        card,
        error_sigmas=grid,
        error_variances=error_curve(prior, images, grid),
        grey_error_variances=grey,
    )


@torch.no_grad()
def error_curve(
    prior: Callable[[Tensor, Tensor], Tensor], images: Tensor, sigmas: Sequence[float]
) -> tuple[float, ...]:
    """The mean squared error of the denoiser at each noise level, made monotone."""
    rng = torch.Generator().manual_seed(0)
    errors = []
    for sigma in sigmas:
        total = 0.0
        for batch in torch.split(images, 8):
            x = batch + sigma * torch.randn(batch.shape, generator=rng)
            total += float((prior(x, torch.tensor(sigma)) - batch).square().double().sum())
        errors.append(total / images.numel())
    return tuple(float(f"{v:.5g}") for v in np.maximum.accumulate(errors))


def publish(run: Path, images: Tensor, drafted: Card) -> Path:
    """Writes NAME.safetensors and NAME.json into the run's folder; the card comes last.

    ``load_prior`` takes the path that is returned.
    """
    weights, card = (run / f"{drafted.name}.{kind}" for kind in ("safetensors", "json"))
    card.unlink(missing_ok=True)
    shutil.copyfile(run / "weights.safetensors", weights)
    draft, temporary = run / "draft.json", run / "card.part"
    draft.write_text(drafted.to_json(), encoding="utf-8")
    measured = with_error_curve(drafted, NetworkPrior.read(weights, draft), images)
    draft.unlink()
    temporary.write_text(measured.to_json(), encoding="utf-8")
    temporary.replace(card)
    return weights


def this_machine(device: str) -> str:
    """The hardware in words."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{torch.get_num_threads()} threads of {os.cpu_count()} {platform.machine()} cores"
