"""The card of a prior: what it is for, where it comes from, how well it denoises."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from invdiff.errors import PriorError

__all__ = ["Card", "Denoising", "Source"]


@dataclass(frozen=True)
class Source:
    """Training data of one origin.

    Arguments:
        name: What it is.
        licence: Under which licence.
        origin: The package or generator it comes from.
        attribution: Authors, one entry per picture where a licence asks for it.
    """

    name: str
    licence: str
    origin: str
    attribution: tuple[str, ...] = ()


@dataclass(frozen=True)
class Denoising:
    """PSNR in dB of denoising one held-out image at one noise level.

    The data range is 2, for `mr` 1; of a complex image it is the PSNR of its two parts.

    Arguments:
        image: The name of the image.
        level: The noise in 255ths of the data range: sigma = level / 127.5 on a range of 2.
            Of complex images, the noise of each part.
        ours: This prior.
        bm3d: The library `bm3d`, given the true sigma; each part of a complex image for itself.
        tv: Chambolle's total variation, its weight tuned on the truth.
    """

    image: str
    level: int
    ours: float
    bm3d: float
    tv: float


@dataclass(frozen=True)
class Card:
    """Everything that is known about the weights of a network prior.

    Arguments:
        name: The name it is loaded by.
        version: Changes with the weights.
        status: "final", or "preliminary" while training goes on.
        sha256: The SHA-256 of the weight file, 64 hexadecimal digits.
        channels: The channels of an image.
        value_range: The range of clean images.
        units: What a value of 1 means.
        multiple: The network pads height and width to a multiple of this.
        sigma_min, sigma_max: The range of noise levels.
        sigma_data: The standard deviation in the preconditioning.
        mean, variance: Of the pixels of validation images.
        widths, blocks: The architecture, see `UNet`.
        training: How it was trained: steps, minutes, batch, hardware, and so on.
        data: What it was trained on.
        limits: What it is not for.
        denoising: Measured PSNRs on images never trained on.
        error_sigmas: Increasing noise levels, at which
        error_variances: the mean squared error of the denoiser was measured, not decreasing;
        grey_error_variances: the same for grey images, empty but for a prior of colours.
    """

    name: str
    version: str
    status: str
    sha256: str
    channels: int
    value_range: tuple[float, float]
    units: str
    multiple: int
    sigma_min: float
    sigma_max: float
    sigma_data: float
    mean: float
    variance: float
    widths: tuple[int, ...]
    blocks: tuple[int, ...]
    training: dict[str, str | int | float]
    data: tuple[Source, ...]
    limits: str
    denoising: tuple[Denoising, ...]
    error_sigmas: tuple[float, ...]
    error_variances: tuple[float, ...]
    grey_error_variances: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for holds, rule in (
            (re.fullmatch("[0-9a-f]{64}", self.sha256), "sha256 has 64 hexadecimal digits"),
            (self.status in ("final", "preliminary"), "status is final or preliminary"),
            (self.channels >= 1, "channels is at least 1"),
            (self.value_range[0] < self.value_range[1], "value_range is increasing"),
            (self.multiple == 2 ** len(self.widths), "multiple is 2 to the number of levels"),
            (0 < self.sigma_min < self.sigma_max, "0 < sigma_min < sigma_max"),
            (self.sigma_data > 0 and self.variance > 0, "sigma_data and variance are positive"),
            (len(self.widths) == len(self.blocks) > 0, "widths and blocks are as long"),
            (len(self.error_sigmas) >= 2, "error_sigmas has at least 2 entries"),
            (_increasing(self.error_sigmas, strictly=True), "error_sigmas is increasing"),
            (
                len(self.error_variances) == len(self.error_sigmas),
                "error_variances and error_sigmas are as long",
            ),
            (_increasing(self.error_variances), "error_variances is positive and increasing"),
            (
                len(self.grey_error_variances) in (0, len(self.error_sigmas))
                and _increasing(self.grey_error_variances),
                "grey_error_variances is empty or as long as error_sigmas, and increasing",
            ),
        ):
            if not holds:
                raise PriorError(
                    f"The card of the prior {self.name!r} is not valid: {rule}, and that does "
                    "not hold. Install the package again, or write the card anew with "
                    "scripts/measure_priors.py."
                )

    @classmethod
    def from_json(cls, text: str) -> Card:
        """Reads a card. Raises PriorError if it is no JSON, or lacks or has unknown fields."""
        try:
            raw = json.loads(text)
        except json.JSONDecodeError as error:
            raise PriorError(
                f"The card is no JSON: {error}. It may be truncated: install the package again."
            ) from error
        names = {field.name for field in dataclasses.fields(cls)}
        got = set(raw) if isinstance(raw, dict) else set()
        optional = {"grey_error_variances"}
        if not names - optional <= got <= names:
            raise PriorError(
                f"The card has other fields than this version reads: missing "
                f"{sorted(names - optional - got)}, unknown {sorted(got - names)}. "
                "Use the card and the package of one version."
            )
        try:
            return cls(**_typed(raw))
        except (TypeError, ValueError, KeyError) as error:
            if isinstance(error, PriorError):
                raise
            raise PriorError(f"A field of the card has the wrong type: {error}.") from error

    @classmethod
    def read(cls, path: Path) -> Card:
        """Reads a card from a file."""
        try:
            return cls.from_json(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise PriorError(
                f"The card {path} cannot be read ({error}). Install the package again."
            ) from error

    def to_json(self) -> str:
        """The card as JSON; `Card.from_json` reads it back."""
        return json.dumps(dataclasses.asdict(self), indent=1) + "\n"


def _increasing(values: tuple[float, ...], strictly: bool = False) -> bool:
    ordered = all(a < b if strictly else a <= b for a, b in itertools.pairwise(values))
    return ordered and all(v > 0 and math.isfinite(v) for v in values)


def _typed(raw: dict[str, Any]) -> dict[str, Any]:
    """Turns the lists and objects of JSON into the types of the fields."""
    out = dict(raw)
    low, high = raw["value_range"]
    out["value_range"] = (float(low), float(high))
    for name in ("widths", "blocks"):
        out[name] = tuple(int(v) for v in raw[name])
    for name in ("error_sigmas", "error_variances", "grey_error_variances"):
        out[name] = tuple(float(v) for v in raw.get(name, ()))
    for name in ("sigma_min", "sigma_max", "sigma_data", "mean", "variance"):
        out[name] = float(raw[name])
    for name in ("channels", "multiple"):
        out[name] = int(raw[name])
    out["denoising"] = tuple(Denoising(**row) for row in raw["denoising"])
    out["data"] = tuple(
        Source(**(source | {"attribution": tuple(source.get("attribution", ()))}))
        for source in raw["data"]
    )
    return out
