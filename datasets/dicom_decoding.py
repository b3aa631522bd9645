"""Which library decodes compressed pixels, and what it says of them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID

from invdiff.datasets.dicom_limits import DicomError

__all__ = ["plugin_of", "without_complaints"]

PREFERRED = ("pydicom", "pylibjpeg", "pyjpegls", "gdcm")  # the first that can


def plugin_of(syntax: UID) -> str:
    """The library that decodes; "" for what is not compressed."""
    if not syntax.is_encapsulated:
        return ""
    available = get_decoder(syntax).available_plugins
    return next(name for name in (*PREFERRED, *available) if name in available)


@contextmanager
def without_complaints(plugin: str) -> Iterator[None]:
    """Inside, GDCM decodes; what it says on the standard error output becomes a DicomError.

    It reports missing and impossible codes in words only, and fills the rest of the image up.
    """
    if plugin != "gdcm":
        yield
        return
    with tempfile.TemporaryFile() as words:
        before = os.dup(2)
        os.dup2(words.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(before, 2)
            os.close(before)
        if os.fstat(words.fileno()).st_size:
            raise DicomError(
                "has damaged pixel data, of which its decoder complains. Copy it again."
            )
