"""Scores of a folder of images against another."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from invdiff.commands.image_files import Images, find_images
from invdiff.commands.privacy import reason
from invdiff.errors import ShapeError
from invdiff.metrics import psnr, ssim
from invdiff.provenance import versions

__all__ = ["score_folders", "table"]

METRICS = {
    "psnr": "10 log10(R^2 / mean squared error) of each slice (invdiff.metrics.psnr), then the "
    "mean over slices",
    "psnr_volume": "the same of all slices of an item at once",
    "ssim": "scikit-image structural_similarity with its defaults (7 x 7 uniform window), of each "
    "slice, then the mean over slices",
    "nmse": "squared error over squared truth, of all slices of an item at once",
}
AGGREGATION = "mean over items, every item with the same weight; std over items (n - 1)"


def score_folders(
    folder: Path, truth: Path, data_range: float, array: str | None, names: bool
) -> dict[str, Any]:
    """The scores of all images that have a truth of the same name, ready for JSON.

    Raises OSError, or ValueError if there are no images, or no names in common.
    """
    images, truths = find_images(folder, array), find_images(truth, array)
    shared = sorted(set(images) & set(truths))
    if not shared:
        raise ValueError(
            f"None of the {len(images)} images has the name of one of the {len(truths)} truths. "
            "Names are compared relative to the folders, without their endings."
        )
    items, failed = [], 0
    for number, name in enumerate(shared, 1):
        label = name if names else f"item-{number:04d}"
        try:
            scores = _scores(images[name], truths[name], data_range)
            items.append({"label": label, "status": "done"} | scores)
        except Exception as error:
            failed += 1
            why = reason(error, (images[name].path, truths[name].path))
            items.append({"label": label, "status": "failed", "reason": why})
    return {
        "format": "invdiff eval",
        "format_version": 1,
        "data_range": data_range,
        "metrics": METRICS,
        "aggregation": AGGREGATION,
        "items": items,
        "failed": failed,
        "without_truth": len(images) - len(shared),
        "without_image": len(truths) - len(shared),
        "mean": _over([item for item in items if item["status"] == "done"]),
        "versions": versions(),
    }


def table(found: Mapping[str, Any]) -> str:
    """The same for people."""
    heads = "".join(f"{name:>13}" for name in METRICS)
    lines = [f"{'':24}{heads}"]
    for item in found["items"]:
        if item["status"] == "done":
            lines.append(f"{item['label'][:23]:24}" + _cells(item))
        else:
            lines.append(f"{item['label'][:23]:24}failed: {item['reason']}")
    for name in ("mean", "std"):
        values = {metric: each[name] for metric, each in found["mean"].items()}
        lines.append(f"{name:24}" + _cells(values))
    lines.append(f"data range R = {found['data_range']:g}; {found['aggregation']}")
    lines += [f"{name}: {what}" for name, what in found["metrics"].items()]
    for key, what in (("without_truth", "images without a truth"), ("without_image", "truths")):
        if found[key]:
            lines.append(f"not scored: {found[key]} {what}")
    return "\n".join(lines)


def _scores(image: Images, truth: Images, data_range: float) -> dict[str, Any]:
    a, b = image.read(), truth.read()
    if a.shape != b.shape:
        raise ShapeError(f"The image has shape {a.shape}, but its truth {b.shape}.")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("The image or its truth has values that are NaN or infinite.")
    pairs = list(zip(a, b, strict=True))
    energy = float((b**2).sum())
    values = {
        "psnr": float(np.mean([psnr(x, t, data_range) for x, t in pairs])),
        "psnr_volume": psnr(a, b, data_range),
        "ssim": float(np.mean([ssim(x, t, data_range) for x, t in pairs])),
        "nmse": float(((a - b) ** 2).sum()) / energy if energy > 0 else math.inf,
    }
    finite = {name: round(v, 6) if math.isfinite(v) else None for name, v in values.items()}
    return {"slices": len(a)} | finite


def _over(items: list[dict[str, Any]]) -> dict[str, dict[str, float | None]]:
    """Mean and standard deviation over items; None where an image is exact or there is one."""
    found = {}
    for name in METRICS:
        values = [item[name] for item in items]
        whole = bool(values) and all(value is not None for value in values)
        std = round(float(np.std(values, ddof=1)), 6) if whole and len(values) > 1 else None
        mean = round(float(np.mean(values)), 6) if whole else None
        found[name] = {"mean": mean, "std": std}
    return found


def _cells(values: Mapping[str, Any]) -> str:
    return "".join(
        f"{'-':>13}" if values[name] is None else f"{values[name]:13.4f}" for name in METRICS
    )
