"""The scorecard's tables, in Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from invdiff.certify.table import COLUMNS, cells
from invdiff.files import written_whole

__all__ = ["field_tables", "label", "steps_tables", "write_between"]

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
Row = Mapping[str, Any]
_FIGURES = tuple(column for column in COLUMNS if column[0] not in ("steps", "grade"))

_DIVERGENCE = (
    ("KL", "kl", "{:.3f}"),
    ("floor", "kl_floor", "{:.3f}"),
    ("least", "eigen_min", "{:.2f}"),
    ("most", "eigen_max", "{:.2f}"),
)
_SINGLE = ", one of "  # in the names of those that give one sample of every filter
_MANY = 1000  # samples, from which on a covariance says something


def label(row: Row) -> str:
    """Whose sampler a row is of: a bare name is one of ours."""
    bare = row["library"] in ("invdiff", "reference")
    return row["sampler"] if bare else f"{row['library']} {row['sampler']}"


def field_tables(title: str, rows: Sequence[Row]) -> str:
    """All grades of a part in one table, and every problem's figures in one of their own."""
    if not rows:
        return f"## {title}\n\nNot measured yet."
    problems = list(dict.fromkeys(row["problem"] for row in rows))
    grades: dict[str, dict[str, str]] = {}
    for row in rows:
        grades.setdefault(label(row), {})[row["problem"]] = row["grade"] or "–"
    body = [[name, *(of.get(p, "") for p in problems)] for name, of in grades.items()]
    parts = [f"## {title}", _table(["sampler", *problems], body)]
    for problem in problems:
        here = [row for row in rows if row["problem"] == problem]
        parts.append(f"### {problem}\n\n{_figures(here)}")
    return "\n\n".join(parts)


def _figures(rows: Sequence[Row]) -> str:
    count = max(row["samples"] for row in rows)
    figures = _FIGURES + (_DIVERGENCE if count >= _MANY else ())
    heads = ["sampler", "grade", *(head for head, _, _ in figures)]
    body = [[label(row), row["grade"], *cells(row, figures)] for row in rows if row["grade"]]
    if any(_SINGLE in row["sampler"] for row in rows):
        heads.append("SW2 / floor")
        for line, row in zip(body, [row for row in rows if row["grade"]], strict=True):
            line.append(_over_floor(row))
    notes = [f"{rows[0]['items']} measurements, up to {count} samples of each."]
    notes += [f"{label(row)}: {row['reason']}." for row in rows if row["reason"]]
    return _table(heads, body) + "\n\n" + " ".join(notes)


def _over_floor(row: Row) -> str:
    """How many times its floor a distance is, with its standard error.

    The errors are added as if independent; those of one problem rise and fall together, so that
    the true error is smaller.
    """
    value, floor = row["sliced_wasserstein"], row["sliced_wasserstein_floor"]
    if value is None:
        return "-"
    errors = row["sliced_wasserstein_se"] / value, row["sliced_wasserstein_floor_se"] / floor
    return f"{value / floor:.2f} ± {value / floor * math.hypot(*errors):.2f}"


def steps_tables(title: str, rows: Sequence[Row]) -> str:
    """A sampler per line, a number of steps per column: bias, variance ratio, grade."""
    if not rows:
        return f"## {title}\n\nNot measured yet."
    parts = [f"## {title}", "Bias in posterior standard deviations, variance ratio, grade."]
    for problem in dict.fromkeys(row["problem"] for row in rows):
        here = [row for row in rows if row["problem"] == problem and row["steps"]]
        steps = sorted({row["steps"] for row in here})
        found = {(label(row), row["steps"]): _short(row) for row in here}
        body = [
            [name, *(found.get((name, count), "–") for count in steps)]
            for name in dict.fromkeys(label(row) for row in here)
        ]
        parts.append(f"### {problem}\n\n{_table(['sampler', *map(str, steps)], body)}")
    return "\n\n".join(parts)


def _short(row: Row) -> str:
    if row.get("variance_ratio") is None:
        return row["grade"] or "–"
    bias = row["mean_bias_sd"] if row["mean_bias_sd"] is not None else row["mean_error_sd"]
    return f"{bias:.2f}, {row['variance_ratio']:.2f}, {row['grade']}"


def _table(heads: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def write_between(path: Path, text: str) -> None:
    """Puts the text between the markers of a file, or makes the file."""
    whole = f"{BEGIN}\n\n{text}\n\n{END}\n"
    if path.exists():
        before, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
        _, end, after = rest.partition(END)
        if not (begin and end):
            raise ValueError(f"{path} exists and lacks the markers {BEGIN} and {END}: add them.")
        whole = before + whole.rstrip("\n") + after
    with written_whole(path) as temporary:
        temporary.write_text(whole, encoding="utf-8")
