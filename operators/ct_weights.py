r"""What every ray of a scan counts for in an analytic reconstruction.

A ray counts for the angle that its view stands for (half the way to both neighbours, whatever the
angles), and for its share where the same line is measured twice:

* parallel rays: every line once per half turn; views half a turn apart are neighbours;
* a source on a whole circle: half each; or, where the detector reaches beyond the image on one
  side only, the smooth share of Wang (2002);
* a source on less than a circle, but on half a turn plus the fan: the smooth share of
  Parker (1982), over as much as the scan has (Silver, 2000).

References:
    | Optimal short scan convolution reconstruction for fan beam CT (Parker, 1982)
    | A method for including redundant data in computed tomography (Silver, 2000)
    | X-ray micro-CT with a displaced detector array (Wang, 2002)
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from invdiff.operators.ct_geometry import Beam, Geometry
from invdiff.operators.ct_orbit import Orbit

__all__ = ["Angles", "angles_of", "ray_weights"]

GAP = 3.0  # times the mean gap: a wider one is a range of angles that was not measured
#            (golden angles have gaps of up to 2.4 times the mean)


class Angles(NamedTuple):
    """How the angles of views fill a circle of some period, all in radians.

    ``weight``: The range that each view stands for, (views,). ``position``: Where its middle is,
    from the end of the widest gap, (views,). ``gap``: The widest between two views.
    ``missing``: How many gaps are so wide that nothing was measured there.
    """

    weight: np.ndarray
    position: np.ndarray
    gap: float
    missing: int


def angles_of(angles: np.ndarray, period: float) -> Angles:
    """How angles (views,), in any order and number of turns, fill a circle."""
    order = np.argsort(angles % period)
    after = np.diff(angles[order] % period, append=angles[order[0]] % period + period)
    first = (int(after.argmax()) + 1) % len(order)
    order, after = np.roll(order, -first), np.roll(after, -first)  # the widest gap comes last
    others = after[:-1][after[:-1] > 1e-6]  # two views of the same angle have no gap
    typical = float(others.mean()) if others.size else period
    wide = after > GAP * typical
    known = np.where(wide, typical, after)
    weight, position = np.empty(len(order)), np.empty(len(order))
    weight[order] = (known + np.roll(known, 1)) / 2
    position[order] = np.concatenate([[0.0], after[:-1].cumsum()]) + known[-1] / 2
    return Angles(weight, position, float(after[-1]), int(wide.sum()))


def ray_weights(geometry: Geometry, scan: Orbit, incomplete: bool) -> np.ndarray:
    """The weight of every ray, (views, cells), radians; in all, pi per point of the image.

    Raises:
        ValueError: If the image's inner circle was not seen under all angles, or in whole, and
            ``incomplete`` is False.
    """
    reach = _inner_radius(geometry)
    left, right = float(-scan.distance.min(1).max()), float(scan.distance.max(1).min())
    spacing = scan.spacing * (1 if math.isinf(scan.radius) else scan.radius / scan.depth)
    sides = min(left, right) >= reach - spacing, max(left, right) >= reach - spacing
    turn = angles_of(scan.angles, 2 * math.pi)
    if not sides[0] and sides[1] and not turn.missing and min(left, right) > 0:
        return _times(turn, _displaced(scan.distance, min(left, right)))
    if not (sides[0] or incomplete):
        raise ValueError(
            f"The detector sees rays up to {left:.4g} and {right:.4g} mm on either side of the "
            f"axis, but the image reaches {reach:.4g} mm. Filtered backprojection needs all of "
            "them (or one side, and a whole turn): reconstruct a smaller image, or pass "
            "incomplete=True if nothing lies beyond."
        )
    if geometry.beam is Beam.PARALLEL:
        half = angles_of(scan.angles, math.pi)
        _require(not half.missing or incomplete, half, "half a turn")
        return _times(half, np.ones_like(scan.distance))
    if not turn.missing:
        return _times(turn, np.full_like(scan.distance, 0.5))
    return _times(turn, _short(scan, turn, reach, incomplete))


def _times(angles: Angles, share: np.ndarray) -> np.ndarray:
    weight: np.ndarray = angles.weight[:, None] * share
    return weight


def _short(scan: Orbit, turn: Angles, reach: float, incomplete: bool) -> np.ndarray:
    """Parker's shares, which depend on the view's position and the ray's angle in the fan."""
    step = 2 * float(turn.position.min())
    covered = float(turn.position.max()) + step / 2
    fan = 2 * math.asin(reach / scan.radius)
    enough = covered >= math.pi + fan - step and turn.missing == 1
    _require(enough or incomplete, turn, f"{math.degrees(math.pi + fan):.4g} degrees")
    over = (covered - math.pi) / 2
    if over <= 0:  # no line was measured twice
        return np.ones_like(scan.distance)
    gamma = np.clip(np.arcsin(scan.distance / scan.radius), -over, over)
    begin = turn.position[:, None] / np.maximum(2 * (over + gamma), 1e-12)
    end = (covered - turn.position[:, None]) / np.maximum(2 * (over - gamma), 1e-12)
    share: np.ndarray = _rise(begin) * _rise(end)
    return share


def _displaced(distance: np.ndarray, overlap: float) -> np.ndarray:
    """Wang's shares: rays within ``overlap`` of the axis are measured from both sides."""
    return _rise((1 + distance / overlap * _longer_side(distance)) / 2)


def _longer_side(distance: np.ndarray) -> float:
    return 1.0 if distance.max() > -distance.min() else -1.0


def _rise(share: np.ndarray) -> np.ndarray:
    """From 0 to 1, with rise(s) + rise(1 - s) = 1."""
    risen: np.ndarray = np.sin(math.pi / 2 * np.clip(share, 0, 1)) ** 2
    return risen


def _inner_radius(geometry: Geometry) -> float:
    return min(n * p for n, p in zip(geometry.image_shape, geometry.pixel_size, strict=True)) / 2


def _require(enough: bool, angles: Angles, needed: str) -> None:
    if not enough:
        raise ValueError(
            f"There are {angles.missing} wide gaps between the angles, the widest of "
            f"{math.degrees(angles.gap):.4g} degrees. Filtered backprojection needs views over "
            f"{needed}, without gaps wider than {GAP:g} times the mean. Use an iterative "
            "reconstruction, or pass incomplete=True to have the image without these angles."
        )
