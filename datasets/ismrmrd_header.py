"""The few facts of an ISMRMRD header that Cartesian reconstruction needs.

Reference:
    | ISMRM Raw data format (Inati et al., 2017), https://doi.org/10.1002/mrm.26089
"""

from __future__ import annotations

from dataclasses import dataclass
from xml.etree import ElementTree

__all__ = ["EncodingLimits", "Header", "Space", "parse_header", "write_header"]

NAMESPACE = "http://www.ismrm.org/ISMRMRD"
LIMIT = 2**20  # characters
LARGEST = 1e6  # samples along an axis, and mm
SMALLEST = 1e-3  # mm


@dataclass(frozen=True)
class Space:
    """Matrix sizes and fields of view in mm along readout, phase encoding and slice."""

    matrix: tuple[int, int, int]
    view: tuple[float, float, float]


@dataclass(frozen=True)
class EncodingLimits:
    """The first, last and central phase encoding that was measured, in the scanner's count."""

    minimum: int
    maximum: int
    center: int


@dataclass(frozen=True)
class Header:
    """What was encoded, what is to be reconstructed, and the measured phase encodings."""

    encoded: Space
    recon: Space
    limits: EncodingLimits

    @property
    def measured(self) -> slice:
        """The columns of k-space that were measured; the others are padding.

        Column n // 2 of n encoded ones is the central phase encoding.
        """
        shift = self.encoded.matrix[1] // 2 - self.limits.center
        return slice(shift + self.limits.minimum, shift + self.limits.maximum + 1)

    @property
    def readout(self) -> int:
        """The rows that remain without readout oversampling: encoded ones of the recon view."""
        return round(self.encoded.matrix[0] * self.recon.view[0] / self.encoded.view[0])


def parse_header(text: str) -> Header:
    """Reads the XML of a header with one encoding.

    Raises:
        ValueError: If it is not such XML, lacks a number, or has one that is not finite or beyond
            a million. No content is quoted: it may name a patient.
    """
    if len(text) > LIMIT or "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ValueError(
            "The header is longer than a million characters or defines entities; expected a plain "
            "ISMRMRD header. Check where the file comes from."
        )
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError):
        raise ValueError(
            "The header is not XML. It may be damaged: copy the file again."
        ) from None
    encoding = root.findall(f"{{{NAMESPACE}}}encoding")
    if len(encoding) != 1:
        raise ValueError(
            f"The header has {len(encoding)} encodings of the namespace {NAMESPACE}; expected 1."
        )
    first = encoding[0]
    limits = [
        _whole(first, f"encodingLimits/kspace_encoding_step_1/{name}")
        for name in ("minimum", "maximum", "center")
    ]
    return Header(
        _space(first, "encodedSpace"), _space(first, "reconSpace"), EncodingLimits(*limits)
    )


def write_header(header: Header) -> str:
    """The XML that ``parse_header`` reads; it holds nothing else."""
    ElementTree.register_namespace("", NAMESPACE)
    root = ElementTree.Element(f"{{{NAMESPACE}}}ismrmrdHeader")
    encoding = _child(root, "encoding")
    for name, space in (("encodedSpace", header.encoded), ("reconSpace", header.recon)):
        both = _child(encoding, name)
        for inner, values in (("matrixSize", space.matrix), ("fieldOfView_mm", space.view)):
            element = _child(both, inner)
            for axis, value in zip("xyz", values, strict=True):
                _child(element, axis).text = repr(value)
    step = _child(_child(encoding, "encodingLimits"), "kspace_encoding_step_1")
    for name in ("minimum", "maximum", "center"):
        _child(step, name).text = str(getattr(header.limits, name))
    _child(encoding, "trajectory").text = "cartesian"
    return ElementTree.tostring(root, encoding="unicode")


def _space(encoding: ElementTree.Element, name: str) -> Space:
    x, y, z = (_whole(encoding, f"{name}/matrixSize/{axis}") for axis in "xyz")
    view = [_number(encoding, f"{name}/fieldOfView_mm/{axis}") for axis in "xyz"]
    if min(x, y, z) < 1 or min(view) < SMALLEST:
        raise ValueError(f"The header's {name} has sizes that are not positive. Correct them.")
    return Space((x, y, z), (view[0], view[1], view[2]))


def _whole(encoding: ElementTree.Element, path: str) -> int:
    number = _number(encoding, path)
    if not number.is_integer():
        raise ValueError(f"The header's number {path} is not a whole one. Correct it.")
    return int(number)


def _number(encoding: ElementTree.Element, path: str) -> float:
    found = encoding.find("/".join(f"{{{NAMESPACE}}}{name}" for name in path.split("/")))
    try:
        number = float((found.text if found is not None else None) or "")
    except ValueError:
        raise ValueError(f"The header lacks the number {path}. Write it into the file.") from None
    if not abs(number) <= LARGEST:  # NaN as well
        raise ValueError(
            f"The header's number {path} is not finite, or beyond {LARGEST:.0f}. Correct it."
        )
    return number


def _child(parent: ElementTree.Element, name: str) -> ElementTree.Element:
    return ElementTree.SubElement(parent, f"{{{NAMESPACE}}}{name}")
