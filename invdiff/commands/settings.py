"""The settings of a reconstruction: from defaults, a YAML file, and ``key=value`` words.

Later ones win, and the command's own options win over all. Keys may lead into a group with a dot:
``sampler.eta=0.5``. A key that is not known is refused with the nearest one that is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from invdiff.commands.sampler_names import sampler_of, unknown
from invdiff.samplers.base import Sampler

__all__ = ["Settings", "read_settings"]

LIMIT = 2**20  # bytes of a settings file


@dataclass(frozen=True)
class Settings:
    """Everything that a result depends on, besides the measurement.

    Arguments:
        sampler: ``name``, and any of its parameters that are plain values.
        prior: A name, or a file or folder of weights; None: "ct" for CT, for MRI "mr" if it is
            installed and else "photo".
        prior_window: The Hounsfield units that the ends of a prior's range stand for, in CT, if
            its card does not say that its unit is HU / 1000.
        samples: Of every item; 2 or more give standard deviations.
        steps: Noise levels.
        seed: The same seed gives the same samples.
        rows: The most samples in the network at once; None: all. It changes no result but for
            rounding.
        device: "cpu", "cuda" or "cuda:0".
        items: Which of them, as "all", "3" or "0-9,20", from 0 on.
        keep_samples: Whether posterior.h5 holds the samples too, besides mean and deviation.
        split: Whether the report shows what the data determine and what the prior; it takes time.
        dicom: Whether to write DICOM where the measurement lies beside its DICOM series.
    """

    sampler: Mapping[str, Any] = field(default_factory=lambda: {"name": "DDS"})
    prior: str | None = None
    prior_window: tuple[float, float] = (-1000.0, 1000.0)
    samples: int = 8
    steps: int = 50
    seed: int = 0
    rows: int | None = None
    device: str = "cpu"
    items: str = "all"
    keep_samples: bool = False
    split: bool = True
    dicom: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "prior_window", tuple(float(v) for v in self.prior_window))
        for name, low in (("samples", 1), ("steps", 2), ("rows", 1), ("seed", None)):
            value = getattr(self, name)
            whole = isinstance(value, int) and not isinstance(value, bool)
            if (name == "rows" and value is None) or (whole and (low is None or value >= low)):
                continue
            least = "" if low is None else f" of at least {low}"
            raise ValueError(f"{name} is {value!r}, expected a whole number{least}.")
        if len(self.prior_window) != 2 or not self.prior_window[0] < self.prior_window[1]:
            raise ValueError(
                f"prior_window is {self.prior_window}, expected two increasing numbers in HU."
            )
        self.make_sampler()

    def make_sampler(self) -> Sampler | str:
        """The sampler, or "auto". Raises ValueError for an unknown name or parameter."""
        parameters = dict(self.sampler)
        name = parameters.pop("name", None)
        return "auto" if name == "auto" and not parameters else sampler_of(name, parameters)

    def chosen(self, count: int) -> list[int]:
        """The numbers of the items that ``items`` asks for, of ``count``, in order.

        Raises ValueError if it is no such text, or there is no such item.
        """
        if self.items == "all":
            return list(range(count))
        found: set[int] = set()
        for part in str(self.items).split(","):
            first, dash, last = (text.strip() for text in part.partition("-"))
            last = last if dash else first
            if not (first.isdecimal() and last.isdecimal() and int(first) <= int(last)):
                raise ValueError(
                    f"items is {self.items!r}, expected 'all', one number, or a list such as "
                    "'0-9,20'."
                )
            if int(last) >= count:
                raise ValueError(f"items asks for {int(last)}; there are {count}, from 0 on.")
            found |= set(range(int(first), int(last) + 1))
        return sorted(found)

    def to_dict(self) -> dict[str, Any]:
        """All of them, resolved: plain values for YAML and JSON."""
        return dataclasses.asdict(self) | {
            "sampler": dict(self.sampler),
            "prior_window": list(self.prior_window),
        }

    def identity(self) -> dict[str, Any]:
        """Those that change the numbers of a result."""
        # The prior is known by its hash.
        without = ("rows", "items", "keep_samples", "split", "dicom", "prior")
        return {key: value for key, value in self.to_dict().items() if key not in without}


def read_settings(file: Path | None, words: Sequence[str], options: Mapping[str, Any]) -> Settings:
    """From a YAML file, ``key=value`` words, and options that are not None.

    Raises FileNotFoundError, or ValueError for what is not known or not possible.
    """
    merged: dict[str, Any] = Settings().to_dict()
    if file is not None:
        _merge(merged, _read(file))
    for word in words:
        key, _, text = word.partition("=")
        _merge(merged, _nested(key.strip().split("."), _parse(text)))
    _merge(merged, {key: value for key, value in options.items() if value is not None})
    return Settings(**merged)


def _merge(into: dict[str, Any], new: Mapping[str, Any]) -> None:
    for key, value in new.items():
        if key not in into:
            raise ValueError(unknown(key, into))
        if key != "sampler":
            into[key] = value
        elif isinstance(value, str):
            into[key] = {"name": value}
        elif isinstance(value, Mapping):
            # Another sampler has other parameters.
            before = into[key] if value.get("name", into[key]["name"]) == into[key]["name"] else {}
            into[key] = {**before, **value}
        else:
            raise ValueError(f"sampler is {value!r}, expected a name, or a group with one.")


def _read(file: Path) -> Mapping[str, Any]:
    if not file.is_file():
        raise FileNotFoundError("There is no such settings file. Check the path after --config.")
    with file.open("rb") as opened:
        content = opened.read(LIMIT + 1)
    if len(content) > LIMIT:
        raise ValueError(f"The settings file has more than {LIMIT} bytes. Check which it is.")
    try:
        found = yaml.safe_load(content.decode())
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError):
        raise ValueError("The settings file is not YAML. See docs/commands.md.") from None
    if found is None:
        return {}
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise ValueError("The settings file holds no 'key: value' lines. See docs/commands.md.")
    return found


def _parse(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise ValueError("A value after '=' is no YAML. Put it in quotes.") from None


def _nested(keys: Sequence[str], value: Any) -> dict[str, Any]:
    for key in reversed(keys):
        value = {key: value}
    return dict(value)
