"""Reports and results as files."""

from __future__ import annotations

from math import prod
from pathlib import Path

from invdiff.files import save_json, written_whole
from invdiff.report.content import Report
from invdiff.report.page import page
from invdiff.report.result import plain

__all__ = ["write_report", "write_result"]

NUMBERS = 2**24  # pixels of all pictures together: a page of at most some 30 MB


def write_report(path: str | Path, report: Report, numbers: int = NUMBERS) -> None:
    """Writes the page, one HTML file that needs nothing else, whole or not at all.

    Of a volume that has more than ``numbers`` pixels in all pictures together, evenly spaced
    slices are shown, and the page says so. Raises OSError if the folder cannot be written.
    """
    each = sum(prod(p.values.shape[1:]) for p in report.pictures)
    text = page(report.thinned(max(1, numbers // each)))
    with written_whole(Path(path)) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_result(path: str | Path, report: Report) -> None:
    """Writes the figures as JSON, and the timings beside them as ``timings.json``.

    The figures have the same bytes for the same seed, machine and versions.
    """
    path = Path(path)
    save_json(path, report.result)
    save_json(path.with_name("timings.json"), plain(report.timings))
