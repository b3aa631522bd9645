"""The tables of `measure_reconstruction.py`, in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["COVERED", "TITLES", "tables"]

TITLES = {
    "inpaint": "Inpainting, 70 % missing",
    "sr": "Super-resolution x4",
    "ct60": "CT, 60 views",
    "ct20": "CT, 20 views",
    "mri": "MRI x4",
}
COVERED = ("inpaint", "sr", "ct60", "mri")
# What the margin is over, and the target in dB.
RIVALS = {
    "inpaint": (("total variation", "biharmonic"), 1.0),
    "sr": (("total variation", "bicubic"), 1.0),
    "ct60": (("total variation",), 1.5),
    "ct20": (("total variation",), 1.5),
    "mri": (("L1-wavelet", "total variation"), 1.5),
}
COVERAGE = (
    "In percent, on the object: **mean** over the images (least to greatest, their number); "
    "then that of the whole picture, where it differs."
)
MARGIN = (
    "PSNR of the **whole picture** (and of the object), then SSIM: mean differences over the "
    "n images that were measured."
)
Row = Mapping[str, Any]


def tables(results: Mapping[str, Any]) -> str:
    """All tables of the page."""
    rows = results["rows"]
    parts = ["### Coverage of 90 % intervals", COVERAGE, _coverage(rows)]
    parts += ["### Margin of the posterior mean", MARGIN, _margins(rows)]
    parts += [f"### {TITLES[task]}\n\n{_images(rows, task)}" for task in TITLES]
    parts += ["### Weights of the classical methods", _weights(results["weights"])]
    return "\n\n".join(parts)


def _coverage(rows: Sequence[Row]) -> str:
    found = [row for row in rows if "coverage" in row]
    methods = list(dict.fromkeys(row["method"] for row in found))
    body = []
    for task in TITLES:
        for apart in (False, True):
            here = [row for row in found if row["task"] == task and row["apart"] == apart]
            cells = [_covered([r for r in here if r["method"] == m]) for m in methods]
            if here:
                body.append([TITLES[task] + ", body" * apart, *cells])
    return _table(["", *methods], body)


def _covered(rows: Sequence[Row]) -> str:
    """The mean over images, the least and the most, and the mean over all pixels."""
    if not rows:
        return ""
    inside = [100 * row["coverage"][0] for row in rows]
    everywhere = float(np.mean([100 * row["coverage_all"][0] for row in rows]))
    text = f"**{np.mean(inside):.1f}** ({min(inside):.0f} to {max(inside):.0f}, n = {len(inside)})"
    return text if abs(everywhere - np.mean(inside)) < 0.05 else f"{text}; {everywhere:.1f}"


def _margins(rows: Sequence[Row]) -> str:
    samplers = list(dict.fromkeys(row["method"] for row in rows if "coverage" in row))
    body = []
    for task, (rivals, target) in RIVALS.items():
        for apart in (False, True):
            here = [row for row in rows if row["task"] == task and row["apart"] == apart]
            for rival in rivals:
                cells = [_margin(here, sampler, rival) for sampler in samplers]
                if any(cells):
                    title = TITLES[task] + ", body" * apart
                    body.append([f"{title}, over {rival}", f"{target:+.1f}", *cells])
    return _table(["", "target", *samplers], body)


def _margin(rows: Sequence[Row], method: str, rival: str) -> str:
    """Mean difference of PSNR and SSIM over the images, with its standard error."""
    pairs = [
        [row[name] - other[name] for name in ("psnr", "psnr_inside", "ssim")]
        for row in rows
        for other in rows
        if (row["method"], other["method"]) == (method, rival)
        and (row["image"], row["seed"]) == (other["image"], other["seed"])
    ]
    if not pairs:
        return ""
    whole, inside, similarity = np.mean(pairs, 0)
    object_ = f" ({inside:+.2f})" if abs(inside - whole) > 0.005 else ""
    return f"**{whole:+.2f}**{object_} dB, {similarity:+.3f}, n = {len(pairs)}"


def _images(rows: Sequence[Row], task: str) -> str:
    """PSNR and SSIM of every method and image, and the means over the images."""
    here = [row for row in rows if row["task"] == task]
    if not here:
        return "Not measured yet."
    images = list(dict.fromkeys(row["image"] for row in here))
    among = [image for image in images if not _of(here, image)[0]["apart"]]
    body = []
    for method in dict.fromkeys(row["method"] for row in here):
        own = [row for row in here if row["method"] == method]
        kinds = [("", "")] + ([(", one sample", "sample_")] if "coverage" in own[0] else [])
        for words, prefix in kinds:
            cells = [_quality(_of(own, image), prefix) for image in images]
            mean = _quality([r for image in among for r in _of(own, image)], prefix)
            name = f"{method}, mean" if len(kinds) > 1 and not words else f"{method}{words}"
            body.append([name, *cells, mean])
        if "coverage" in own[0]:
            shares = [_share(_of(own, image)) for image in images]
            mean = _share([r for image in among for r in _of(own, image)])
            body.append([f"{method}, coverage of 90 %", *shares, mean])
    return _table(["", *images, "mean"], body) + "\n\n" + _costs(here)


def _of(rows: Sequence[Row], image: str) -> list[Row]:
    return [row for row in rows if row["image"] == image]


def _quality(rows: Sequence[Row], prefix: str) -> str:
    if not rows:
        return ""
    psnr, ssim = (np.mean([row[prefix + name] for row in rows]) for name in ("psnr", "ssim"))
    return f"{psnr:.2f} / {ssim:.3f}"


def _share(rows: Sequence[Row]) -> str:
    return f"{np.mean([100 * row['coverage'][0] for row in rows]):.1f}" if rows else ""


def _costs(rows: Sequence[Row]) -> str:
    told = []
    for method in dict.fromkeys(row["method"] for row in rows if "coverage" in row):
        own = [row for row in rows if row["method"] == method]
        calls, slopes, misfit = (
            np.mean([row[name] for row in own])
            for name in ("evaluations", "derivatives", "sample_chi2")
        )
        told.append(
            f"{method}: {own[0]['samples']} samples, each of {calls:.0f} evaluations and "
            f"{slopes:.0f} derivatives, misfit {misfit:.2f}."
        )
    return " ".join(told)


def _weights(weights: Mapping[str, Any]) -> str:
    lines = ["Mean PSNR in dB on the tuning images; bold is what was used."]
    for task, methods in weights.items():
        for method, found in methods.items():
            grid = sorted(found["psnr"].items(), key=lambda item: float(item[0]))
            cells = [
                f"**{w}: {v:.2f}**" if float(w) == found["weight"] else f"{w}: {v:.2f}"
                for w, v in grid
            ]
            lines.append(f"- {TITLES[task]}, {method}: {', '.join(cells)}")
    return lines[0] + "\n\n" + "\n".join(lines[1:])


def _table(heads: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
