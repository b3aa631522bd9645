"""The numbers of a result as tables."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

import numpy as np

__all__ = ["cards", "provenance", "scores"]

Result = Mapping[str, Any]
LONG = 90  # characters, from which on a value is folded


def cards(result: Result) -> str:
    """The few numbers to look at first."""
    items = result["items"]
    chi2 = _numbers(value for item in items for value in item["chi2"])
    suspect = sum(item["suspect"] for item in items)
    samples = len(items[0]["chi2"])
    fewest = min(item["effective_samples"] or 0.0 for item in items)
    fewest = min(fewest, *(item["distinct_samples"] for item in items))
    found = [
        ("Data misfit", _mean(chi2), f"chi2 of the samples, {_range(chi2)}; expected 1"),
        ("Items", str(len(items)), f"{suspect} suspect" if suspect else "none suspect"),
        ("Samples", str(samples), f"{result['kind']}; effective: {fewest:.3g}"),
    ]
    splits = [item["split"]["fraction"] for item in items if item["split"]]
    if splits:
        share = f"{np.mean(splits):.0%}"
        found.append(("From the data", share, "of the image's directions; the rest: the prior"))
    psnr = _numbers(result["methods"]["Posterior mean"].get("psnr", []))
    if psnr.size:
        found.append(("PSNR of the mean", f"{psnr.mean():.2f} dB", "against the simulated truth"))
    calibration = result["calibration"]
    words = ("no", "no held-out images were counted")
    if calibration is not None:
        words = ("yes", f"{calibration['patients']} cases: {calibration['guarantee']}")
    found.append(("Calibrated", *words))
    boxes = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}<small>{escape(note)}</small></dd></div>"
        for name, value, note in found
    )
    return f'<section aria-label="Summary"><dl class="cards">{boxes}</dl></section>'


def scores(result: Result) -> str:
    """A row per method; means over items and slices."""
    methods = result["methods"]
    known = "psnr" in next(iter(methods.values()))
    heads = ["Method", "Misfit chi2", *(["PSNR in dB", "SSIM"] if known else [])]
    rows = []
    for name, values in methods.items():
        cells = [_mean(_numbers(values["chi2"]))]
        if known:
            cells += [_mean(_numbers(values["psnr"]), 2), _mean(_numbers(values["ssim"]), 3)]
        columns = "".join(f"<td>{cell}</td>" for cell in cells)
        rows.append(f'<tr><th scope="row">{escape(name)}</th>{columns}</tr>')
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    note = (
        "The misfit of a sample is 1 in expectation. A mean lies below: it is smoother than any "
        "image that the data could come from."
    )
    return (
        f'<section class="scores"><h2>Methods</h2><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table><p>{note}</p></section>"
    )


def provenance(result: Result, timings: Mapping[str, float]) -> str:
    """Everything needed to make the result again, and what it took."""
    facts = dict(result["provenance"]) | {"evaluations": result["evaluations_per_sample"]}
    if len(result["runs"]) == 1:
        facts |= result["runs"][0]
    else:
        facts["runs"] = result["runs"]
    facts |= {name: f"{value:.4g}" for name, value in timings.items()}
    rows = "".join(
        f'<tr><th scope="row">{escape(name.replace("_", " "))}</th><td>{_cell(value)}</td></tr>'
        for name, value in sorted(facts.items())
    )
    return (
        '<section class="provenance"><h2>Where this comes from</h2>'
        f"<table><tbody>{rows}</tbody></table></section>"
    )


def _cell(value: Any) -> str:
    if isinstance(value, Mapping) and all(
        isinstance(v, str | float | int) for v in value.values()
    ):
        return escape(", ".join(f"{name} {one}" for name, one in value.items()))
    text = value if isinstance(value, str) else json.dumps(value)
    if len(text) <= LONG:
        return f"<code>{escape(text)}</code>"
    start, whole = escape(text[: LONG - 10]), escape(text)
    return f"<details><summary><code>{start}…</code></summary><code>{whole}</code></details>"


def _numbers(values: Iterable[float | None]) -> np.ndarray:
    return np.array([value for value in values if value is not None], float)


def _mean(values: np.ndarray, digits: int = 3) -> str:
    return f"{values.mean():.{digits}f}" if values.size else "–"


def _range(values: np.ndarray) -> str:
    return f"{values.min():.3f} to {values.max():.3f}" if values.size else "none finite"
