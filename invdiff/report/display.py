"""How images are shown, and the pictures of a report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from scipy.ndimage import uniform_filter
from torch import Tensor

from invdiff.posterior import Posterior
from invdiff.report.content import Group, Picture, Section
from invdiff.report.coverage import Calibration
from invdiff.report.range_null import Split

__all__ = ["Display", "pictures_of", "shown", "shown_deviation"]

WIDE = 5  # pixels over which a share from random probes is averaged
Show = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Display:
    """How images are shown.

    Arguments:
        show: From images (n, *domain) to (slices, channels, rows, columns), 1 or 3 channels;
            the slices of a volume follow one another.
        show_map: The same for maps that go with images, such as the share of the data; only
            ratios of what it gives are used.
        unit: Of what is shown, such as "HU".
        window: The values shown darkest and brightest.
        data_range: The range R of the PSNR, in that unit.
        presets: More windows by their names.
    """

    show: Show
    show_map: Show
    unit: str
    window: tuple[float, float]
    data_range: float
    presets: Mapping[str, tuple[float, float]] = field(default_factory=dict)


def shown(show: Show, image: Tensor) -> np.ndarray:
    """What is shown of an image, float64."""
    found: np.ndarray = show(image).detach().cpu().double().numpy()
    return found


def shown_deviation(show: Show, posterior: Posterior) -> np.ndarray:
    """The standard deviation of what is shown of the samples, float64.

    Of magnitudes it is that of the magnitude, not of the complex number. Raises what
    ``Posterior.std`` does.
    """
    samples = [show(each).detach().cpu().double() for each in posterior.x.unbind(1)]
    count = len(samples[0]) // len(posterior)  # slices of an item
    log_w = posterior.log_w.cpu().repeat_interleave(count, 0)
    found: np.ndarray = replace(posterior, x=torch.stack(samples, 1), log_w=log_w).std.numpy()
    return found


def pictures_of(
    posterior: Posterior,
    display: Display,
    stacks: Mapping[str, np.ndarray],
    truth: np.ndarray | None,
    split: Split | None,
    calibration: Calibration | None,
) -> tuple[Picture, ...]:
    """Truth, the given stacks (the mean is the last), a sample, deviation, and the split."""
    mean = list(stacks.values())[-1]
    found = [] if truth is None else [_image(display, "Truth", truth)]
    found += [_image(display, name, stack) for name, stack in stacks.items()]
    found.append(_image(display, "One sample", shown(display.show, posterior.x[:, 0])))
    if posterior.kind != "point" and posterior.x.shape[1] > 1:
        std = _size(shown_deviation(display.show, posterior))
        maps = {"Standard deviation": std}
        if truth is not None:
            maps["|Mean - truth|"] = _size(mean - truth)
        window = 0.0, max(_top(values) for values in maps.values())
        places = Group.UNCERTAINTY, Section.UNCERTAINTY
        found += [
            Picture(name, values.astype(np.float32), display.unit, window, *places)
            for name, values in maps.items()
        ]
        found[-len(maps)] = replace(found[-len(maps)], note=_trust(calibration))
    return (*found, *_of_split(display, mean, split))


def _trust(calibration: Calibration | None) -> str:
    """What a deviation is worth, in a line."""
    if calibration is None:
        return "of the samples; not calibrated: intervals may be too narrow"
    return f"of the samples; calibrated intervals are the mean ± {calibration.scale:.2f} of these"


def _of_split(display: Display, mean: np.ndarray, split: Split | None) -> tuple[Picture, ...]:
    """What the data determine, what the prior added to it, and the share of the data."""
    if split is None:
        return ()
    data = shown(display.show, split.data)
    added = (mean - data).mean(1).astype(np.float32)
    top = _top(np.abs(added))
    # A map is shown with whatever factor the unit of the images has; a ratio is a share again.
    whole = _size(shown(display.show_map, torch.ones_like(split.share)))
    share = (_size(shown(display.show_map, split.share)) / whole).astype(np.float32)
    kept = "of the mean, what measurement and noise level determine alone"
    told = "of the mean, what comes from the prior"
    parts = "1: from the data alone; 0: from the prior alone"
    if split.probes:
        share = uniform_filter(share, (0, WIDE, WIDE), mode="nearest")
        parts += f"; averaged over {WIDE} × {WIDE} pixels"
    origin = Section.ORIGIN
    return (
        replace(_image(display, "From the data", data), section=origin, note=kept),
        Picture(
            "Added by the prior", added, display.unit, (-top, top), Group.CHANGE, origin, told
        ),
        Picture("Share of the data", share, "", (0.0, 1.0), Group.SHARE, origin, parts),
    )


def _image(display: Display, title: str, stack: np.ndarray) -> Picture:
    """A stack (slices, channels, rows, columns), float32; a single channel has no axis."""
    values = (stack[:, 0] if stack.shape[1] == 1 else stack).astype(np.float32)
    return Picture(title, values, display.unit, display.window)


def _size(stack: np.ndarray) -> np.ndarray:
    """The root mean square over channels, (slices, rows, columns)."""
    found: np.ndarray = np.sqrt((stack**2).mean(1))
    return found


def _top(values: np.ndarray) -> float:
    """What all but one value in 200 stay below."""
    finite = values[np.isfinite(values)]
    top = float(np.percentile(finite, 99.5)) if finite.size else 0.0
    return top if top > 0 else 1.0
