"""The warnings of a report: what a reader must know before believing an image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from invdiff.report.content import Notice
from invdiff.transmission import STARVED

__all__ = ["adjoint_notice", "clipped_notice", "notices_of", "starved_notice"]

CORRELATED = 0.1  # of neighbouring residuals
ROUGH = 0.03  # error of the split, by its bound; the split itself is closer
UNCOVERED = 0.1  # share of the truth that intervals miss beyond what they say
Result = Mapping[str, Any]


def notices_of(result: Result) -> tuple[Notice, ...]:
    """What the figures say, and what was known before, the serious ones first."""
    given = [Notice(**notice) for notice in result["notices"]]
    found = [*_of_items(result), *given, *_of_samples(result), *_of_data(result)]
    if result["calibration"] is None and result["kind"] != "point":
        text = "nobody has counted, on images like these, how often the truth lies within it."
        found.append(Notice(f"The standard deviation is not calibrated: {text}"))
    if result["coverage"]:
        nominal, observed = max(result["coverage"])
        if nominal - observed > UNCOVERED:
            text = f"{observed:.0%} of the truth instead of {nominal:.0%}."
            found.append(Notice(f"The samples are too alike: their widest intervals hold {text}"))
    return tuple(sorted(found, key=lambda notice: not notice.serious))


def clipped_notice(count: int, total: int) -> tuple[Notice, ...]:
    """Of values that did not fit into what they were written to; none if there are none."""
    text = f"{count} of {total} values were clipped when they were written as integers."
    return (Notice(text, serious=count > 0.001 * total),) if count else ()


def starved_notice(share: float) -> tuple[Notice, ...]:
    """Of rays that no photon came through; none if there are none."""
    text = f"Up to {share:.2%} of the rays had no photon: what they say is made up."
    return (Notice(text, serious=share > STARVED),) if share > 0 else ()


def adjoint_notice() -> Notice:
    """Of an operator whose adjoint is not exact."""
    return Notice(
        "The operator's adjoint is not exact: images agree with the data up to its error only."
    )


def _of_items(result: Result) -> list[Notice]:
    items = result["items"]
    broken = sum(not item["ok"] for item in items)
    suspect = sum(item["suspect"] and item["ok"] for item in items)
    found = []
    if broken:
        found.append(Notice(f"{broken} of {len(items)} items diverged: no image.", serious=True))
    if suspect:
        text = "the noise level, the geometry, the prior or the ladder is wrong."
        found.append(
            Notice(
                f"{suspect} of {len(items)} items are SUSPECT, their misfit is far from 1: {text} "
                "Do not rely on the image.",
                serious=True,
            )
        )
    return found


def _of_samples(result: Result) -> list[Notice]:
    k = len(result["items"][0]["chi2"])
    found = []
    if result["kind"] == "point":
        found.append(Notice("A point estimate: nothing here says how uncertain the image is."))
    elif k < 2:
        found.append(Notice("One sample only: nothing here says how uncertain the image is."))
    elif k < 8:
        error = (2 * (k - 1)) ** -0.5
        found.append(
            Notice(f"Only {k} samples: the standard deviation itself is known to {error:.0%}.")
        )
    distinct = min(item["distinct_samples"] for item in result["items"])
    if distinct < k:
        found.append(
            Notice(
                f"Resampling left {distinct} different samples of {k}: the standard deviation is "
                "too small.",
                serious=4 * distinct < k or distinct == 1,
            )
        )
    if result["kind"] == "approximate":
        found.append(
            Notice("The sampler is approximate: its samples are near the posterior, not from it.")
        )
    fewest = min(item["effective_samples"] or 0.0 for item in result["items"])
    if fewest < 0.25 * k:
        found.append(
            Notice(
                f"The weights leave {fewest:.1f} effective samples of {k}: trust neither the mean "
                "nor the standard deviation, draw more.",
                serious=True,
            )
        )
    return found


def _of_data(result: Result) -> list[Notice]:
    items = result["items"]
    found = [*starved_notice(max(item["starved_rays"] for item in items))]
    correlated = {
        axis
        for item in items
        if item["residuals"]
        for axis, value in item["residuals"]["correlation"]
        if abs(value) > CORRELATED
    }
    if correlated:
        axes = ", ".join(str(axis) for axis in sorted(correlated))
        found.append(
            Notice(
                f"Neighbouring residuals correlate along axis {axes} of the measurement: the "
                "operator or the noise model misses something."
            )
        )
    rough = max((item["split"]["residual"] for item in items if item["split"]), default=0.0)
    if rough > ROUGH:
        found.append(
            Notice(f"The split into data and prior was solved to {rough:.1%} only; it is rough.")
        )
    return found
