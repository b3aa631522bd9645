"""What sorting the readouts of an ISMRMRD scan needs of its header."""

from __future__ import annotations

from dataclasses import dataclass
from xml.etree import ElementTree

from invdiff.datasets.ismrmrd_header import (
    NAMESPACE,
    EncodingLimits,
    Header,
    parse_header,
    write_header,
)

__all__ = ["MRDHeader", "parse_mrd_header", "write_mrd_header"]

LARGEST = 16384  # samples along an axis
FIELD = 63_870_000  # Hz at 1.5 T: simulated scans must name one


@dataclass(frozen=True)
class MRDHeader:
    """Sizes and limits; those of the partitions; and what noise and calibration lines mean.

    Arguments:
        header: Encoded and reconstructed space, and the limits of the phase encoding.
        partitions: The limits of the second phase encoding.
        calibration: "embedded", "separate" or another mode of calibration lines; "" if not said.
        noise_bandwidth: The share of the receiver's bandwidth in which there is noise.
    """

    header: Header
    partitions: EncodingLimits
    calibration: str = ""
    noise_bandwidth: float = 1.0

    @property
    def shape(self) -> tuple[int, int, int]:
        """The encoded samples along readout, phase and partitions."""
        return self.header.encoded.matrix


def parse_mrd_header(text: str) -> MRDHeader:
    """Reads the XML of a Cartesian scan with one encoding.

    Raises:
        ValueError: If it is not such XML, or lacks a number. No content is quoted.
    """
    header = parse_header(text)
    root = ElementTree.fromstring(text)
    trajectory = _find(root, "encoding/trajectory").strip().lower()
    if trajectory != "cartesian":
        raise ValueError(
            "The trajectory of the scan is not 'cartesian'. Only Cartesian k-space is sorted here."
        )
    if max(header.encoded.matrix) > LARGEST:
        raise ValueError(f"The header encodes more than {LARGEST} samples along an axis.")
    place = "encoding/encodingLimits/kspace_encoding_step_2"
    names = ("minimum", "maximum", "center")
    partitions = [int(_number(root, f"{place}/{name}", 0.0)) for name in names]
    bandwidth = _number(root, "acquisitionSystemInformation/relativeReceiverNoiseBandwidth", 1.0)
    if not 0 < bandwidth <= 2:
        raise ValueError(
            "The header's relativeReceiverNoiseBandwidth is not in (0, 2]. Correct or remove it."
        )
    mode = _find(root, "encoding/parallelImaging/calibrationMode").strip().lower()
    return MRDHeader(header, EncodingLimits(*partitions), mode, bandwidth)


def write_mrd_header(header: Header, coils: int) -> str:
    """The XML of a scan with this header: only sizes, limits and what the schema demands."""
    root = ElementTree.fromstring(write_header(header))
    system = ElementTree.Element(f"{{{NAMESPACE}}}acquisitionSystemInformation")
    ElementTree.SubElement(system, f"{{{NAMESPACE}}}receiverChannels").text = str(coils)
    conditions = ElementTree.Element(f"{{{NAMESPACE}}}experimentalConditions")
    resonance = ElementTree.SubElement(conditions, f"{{{NAMESPACE}}}H1resonanceFrequency_Hz")
    resonance.text = str(FIELD)
    root[:0] = [system, conditions]
    return ElementTree.tostring(root, encoding="unicode")


def _find(root: ElementTree.Element, path: str) -> str:
    found = root.find("/".join(f"{{{NAMESPACE}}}{name}" for name in path.split("/")))
    return (found.text if found is not None else None) or ""


def _number(root: ElementTree.Element, path: str, default: float) -> float:
    text = _find(root, path)
    if not text:
        return default
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not abs(number) <= 1e6:
        raise ValueError(f"The header's {path} is no number up to a million. Correct it.")
    return number
