"""Folders of DICOM files that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from invdiff.datasets.dicom_limits import quiet_pydicom

__all__ = ["new_folder", "save_image"]


@contextmanager
def new_folder(folder: str | Path) -> Iterator[Path]:
    """A temporary folder beside ``folder`` that takes its name only if the block succeeds.

    Raises:
        FileExistsError: If there is something at ``folder``: nothing is ever overwritten.
    """
    folder = Path(folder)
    if folder.exists() or folder.is_symlink():
        raise FileExistsError("The output folder exists. Choose a new one, or remove it.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.part")
    temporary.mkdir()
    try:
        yield temporary
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def save_image(path: Path, image: Dataset) -> None:
    """Writes one DICOM file in Explicit VR Little Endian, with a preamble of zeros.

    Raises:
        ValueError: If pydicom cannot encode the header; the message quotes no value.
        OSError: If the file cannot be written.
    """
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    try:
        with quiet_pydicom(), path.open("wb") as file:
            image.save_as(file, enforce_file_format=True)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        raise
    except Exception as error:
        raise ValueError(
            f"An image could not be encoded as DICOM ({type(error).__name__}): the header of the "
            "series it derives from has invalid values. Correct them there."
        ) from None
