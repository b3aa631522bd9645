"""Measurements as the named arrays and texts of a file, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from invdiff.datasets.ct_measurement import CTMeasurement
from invdiff.datasets.measurement_checks import check_provenance, read_provenance
from invdiff.datasets.mri_measurement import MRIMeasurement
from invdiff.operators.ct_geometry import Geometry

__all__ = ["from_parts", "missing_and_extra", "to_parts"]

SHARED = {"items", "data", "sigma", "provenance"}
REQUIRED = {"ct": SHARED | {"geometry", "water"}, "mri": SHARED | {"mask", "scale"}}
OPTIONAL = {"ct": {"truth"}, "mri": {"truth", "maps", "pixel_size"}}


def to_parts(measurement: CTMeasurement | MRIMeasurement) -> dict[str, np.ndarray | list[str]]:
    """The arrays, and texts as lists, by their names in a file."""
    parts: dict[str, np.ndarray | list[str]] = {
        "items": list(measurement.items),
        "data": measurement.data,
        "sigma": measurement.sigma,
        "provenance": [check_provenance(measurement.provenance)],
    }
    if measurement.truth is not None:
        parts["truth"] = measurement.truth
    if isinstance(measurement, CTMeasurement):
        return parts | {
            "geometry": [measurement.geometry.to_json()],
            "water": np.array([measurement.water]),
        }
    parts |= {"mask": measurement.mask.astype(np.uint8), "scale": np.array([measurement.scale])}
    if measurement.maps is not None:
        parts["maps"] = measurement.maps
    if measurement.pixel_size is not None:
        parts["pixel_size"] = np.array(measurement.pixel_size, dtype=np.float64)
    return parts


def missing_and_extra(modality: str, names: set[str]) -> tuple[list[str], int]:
    """The parts that are required but not there, and the number of those that are too many."""
    missing = sorted(REQUIRED[modality] - names)
    return missing, len(names - REQUIRED[modality] - OPTIONAL[modality])


def from_parts(modality: str, parts: Mapping[str, Any]) -> CTMeasurement | MRIMeasurement:
    """The measurement of these parts, of which none is missing.

    Raises:
        ShapeError, TypeError, ValueError: If they are not what they must be.
    """
    provenance = read_provenance("provenance", parts["provenance"])
    items, data, sigma = tuple(parts["items"]), parts["data"], parts["sigma"]
    truth = parts.get("truth")
    if modality == "ct":
        geometry = _geometry(parts["geometry"])
        water = _number("water", parts["water"])
        return CTMeasurement(items, data, sigma, geometry, water, truth, provenance)
    mask = parts["mask"]
    if mask.dtype != np.uint8 or not np.isin(mask, (0, 1)).all():
        raise ValueError("The mask does not hold zeros and ones of 8 bits. Write it again.")
    scale, size = _number("scale", parts["scale"]), parts.get("pixel_size")
    if size is not None:
        if size.shape != (2,) or size.dtype.kind != "f":
            raise ValueError(f"pixel_size has shape {size.shape}, expected two numbers in mm.")
        size = (float(size[0]), float(size[1]))
    maps = parts.get("maps")
    return MRIMeasurement(items, data, sigma, mask == 1, maps, scale, size, truth, provenance)


def _number(name: str, value: np.ndarray) -> float:
    if value.shape != (1,) or value.dtype.kind != "f":
        raise ValueError(f"{name} has shape {value.shape}, expected one floating-point number.")
    return float(value[0])


def _geometry(texts: list[str]) -> Geometry:
    try:
        return Geometry.from_json(texts[0])
    except (ValueError, RecursionError, IndexError, OverflowError):
        raise ValueError(
            "Its geometry is none. Expected one text, what Geometry.to_json wrote. Write it again."
        ) from None
