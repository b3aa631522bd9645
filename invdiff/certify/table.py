"""Rows for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["COLUMNS", "cells", "heading", "line"]

COLUMNS: tuple[tuple[str, str, str], ...] = (
    ("steps", "steps", "{:d}"),
    ("mean", "mean_error_sd", "{:.2f}"),
    ("bias", "mean_bias_sd", "{:.2f}"),
    ("var", "variance_ratio", "{:.2f}"),
    ("tight", "tight", "{:.2f}"),
    ("loose", "loose", "{:.2f}"),
    ("90%", "coverage_90", "{:.1%}"),
    ("modes", "mode_weight_error", "{:.3f}"),
    ("SW2", "sliced_wasserstein", "{:.3g}"),
    ("floor", "sliced_wasserstein_floor", "{:.3g}"),
    ("evid.", "log_evidence_error", "{:.2f}"),
    ("worth", "worth", "{:.0f}"),
    ("NFE", "network_evaluations", "{:.0f}"),
    ("s", "seconds", "{:.1f}"),
    ("grade", "grade", "{}"),
)


def cells(row: Mapping[str, Any], columns: Sequence[tuple[str, str, str]] = COLUMNS) -> list[str]:
    """The row's figures as text, a dash where there is none."""
    return ["-" if row.get(key) is None else form.format(row[key]) for _, key, form in columns]


def heading(problem: str) -> str:
    """The first two lines of a problem's table in a terminal."""
    return f"\n{problem}\n{_joined('sampler', [head for head, _, _ in COLUMNS])}"


def line(row: Mapping[str, Any]) -> str:
    """A row in a terminal, and why it has no figures, if so."""
    if row.get("reason") is not None:
        return f"{row['sampler']:14} {row['grade'] or '-'}: {row['reason']}"
    return _joined(row["sampler"], cells(row))


def _joined(name: str, texts: Sequence[str]) -> str:
    return f"{name:14}" + "".join(f"{text:>7}" for text in texts)
