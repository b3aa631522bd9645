"""How much of a DICOM file that is not trusted is read, and the one error that refuses the rest.

An error names a file by its position, counted from 1, in the sorted folder or the given list:
header values and file names may name a patient, and so appear in no message.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pydicom

__all__ = ["DicomError", "DicomLimits", "clear_errors", "quiet_pydicom"]

GIB = 2**30


class DicomError(ValueError):
    """DICOM input that cannot be used. The message quotes no header value and no file name."""


@dataclass(frozen=True)
class DicomLimits:
    r"""Upper limits, checked before any pixel is touched.

    The process that parses and decodes may use :math:`1\,\mathrm{GiB} + 2 F + 16 P` bytes of
    memory for a file of F bytes with frames of P bytes (enforced on Linux).

    Arguments:
        files: Files in a folder or list, and images in a series.
        file_bytes: Of one file.
        frame_bytes: Of one frame after decompression: rows x columns x bytes per pixel.
        pixel_bytes: Of all the frames of a series after decompression.
        seconds: For the header of one file, and for each frame.

    Raises:
        ValueError: If a limit is not positive.
    """

    files: int = 20_000
    file_bytes: int = 2 * GIB
    frame_bytes: int = GIB // 4
    pixel_bytes: int = 2 * GIB
    seconds: float = 60.0

    def __post_init__(self) -> None:
        if not min(vars(self).values()) > 0:
            raise ValueError(f"{self} has a limit that is not positive; expected all above 0.")

    @staticmethod
    def memory(file_bytes: int, frame_bytes: int) -> int:
        """Bytes that the process may use while it reads such a file."""
        return GIB + 2 * file_bytes + 16 * frame_bytes


@contextmanager
def clear_errors(what: str) -> Iterator[None]:
    """Turns whatever a parser or decoder of ``what`` raises into a DicomError.

    StopIteration and RecursionError are among them: pydicom lets both escape. The message is a
    predicate, to follow "File 3 of 12".
    """
    try:
        yield
    except DicomError:
        raise
    except RecursionError:
        raise DicomError(f"nests sequences too deeply in its {what}. Refused.") from None
    except MemoryError:
        raise DicomError(f"asks for more memory than its {what} should need. Refused.") from None
    except OSError as error:
        raise DicomError(
            f"cannot be read ({type(error).__name__}). Check its permissions and the disk."
        ) from None
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # decoders written in Rust panic with one that is no Exception
        raise DicomError(
            f"has damaged or invalid {what} ({type(error).__name__}). Export or copy it again."
        ) from None


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Keeps pydicom from warning, logging and raising about values: it quotes them."""
    logger = logging.getLogger("pydicom")
    before = logger.disabled
    logger.disabled = True
    try:
        with warnings.catch_warnings(), pydicom.config.disable_value_validation():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = before
