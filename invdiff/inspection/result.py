"""What an inspection found: the verdict, the numbers behind it, and a picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from invdiff.inspection.behaviour import Behaviour
from invdiff.inspection.bench import Bench, Denoiser
from invdiff.inspection.questions import Range
from invdiff.inspection.trial import Trial, denoised
from invdiff.inspection.verdict import decide
from invdiff.priors.base import Prior

__all__ = ["Inspection", "Line", "conclude"]

USEFUL = 0.5  # dB that any denoiser gains over the noisy image, at every level
WEAK = -2.0  # dB against total variation, on average


@dataclass(frozen=True)
class Line:
    """The PSNR of one method in dB, on a range of 1.

    Arguments:
        method: What made the images.
        psnr: Of each image at each level, (images, levels).
    """

    method: str
    psnr: tuple[tuple[float, ...], ...]

    def means(self, rows: Sequence[int]) -> list[float]:
        """The mean over some images, at each level."""
        chosen = [self.psnr[row] for row in rows]
        return [sum(column) / len(chosen) for column in zip(*chosen, strict=True)]


@dataclass(frozen=True, eq=False)
class Inspection:
    """What was found.

    Arguments:
        prior: The name of the prior.
        sha256: Of its weights.
        ok: Whether nothing has to be mended.
        verdict: One sentence.
        advice: What to do, empty if nothing.
        faults, notes: Sentences, see ``Behaviour``.
        shape: Of one image.
        range: The range that the images were given in.
        sigmas: The noise levels, in that range.
        images: The names of the images.
        kinds: What kind each image is.
        lines: PSNRs: noisy, total variation, as declared, and as found if that differs.
        ranking: Interpretations and their mean gain over total variation in dB, the best first.
        pictures: One image of the kind it does best on: truth, noisy, and as in ``lines``, each
            (levels, channels, h, w) on [0, 1].
        pictured: The name of that image.
    """

    prior: str
    sha256: str
    ok: bool
    verdict: str
    advice: str
    faults: tuple[str, ...]
    notes: tuple[str, ...]
    shape: tuple[int, ...]
    range: Range
    sigmas: tuple[float, ...]
    images: tuple[str, ...]
    kinds: tuple[str, ...]
    lines: tuple[Line, ...]
    ranking: tuple[tuple[str, float], ...]
    pictures: tuple[tuple[str, Tensor], ...]
    pictured: str

    def to_json(self) -> dict[str, Any]:
        """Everything but the pictures, ready for JSON."""
        names = ("prior", "sha256", "ok", "verdict", "advice", "faults", "notes", "shape",
                 "range", "sigmas", "images", "kinds")  # fmt: skip
        return {name: getattr(self, name) for name in names} | {
            "psnr": {line.method: line.psnr for line in self.lines},
            "ranking": [{"interpretation": words, "gain": gain} for words, gain in self.ranking],
        }


def conclude(
    prior: Prior,
    denoiser: Denoiser,
    bench: Bench,
    finalists: Sequence[Trial],
    seen: Behaviour,
    span: Range,
) -> Inspection:
    """The verdict on the finalists, of which the first is the prior as declared."""
    found = decide(finalists)
    makers: dict[str, Callable[[int], Tensor]] = {
        "noisy": bench.noisy,
        "total variation": bench.smooth.__getitem__,
    }
    trials = {"as declared": finalists[0]} | ({"as found": found} if found.words else {})
    for name, trial in trials.items():
        makers[name] = partial(denoised, bench, denoiser, trial)
    lines = tuple(Line(name, _psnr(bench.errors(make))) for name, make in makers.items())
    best = _best_rows(bench, found)
    verdict, advice, fine = _verdict(found, bench.images[best[0]].kind, best, lines)
    ranked = sorted(finalists, key=lambda trial: trial.score, reverse=True)
    return Inspection(
        prior=prior.name,
        sha256=prior.sha256,
        ok=fine and not seen.faults,
        verdict=verdict,
        advice=advice,
        faults=seen.faults,
        notes=seen.notes,
        shape=tuple(bench.truth.shape[1:]),
        range=span,
        sigmas=tuple(bench.sigma(span, level) for level in bench.levels),
        images=tuple(image.name for image in bench.images),
        kinds=tuple(image.kind for image in bench.images),
        lines=lines,
        ranking=tuple((t.words or "as declared", round(t.score, 2)) for t in ranked),
        pictures=_pictures(bench, makers, best[0]),
        pictured=bench.images[best[0]].name,
    )


def _verdict(
    found: Trial, kind: str, best: list[int], lines: Sequence[Line]
) -> tuple[str, str, bool]:
    useful = _gain(lines[-1], lines[0], best)
    if min(useful) < USEFUL:
        return (
            "Does not denoise, as declared or in any way that was tried.",
            "Are these the trained weights, of the right architecture, and images of a kind like "
            "these? If it has a range or units of its own, give value_range.",
            False,
        )
    if found.words:
        return f"Looks like {found.words}.", found.advice, False
    gain = float(found.gains[best].mean())
    if gain < WEAK:
        return (
            f"Denoises as declared, but {-gain:.1f} dB worse than total variation on "
            f"{kind} images: no mistake that is known here explains it.",
            "Are these images of the kind it was trained on? Raw instead of averaged (EMA) "
            "weights, or too little training, look like this.",
            True,
        )
    return (
        f"Denoises as declared: {gain:+.1f} dB against total variation on {kind} images.",
        "",
        True,
    )


def _gain(line: Line, other: Line, rows: Sequence[int]) -> list[float]:
    return [a - b for a, b in zip(line.means(rows), other.means(rows), strict=True)]


def _best_rows(bench: Bench, found: Trial) -> list[int]:
    """The images of the kind that the interpretation does best on."""
    return max(bench.kinds.values(), key=lambda rows: float(found.gains[rows].mean()))


def _pictures(
    bench: Bench, makers: Mapping[str, Callable[[int], Tensor]], row: int
) -> tuple[tuple[str, Tensor], ...]:
    truth = bench.truth[row].expand(len(bench.shares), -1, -1, -1)
    shown = {
        name: torch.stack([make(level)[row] for level in bench.levels])
        for name, make in makers.items()
    }
    return ("truth", truth), *shown.items()


def _psnr(losses: Tensor) -> tuple[tuple[float, ...], ...]:
    values = -10 * losses.nan_to_num(nan=1e12).clamp(1e-12, 1e12).log10()
    return tuple(tuple(round(value, 2) for value in row) for row in values.tolist())
