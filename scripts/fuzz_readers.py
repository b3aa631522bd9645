"""Reads thousands of damaged files with each reader: no crash, no hang, only clear errors.

    python scripts/fuzz_readers.py --files 10000 --reader dicom

Valid files are damaged at random, the same way for the same seed, and read in child processes of
limited memory. Whatever a reader raises other than its own refusals, a child that dies, and a file
that takes too long are findings: they are listed, the files are kept, and the exit status is 1.

A new reader is one entry in READERS.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from fuzz_formats import FORMATS
from fuzzing import Reader, damaged, fuzz

__all__ = ["READERS", "Reader", "damaged", "fuzz"]


def _dicom_seeds(folder: Path) -> list[Path]:
    from dicom_examples import seeds

    return seeds(folder)


def _dicom() -> Callable[[Path], object]:
    from invdiff.datasets.dicom_files import Listing
    from invdiff.datasets.dicom_limits import DicomLimits
    from invdiff.datasets.dicom_reader import InThisProcess, assemble

    opener = InThisProcess(DicomLimits(frame_bytes=2**26, pixel_bytes=2**28))
    return lambda path: assemble(Listing((path,)), opener)


def _dicom_refusals() -> tuple[type[Exception], ...]:
    from invdiff.datasets.dicom_limits import DicomError

    return (DicomError,)


def _dicom_protected() -> Callable[[Path], object]:
    from invdiff.datasets.dicom_limits import DicomLimits
    from invdiff.datasets.dicom_reader import read_series

    return lambda path: read_series(path, limits=DicomLimits(seconds=10))


READERS = {
    "dicom": Reader(_dicom_seeds, _dicom, _dicom_refusals, protected=_dicom_protected),
}
READERS |= {name: Reader(*parts) for name, parts in FORMATS.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--reader", choices=sorted(READERS), action="append")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"))
    options = parser.parse_args()
    found = False
    for name in options.reader or sorted(READERS):
        report = fuzz(name, READERS[name], options.files, options.seed, options.keep)
        print(json.dumps(report))
        found |= bool(report["findings"])
    return int(found)


if __name__ == "__main__":
    sys.exit(main())
