"""Samplers by their names, with parameters that are plain values."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from typing import Any

import invdiff.samplers
from invdiff.samplers.base import Sampler

__all__ = ["sampler_names", "sampler_of", "unknown"]

PLAIN = (bool, int, float, str)


def sampler_names() -> list[str]:
    """All that there are."""
    return sorted(name for name in invdiff.samplers.__all__ if name != "Sampler")


def sampler_of(name: object, parameters: Mapping[str, Any]) -> Sampler:
    """The sampler of a name, in letters of either case.

    Raises ValueError for an unknown name or parameter, or a value that is not plain.
    """
    kind = _kind(name)
    known = _plain_fields(kind)
    for key, value in parameters.items():
        if key not in known:
            raise ValueError(unknown(f"sampler.{key}", [f"sampler.{k}" for k in known]))
        if not isinstance(value, PLAIN) and value is not None:
            raise ValueError(f"sampler.{key} is {value!r}, expected a plain value.")
    made: Sampler = kind(**parameters)
    return made


def unknown(key: str, known: Iterable[str]) -> str:
    """What to say about a key that is not known."""
    known = sorted(known)
    return f"There is no {key!r}. {_nearest(key, known)}Known: {', '.join(known)}."


def _nearest(word: str, known: Iterable[str]) -> str:
    """ "Did you mean ...? " if one of the known words is near, else nothing."""
    by_fold = {name.casefold(): name for name in known}
    close = difflib.get_close_matches(word.casefold(), by_fold, 1, 0.5)
    return f"Did you mean {by_fold[close[0]]!r}? " if close else ""


def _kind(name: object) -> Any:
    known = sampler_names()
    by_fold = {each.casefold(): each for each in known}
    if not isinstance(name, str) or name.casefold() not in by_fold:
        raise ValueError(unknown(str(name), [*known, "auto"]).replace("no", "no sampler", 1))
    return getattr(invdiff.samplers, by_fold[name.casefold()])


def _plain_fields(kind: Any) -> list[str]:
    made = kind()
    return [
        each.name
        for each in dataclasses.fields(kind)
        if isinstance(getattr(made, each.name), (*PLAIN, type(None)))
    ]
