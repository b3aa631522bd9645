"""Heads that differ from patient to patient, as far as ellipses can."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from invdiff.datasets.ellipses import Ellipse
from invdiff.datasets.mr_phantom import mr_head

__all__ = ["random_head"]

LAYERS = 4  # scalp, skull, fluid and grey matter: they stay within each other


def random_head(seed: int, width: float) -> tuple[Ellipse, ...]:
    """A T2-weighted head of this seed that fits a field of view of ``width`` mm.

    At random are the repetition and echo times, the head's place, tilt and proportions, and of
    everything inside of the grey matter also size and place.
    """
    generator = np.random.Generator(np.random.Philox(key=[seed, 2]))
    u = generator.uniform
    parts = mr_head(u(3.0, 5.0), u(0.08, 0.12), width * u(0.9, 1.0))
    tilt, wide, place = u(-0.15, 0.15), u(0.95, 1.05), (width * u(-0.02, 0.02, 2)).tolist()
    found = []
    for number, part in enumerate(parts):
        x, y = part.centre
        a, b = part.axes
        if number >= LAYERS:
            x, y = x + width * u(-0.008, 0.008), y + width * u(-0.008, 0.008)
            a, b = a * u(0.9, 1.1), b * u(0.9, 1.1)
        x, a = x * wide, a * wide
        centre = (
            place[0] + x * math.cos(tilt) - y * math.sin(tilt),
            place[1] + x * math.sin(tilt) + y * math.cos(tilt),
        )
        found.append(replace(part, centre=centre, axes=(a, b), turn=part.turn + tilt))
    return tuple(found)
