"""An inspection as text and as a picture."""

from __future__ import annotations

import textwrap
from pathlib import Path

import torch
from torch import Tensor

from invdiff.figure import Panel, draw
from invdiff.inspection.questions import range_text
from invdiff.inspection.result import Inspection

__all__ = ["draw_inspection", "inspection_text"]


def inspection_text(found: Inspection) -> str:
    """The verdict, what to do, and the numbers behind it."""
    shape = " x ".join(map(str, found.shape))
    lines = [
        f"prior {found.prior}, images {shape} on {range_text(found.range)}",
        "",
        *_paragraph(found.verdict),
        *_paragraph(found.advice),
        *(line for fault in found.faults for line in _paragraph(f"Mend this: {fault}")),
        "",
        *_table(found),
    ]
    others = [(words, gain) for words, gain in found.ranking if words != "as declared"]
    lines += ["", "other interpretations, and their score (dB above total variation):"]
    lines += [f"  {gain:+6.2f}  {words}" for words, gain in found.ranking[: len(others) + 1]]
    for note in found.notes:
        lines += ["", *_paragraph(f"Note: {note}")]
    return "\n".join(lines)


def _paragraph(text: str) -> list[str]:
    return textwrap.wrap(text, 96) if text else []


def _table(found: Inspection) -> list[str]:
    """PSNR by kind of image, method and noise level."""
    levels = "".join(f"{sigma:>10.4g}" for sigma in found.sigmas)
    lines = []
    for kind in sorted(set(found.kinds)):
        rows = [i for i, own in enumerate(found.kinds) if own == kind]
        lines.append(f"{f'{kind}: PSNR in dB, sigma':<32}{levels}")
        for line in found.lines:
            numbers = "".join(f"{value:10.2f}" for value in line.means(rows))
            lines.append(f"  {line.method:<30}{numbers}")
    return lines


def draw_inspection(path: Path, found: Inspection) -> None:
    """A PNG: one image at every noise level, by every method."""
    row = found.images.index(found.pictured)
    panels = []
    for level, sigma in enumerate(found.sigmas):
        psnr = {line.method: line.psnr[row][level] for line in found.lines}
        for name, images in found.pictures:
            title = f"{name}, sigma {sigma:.3g}" if name == "noisy" else name
            score = f", {psnr[name]:.1f} dB" if name in psnr else ""
            panels.append(_panel(title + score, images[level]))
    caption = "\n".join(textwrap.wrap(f"{found.prior}: {found.verdict}", 110))
    draw(path, panels, caption, columns=len(found.pictures))


def _panel(title: str, image: Tensor) -> Panel:
    """Two channels are shown as magnitude."""
    if len(image) == 2:
        image = (2 * image - 1).square().sum(0, keepdim=True).sqrt()
    finite = torch.nan_to_num(image, nan=0.0, posinf=1.0, neginf=0.0)
    return Panel(title, finite.numpy(), "share of the range", (0.0, 1.0))
