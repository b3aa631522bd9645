"""The geometry of a CT scan, in millimetres and radians."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property
from typing import Self

import numpy as np

from invdiff.errors import ShapeError
from invdiff.operators.ct_check import check, lengths
from invdiff.operators.ct_vectors import (
    cells_to_cover,
    cone_vectors,
    fan_vectors,
    parallel_vectors,
    view_angles,
)

__all__ = ["Beam", "Geometry"]


class Beam(Enum):
    """PARALLEL rays of one direction per view, or DIVERGENT ones from one point per view."""

    PARALLEL = "parallel"
    DIVERGENT = "divergent"

    def __repr__(self) -> str:
        return f"Beam.{self.name}"


@dataclass(frozen=True, eq=False, repr=False)
class Geometry:
    r"""Where pixels, source and detector cells are; hashable, and equal when all numbers are.

    The centre of the image is the origin and lies on the rotation axis. x points right along the
    columns, y points up (row 0 has the largest y), z grows with the slices. Cell k of n has its
    centre k - (n - 1) / 2 steps from the detector's centre, and likewise the rows of a detector.
    Angles run counter-clockwise; under the angle a the rays travel along (-sin a, cos a) and
    the cells follow each other along (cos a, sin a), so that the ray of a parallel beam's cell
    at u is :math:`x \cos a + y \sin a = u`. Make one with ``parallel``, ``fan``, ``cone`` or
    ``helical``; any other scan is a matter of its vectors.

    Arguments:
        image_shape: (rows, columns), or (slices, rows, columns).
        pixel_size: The spacing along the same axes in mm.
        detectors: (cells,), or for volumes (detector rows, cells).
        beam: Whether rays are parallel or come from a source.
        vectors: One row of numbers per view. Images: x and y of the ray (its direction) or the
            source (mm), of the detector's centre (mm), and of the step from cell to cell (mm).
            Volumes: x, y and z of the same three and of the step from row to row.
        arc: Whether the cells lie on a circle about the source (for volumes: on a cylinder about
            the line through the source along the step from row to row), evenly spaced in angle;
            the step is then tangential and its length that of the arc. False: on a line or plane.

    Raises:
        ShapeError: If a shape is not one, or lengths of tuples do not match.
        ValueError: If a number is not finite, a length not positive, a source within the image,
            or a view degenerate.
    """

    image_shape: tuple[int, ...]
    pixel_size: tuple[float, ...]
    detectors: tuple[int, ...]
    beam: Beam
    vectors: tuple[tuple[float, ...], ...]
    arc: bool = False

    def __post_init__(self) -> None:
        # Plain numbers, so that the key does not depend on which library they came from.
        for name, kind in (("image_shape", int), ("pixel_size", float), ("detectors", int)):
            object.__setattr__(self, name, tuple(kind(n) for n in getattr(self, name)))
        rows = tuple(tuple(float(n) for n in row) for row in self.vectors)
        object.__setattr__(self, "vectors", rows)
        check(self)

    @classmethod
    def parallel(
        cls,
        image_shape: tuple[int, int],
        views: int | Sequence[float],
        *,
        pixel_size: float | tuple[float, float],
        detectors: int | None = None,
        detector_spacing: float | None = None,
        start: float = 0.0,
        span: float = math.pi,
        detector_offset: float = 0.0,
        lateral_shift: float = 0.0,
    ) -> Self:
        """Parallel rays. Slices of a volume are rows of a batch, each with this geometry.

        Arguments:
            image_shape: (rows, columns).
            views: How many, evenly over [start, start + span); or their angles in radians.
            pixel_size: In mm; one number, or (between rows, between columns).
            detectors: How many cells; None: as many as see every pixel under every angle.
            detector_spacing: In mm; None: the (smaller) size of a pixel.
            start, span: Radians; a limited angle is a smaller span.
            detector_offset: How far the detector's centre lies along the cells, mm.
            lateral_shift: How far the whole scanner does (the axis then lies at its negative in
                the scanner's frame); for parallel rays the two simply add.

        Raises:
            ShapeError, ValueError: As the class does; or if angles look like degrees.
        """
        size = lengths("pixel_size", pixel_size, 2)
        spacing = _length("detector_spacing", detector_spacing, min(size))
        offset = detector_offset + lateral_shift
        if detectors is None:
            width = _diagonal(image_shape, size) + 2 * abs(offset)
            detectors = math.ceil(width / spacing - 1e-9)
        vectors = parallel_vectors(view_angles(views, start, span), spacing, offset)
        return cls(image_shape, size, (detectors,), Beam.PARALLEL, _tuples(vectors))

    @classmethod
    def fan(
        cls,
        image_shape: tuple[int, int],
        views: int | Sequence[float],
        *,
        pixel_size: float | tuple[float, float],
        source_to_axis: float,
        source_to_detector: float,
        detectors: int | None = None,
        detector_spacing: float | None = None,
        start: float = 0.0,
        span: float = 2 * math.pi,
        detector_offset: float = 0.0,
        lateral_shift: float = 0.0,
        arc: bool = False,
    ) -> Self:
        """Rays from a source that turns with a flat detector, or with an arc about the source.

        Arguments (those of ``parallel``, and):
            source_to_axis: The distance from the source to the rotation axis, mm.
            source_to_detector: The distance from the source to the detector, mm.
            detector_spacing: On the detector (along an arc), mm; None: what a pixel at the axis
                is magnified to.
            span: Radians; a short scan is pi plus the angle of the fan.
            detector_offset: How far the detector's centre lies along the cells from the central
                ray (arc length on an arc), mm. A quarter-cell offset is 0.25 x spacing.
            lateral_shift: How far source and detector together lie along the cells, mm.
            arc: Whether the cells lie on a circle about the source.

        Raises:
            ShapeError, ValueError: As the class does; or if angles look like degrees, or the
                source is too close to the image.
        """
        size = lengths("pixel_size", pixel_size, 2)
        lengths("source_to_axis and source_to_detector", (source_to_axis, source_to_detector), 2)
        magnified = min(size) * source_to_detector / source_to_axis
        spacing = _length("detector_spacing", detector_spacing, magnified)
        if detectors is None:
            radius = _diagonal(image_shape, size) / 2 + abs(lateral_shift)
            cells = cells_to_cover(radius, source_to_axis, source_to_detector, spacing, arc)
            detectors = cells + math.ceil(2 * abs(detector_offset) / spacing)
        angles = view_angles(views, start, span)
        place = (source_to_axis, source_to_detector, spacing, detector_offset, lateral_shift, arc)
        vectors = _tuples(fan_vectors(angles, *place))
        return cls(image_shape, size, (detectors,), Beam.DIVERGENT, vectors, arc)

    @classmethod
    def cone(
        cls,
        image_shape: tuple[int, int, int],
        views: int | Sequence[float],
        *,
        pixel_size: float | tuple[float, float, float],
        source_to_axis: float,
        source_to_detector: float,
        detectors: tuple[int, int],
        detector_spacing: tuple[float, float],
        start: float = 0.0,
        span: float = 2 * math.pi,
        detector_offset: tuple[float, float] = (0.0, 0.0),
        lateral_shift: float = 0.0,
        pitch: float = 0.0,
        arc: bool = False,
    ) -> Self:
        """A fan with several detector rows, on a circle in the plane z = 0 or on a helix.

        Arguments (those of ``fan``, and):
            image_shape: (slices, rows, columns).
            pixel_size: In mm; one number, or (between slices, between rows, between columns).
            detectors: (rows, cells per row).
            detector_spacing: (between rows, between cells) on the detector, mm.
            detector_offset: (upwards, along the cells), mm.
            pitch: How far source and detector rise (or the table sinks) per turn, mm; the mean
                of their heights is 0.

        Raises:
            ShapeError, ValueError: As the class does; or if angles look like degrees.
        """
        size = lengths("pixel_size", pixel_size, 3)
        lengths("source_to_axis and source_to_detector", (source_to_axis, source_to_detector), 2)
        up, across = lengths("detector_spacing", detector_spacing, 2)
        angles = view_angles(views, start, span, several_turns=pitch != 0)
        heights = pitch / (2 * math.pi) * (angles - angles.mean())
        place = (source_to_axis, source_to_detector, across, detector_offset[1], lateral_shift)
        fan = fan_vectors(angles, *place, arc)
        vectors = _tuples(cone_vectors(fan, heights, up, detector_offset[0]))
        return cls(image_shape, size, detectors, Beam.DIVERGENT, vectors, arc)

    @classmethod
    def helical(
        cls,
        image_shape: tuple[int, int, int],
        views: int,
        *,
        turns: float,
        pitch: float,
        pixel_size: float | tuple[float, float, float],
        source_to_axis: float,
        source_to_detector: float,
        detectors: tuple[int, int],
        detector_spacing: tuple[float, float],
        start: float = 0.0,
        detector_offset: tuple[float, float] = (0.0, 0.0),
        lateral_shift: float = 0.0,
        arc: bool = True,
    ) -> Self:
        """A cone beam that rises as it turns, by default onto an arc, as clinical scanners do.

        Arguments (those of ``cone``, and):
            views: How many in all, evenly over the turns.
            turns: How many turns, counter-clockwise.

        Raises:
            ShapeError, ValueError: As the class does; or if there are no views, turns or pitch.
        """
        if not 0 < turns < math.inf or not 0 < abs(pitch) < math.inf:
            raise ValueError(
                f"turns={turns}, pitch={pitch}: expected a positive number of turns and a pitch "
                "other than 0 in mm per turn. Without a pitch, use Geometry.cone."
            )
        return cls.cone(
            image_shape,
            views,
            pixel_size=pixel_size,
            source_to_axis=source_to_axis,
            source_to_detector=source_to_detector,
            detectors=detectors,
            detector_spacing=detector_spacing,
            start=start,
            span=2 * math.pi * turns,
            detector_offset=detector_offset,
            lateral_shift=lateral_shift,
            pitch=pitch,
            arc=arc,
        )

    @property
    def dimensions(self) -> int:
        """2 for images, 3 for volumes."""
        return len(self.image_shape)

    @property
    def views(self) -> int:
        """How many there are."""
        return len(self.vectors)

    @property
    def sinogram_shape(self) -> tuple[int, ...]:
        """(views, cells), or for volumes (detector rows, views, cells)."""
        return (*self.detectors[:-1], self.views, self.detectors[-1])

    @cached_property
    def array(self) -> np.ndarray:
        """The vectors as a read-only float64 array, (views, 6) or (views, 12)."""
        array = np.array(self.vectors, dtype=np.float64)
        array.flags.writeable = False
        return array

    @cached_property
    def angles(self) -> np.ndarray:
        """The angle of every view, that of its step from cell to cell, without jumps; radians."""
        start = 2 * self.dimensions
        angles: np.ndarray = np.unwrap(np.arctan2(self.array[:, start + 1], self.array[:, start]))
        return angles

    def finer(self, factor: int) -> Self:
        """The same scan of an image with ``factor`` times as many, smaller pixels per axis."""
        shape = tuple(n * factor for n in self.image_shape)
        size = tuple(n / factor for n in self.pixel_size)
        return replace(self, image_shape=shape, pixel_size=size)

    @property
    def square_pixels(self) -> bool:
        """Whether the spacing is the same along every axis."""
        return len(set(self.pixel_size)) == 1

    def diagonal(self) -> float:
        """The diagonal of the image (of one slice) in mm: what a detector must cover."""
        return _diagonal(self.image_shape, self.pixel_size)

    def to_json(self) -> str:
        """The geometry as JSON; ``from_json`` gives an equal one."""
        fields = {
            "image_shape": self.image_shape,
            "pixel_size": self.pixel_size,
            "detectors": self.detectors,
            "beam": self.beam.value,
            "arc": self.arc,
            "vectors": self.vectors,
        }
        return json.dumps(fields)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Reads what ``to_json`` wrote. Raises ShapeError or ValueError if it is anything else."""
        try:
            fields = json.loads(text)
            return cls(**fields | {"beam": Beam(fields["beam"])})
        except (TypeError, KeyError) as error:
            raise ValueError(
                f"This is no geometry ({error}). Expected what Geometry.to_json wrote."
            ) from error

    @cached_property
    def key(self) -> str:
        """The SHA-256 of every number: the same in every process and on every machine."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Geometry) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return (
            f"Geometry(image_shape={self.image_shape}, pixel_size={self.pixel_size}, "
            f"detectors={self.detectors}, beam={self.beam!r}, arc={self.arc}, "
            f"vectors=<{self.views} views, sha256={self.key[:12]}>)"
        )


def _diagonal(shape: Sequence[int], size: Sequence[float]) -> float:
    if len(shape) < 2:
        raise ShapeError(f"image_shape is {shape}, expected (rows, columns).")
    return math.hypot(shape[-2] * size[-2], shape[-1] * size[-1])


def _length(name: str, value: float | None, default: float) -> float:
    return lengths(name, default if value is None else value, 1)[0]


def _tuples(array: np.ndarray) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row) for row in array.tolist())
