"""What ``dicom_worker``'s process says, checked: a file may have taken that process over."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from invdiff.datasets.dicom_facts import LARGEST
from invdiff.datasets.dicom_file import Description
from invdiff.datasets.dicom_planes import Plane

__all__ = ["array_of", "description_of"]

Check = Callable[[Any], bool]


def description_of(answer: dict[str, Any], file: int) -> Description:
    """Of the file at this position. Raises ValueError, TypeError or KeyError if it is none."""
    planes = tuple(_plane(facts, file) for facts in answer["planes"])
    modality, localizers, lossy = (answer[name] for name in ("modality", "localizers", "lossy"))
    _require(modality in ("", "CT", "MR") and _whole(2**31)(localizers) and _is(bool)(lossy))
    header = base64.b64decode(answer["header"], validate=True)
    return Description(modality, planes, localizers, header, lossy)


def array_of(answer: dict[str, Any], content: bytes) -> np.ndarray:
    """Stored numbers (rows, columns). Raises ValueError, TypeError or KeyError if they are not."""
    dtype, shape = answer["dtype"], answer["shape"]
    _require(bool(re.fullmatch(r"[<>|=][iu][1248]", dtype)) and _several(2, _whole(2**16))(shape))
    return np.frombuffer(content, dtype).reshape(shape)


def _plane(facts: dict[str, Any], file: int) -> Plane:
    _require(set(facts) == set(CHECKS) and facts["file"] == file)
    for name, check in CHECKS.items():
        _require(check(facts[name]))
    # JSON has no tuples.
    restored: Any = {k: tuple(v) if isinstance(v, list) else v for k, v in facts.items()}
    return Plane(**restored)


def _require(holds: bool) -> None:
    if not holds:
        raise ValueError("An answer that is none.")


def _is(kind: type) -> Check:
    return lambda value: type(value) is kind


def _whole(end: int, start: int = 0) -> Check:
    return lambda value: type(value) is int and start <= value < end


def _finite(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and abs(value) <= LARGEST


def _several(count: int, check: Check) -> Check:
    return lambda value: isinstance(value, list) and len(value) == count and all(map(check, value))


def _or_none(check: Check) -> Check:
    return lambda value: value is None or check(value)


CHECKS: dict[str, Check] = {
    "file": _whole(2**31),
    "frame": _whole(2**31),
    "multiframe": _is(bool),
    "shape": _several(2, _whole(2**16, 1)),
    "position": _several(3, _finite),
    "orientation": _several(6, _finite),
    "spacing": _several(2, _finite),
    "thickness": _or_none(_finite),
    "slope": _finite,
    "intercept": _finite,
    "bits": _several(2, _whole(33, 1)),
    "signed": _is(bool),
    "padding": _or_none(_several(2, _whole(2**33, -(2**32)))),
    "group": lambda value: isinstance(value, list) and all(map(_is(str), value)),
    "acquisition": _is(str),
}
