"""What the parts of every measurement must be, whatever was measured."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from invdiff.errors import ShapeError

__all__ = [
    "check_array",
    "check_items",
    "check_number",
    "check_provenance",
    "check_sigma",
    "read_provenance",
]

NAME = 1024  # bytes of an item's name
TEXT = 2**20  # bytes of the provenance


def check_items(items: Sequence[str], count: int) -> None:
    """Raises ShapeError, TypeError or ValueError unless there are ``count`` different names."""
    if not all(isinstance(item, str) for item in items):
        raise TypeError("The names of the items must be texts. Convert them with str.")
    if count < 1 or len(items) != count:
        raise ShapeError(f"There are {len(items)} names for {count} items; expected one for each.")
    if len(set(items)) != len(items):
        raise ValueError(
            f"{len(items) - len(set(items))} of the items' names are not the only one of their "
            "kind. Randomness follows names: give every item its own."
        )
    for index, item in enumerate(items):
        try:
            plain = 1 <= len(item.encode()) <= NAME and item.isprintable()
        except UnicodeEncodeError:
            plain = False
        if not plain:
            raise ValueError(
                f"The name of item {index} is empty, longer than {NAME} bytes, or has characters "
                "that cannot be printed. Give a plain one."
            )


def check_array(what: str, array: np.ndarray, kind: str, expected: Sequence[int | None]) -> None:
    """Raises unless an array has the kind of numbers and shape (None: any) and is finite.

    Raises:
        ShapeError, TypeError, ValueError: If it has not.
    """
    fits = array.ndim == len(expected) and all(
        n == m or (m is None and n > 0) for n, m in zip(array.shape, expected, strict=True)
    )
    if not fits:
        wanted = tuple("any" if n is None else n for n in expected)
        raise ShapeError(f"{what} has shape {array.shape}, expected {wanted}. Check its axes.")
    names = {"f": "floating-point", "c": "complex"}
    if array.dtype.kind != kind or array.real.dtype.itemsize not in (4, 8):
        raise TypeError(
            f"{what} has dtype {array.dtype}, expected {names[kind]} numbers of single or double "
            "precision. Convert it."
        )
    bad = int(array.size - np.isfinite(array).sum())
    if bad:
        raise ValueError(
            f"{what} holds {bad} values that are NaN or infinite, expected none. Repair or drop "
            "these items."
        )


def check_sigma(sigma: np.ndarray, shape: tuple[int, ...]) -> None:
    """Raises unless sigma has the axes of the data, each of their size or 1, and is positive.

    Raises:
        ShapeError, TypeError, ValueError: If it has not.
    """
    fits = sigma.ndim == len(shape) and all(
        n in (1, m) for n, m in zip(sigma.shape, shape, strict=True)
    )
    if not fits:
        raise ShapeError(
            f"sigma has shape {sigma.shape}, expected the axes of the data {shape}, each of their "
            "size or 1."
        )
    check_array("sigma", sigma, "f", sigma.shape)
    if not (sigma > 0).all():
        raise ValueError(
            "sigma is not positive everywhere; expected the standard deviation of the noise of "
            "each real number, in the unit of the data."
        )


def check_number(what: str, value: float, low: float, high: float) -> None:
    """Raises ValueError unless a number lies in [low, high]."""
    if not low <= value <= high:
        raise ValueError(
            f"{what} is {value}, expected a number in [{low}, {high}]. Check its unit: lengths "
            "are in mm, attenuations in 1/mm."
        )


def check_provenance(provenance: Mapping[str, Any]) -> str:
    """The provenance as JSON; raises TypeError or ValueError if it is not plain and short."""
    try:
        text = json.dumps(dict(provenance), sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise type(error)(
            "The provenance must be a dictionary of texts, finite numbers, lists and dictionaries."
        ) from None
    if len(text) > TEXT:
        raise ValueError(f"The provenance has {len(text)} characters, expected at most {TEXT}.")
    return text


def read_provenance(name: str, texts: Sequence[str]) -> dict[str, Any]:
    """What ``check_provenance`` gave, from a file; raises ValueError if it is anything else."""
    try:
        value = json.loads(texts[0]) if len(texts) == 1 and len(texts[0]) <= TEXT else None
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ValueError(f"Its {name} is not a JSON object of plain values. Write it again.")
    return value
