"""What a DICOM image that was computed says about how: for the header, and for the PACS."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version

import pydicom.uid

__all__ = ["Derivation", "SeriesLabel", "new_uid", "software_version"]

LONGEST = {"description": 1024, "name": 64}  # characters, of DICOM's ST and LO


@dataclass(frozen=True)
class Derivation:
    """How values came about.

    Arguments:
        method: Such as "mean of 16 posterior samples".
        prior: The prior's name.
        prior_sha256: Of its weights.
        sampler: Such as "DPS(steps=100)".
        seed: Of the run.

    Raises:
        ValueError: If the whole has more than 1024 characters, or others than printable ASCII.
    """

    method: str
    prior: str
    prior_sha256: str
    sampler: str
    seed: int

    def __post_init__(self) -> None:
        _check_text(self.description, "description")

    @property
    def description(self) -> str:
        """The text of DerivationDescription."""
        return (
            f"{self.method}; not for diagnostic use. invdiff {software_version()}; "
            f"prior {self.prior}, sha256 {self.prior_sha256}; sampler {self.sampler}; "
            f"seed {self.seed}"
        )


@dataclass(frozen=True)
class SeriesLabel:
    """How a series appears.

    Arguments:
        description: What a viewer's list shows.
        number: The series' number in its study.
        window: Centre and width of the grey scale that viewers show first, in values; by default
            40 and 400 HU for CT, else the middle 99 % of the values.
        identity: UIDs are random, or determined by this text: to write the same bytes again.
            Give it the hash of all the inputs; an archive overwrites what has the same UID.
        date_time: "YYYYMMDDHHMMSS" of the creation; by default now.

    Raises:
        ValueError: If a text is too long or not printable ASCII, or the width is not positive.
    """

    description: str
    number: int
    window: tuple[float, float] | None = None
    identity: str | None = None
    date_time: str | None = None

    def __post_init__(self) -> None:
        _check_text(self.description, "name")
        if self.window is not None and not self.window[1] > 0:
            raise ValueError(f"window has the width {self.window[1]}, expected a positive number.")
        if self.date_time is not None and not (
            len(self.date_time) == 14 and self.date_time.isdigit()
        ):
            raise ValueError(f"date_time is {self.date_time!r}, expected YYYYMMDDHHMMSS.")

    @property
    def moment(self) -> str:
        """``date_time``, or now."""
        return self.date_time or datetime.now().strftime("%Y%m%d%H%M%S")


def new_uid(identity: str | None, part: str) -> str:
    """A UID under 2.25: random, or determined by the two texts."""
    if identity is None:
        return str(pydicom.uid.generate_uid(prefix=None))
    digest = hashlib.sha256(f"{identity}/{part}".encode()).digest()
    return f"2.25.{uuid.UUID(bytes=digest[:16], version=5).int}"


def software_version() -> str:
    """The version of invdiff."""
    try:
        return version("invdiff")
    except PackageNotFoundError:  # a source tree that was never installed
        return "uninstalled"


def _check_text(text: str, kind: str) -> None:
    limit = LONGEST[kind]
    if not text or len(text) > limit or not (text.isascii() and text.isprintable()):
        raise ValueError(
            f"A text has {len(text)} characters, expected 1 to {limit} of printable ASCII: it "
            "goes into a DICOM header. Shorten it."
        )
    if "\\" in text:
        raise ValueError("A text has a backslash, which separates values in DICOM. Replace it.")
