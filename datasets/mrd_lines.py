"""Readouts of an ISMRMRD scan, and the k-space that they are sorted into."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np

from invdiff.datasets.mrd_header import MRDHeader

__all__ = ["Lines", "Readout"]

LARGEST = 1e20  # of a sample, in any unit
Item = tuple[int, ...]  # slice, contrast, phase, repetition, set


@dataclass(frozen=True, eq=False)
class Readout:
    """One record: complex64 samples (coils, samples) without the discarded ones, and its place."""

    samples: np.ndarray
    centre: int
    flags: int
    dwell: float
    item: Item
    phase: int
    partition: int
    average: int

    @classmethod
    def of_fields(cls, fields: Mapping[str, np.ndarray], count: int) -> Iterator[Self]:
        """Those of a block of records. Raises ValueError if they are not such records."""
        try:
            head = {name: fields[f"head.{name}"].reshape(count) for name in HEAD}
            lengths = fields["data.lengths"].reshape(count)
            values = fields["data.values"]
        except (KeyError, ValueError):
            raise ValueError(
                "Its records lack fields of the ISMRMRD format (version 1). Write it again with "
                "a current library."
            ) from None
        if lengths.min(initial=0) < 0 or lengths.sum() != values.size:
            raise ValueError("Its records are damaged: samples are missing. Copy the file again.")
        ends = np.cumsum(lengths)
        for k in range(count):
            yield cls._of(
                {name: array[k].item() for name, array in head.items()},
                values[ends[k] - lengths[k] : ends[k]],
            )

    @classmethod
    def _of(cls, head: Mapping[str, float], values: np.ndarray) -> Self:
        head = {name: n if name == "sample_time_us" else int(n) for name, n in head.items()}
        coils, count = int(head["active_channels"]), int(head["number_of_samples"])
        before, after = int(head["discard_pre"]), int(head["discard_post"])
        if values.dtype.kind != "f" or values.size != 2 * coils * count or not values.size:
            raise ValueError(
                f"A readout of {coils} coils and {count} samples holds {values.size} numbers, "
                "expected two per sample. The file is damaged or from another format version."
            )
        if before + after >= count:
            raise ValueError("A readout discards all of its samples. Check the raw data.")
        if not np.abs(values).max() <= LARGEST:  # NaN as well
            raise ValueError(f"A readout has samples that are NaN or beyond {LARGEST:g}.")
        samples = np.ascontiguousarray(values, np.float32).view(np.complex64)
        return cls(
            samples.reshape(coils, count)[:, before : count - after],
            int(head["center_sample"]) - before,
            int(head["flags"]),
            head["sample_time_us"],
            tuple(int(head[f"idx.{name}"]) for name in ITEM),
            int(head["idx.kspace_encode_step_1"]),
            int(head["idx.kspace_encode_step_2"]),
            int(head["idx.average"]),
        )


ITEM = ("slice", "contrast", "phase", "repetition", "set")
HEAD = (
    *("flags", "number_of_samples", "active_channels", "discard_pre", "discard_post"),
    *("center_sample", "sample_time_us", "idx.kspace_encode_step_1", "idx.kspace_encode_step_2"),
    *("idx.average", *(f"idx.{name}" for name in ITEM)),
)


class Lines:
    """k-space that is filled line by line.

    Arguments:
        header: Its size, and which line is the centre.
        limit: The most bytes that all k-space may have.
    """

    def __init__(self, header: MRDHeader, limit: int) -> None:
        self._shape, self._limit = header.shape, limit
        matrix, limits = header.shape, header.header.limits
        self._first = (matrix[1] // 2 - limits.center, matrix[2] // 2 - header.partitions.center)
        self._coils = 0
        self._seen: set[tuple[int, ...]] = set()
        self.dwell = 0.0
        self.items: dict[Item, tuple[np.ndarray, np.ndarray]] = {}

    def add(self, readout: Readout) -> None:
        """Adds a readout at its place; raises ValueError if it has none, or was there before."""
        length, phases, partitions = self._shape
        coils, samples = readout.samples.shape
        if samples != length or readout.centre != length // 2:
            raise ValueError(
                f"A readout has {samples} samples, centred at {readout.centre}; expected {length} "
                f"centred at {length // 2}. Fill asymmetric echoes up with zeros only if the "
                "reconstruction knows: they were not measured."
            )
        phase, partition = readout.phase + self._first[0], readout.partition + self._first[1]
        if not (0 <= phase < phases and 0 <= partition < partitions):
            raise ValueError(
                f"Line {readout.phase}, {readout.partition} lies outside of the {phases} x "
                f"{partitions} encoded ones. Check the header's encoding limits."
            )
        place = (*readout.item, phase, partition, readout.average)
        if place in self._seen:
            raise ValueError(
                "A line was measured twice with the same counters. Number averages or "
                "repetitions, or drop one."
            )
        self._seen.add(place)
        self._fit(coils, readout)
        values, counts = self.items[readout.item]
        values[:, :, phase, partition] += readout.samples
        counts[phase, partition] += 1

    def _fit(self, coils: int, readout: Readout) -> None:
        """Memory for a new item, after checking that it is allowed; coils must not change."""
        self._coils = self._coils or coils
        self.dwell = self.dwell or readout.dwell
        if coils != self._coils:
            raise ValueError(f"Readouts have {self._coils} and {coils} coils, expected as many.")
        if readout.item not in self.items:
            shape = (coils, *self._shape)
            size = 8 * int(np.prod(shape, dtype=np.float64))
            if size * (len(self.items) + 1) > self._limit:
                raise ValueError(
                    f"k-space needs more than {self._limit} bytes. Split the file by slices."
                )
            counts = np.zeros(self._shape[1:], np.int32)
            self.items[readout.item] = np.zeros(shape, np.complex64), counts

    def collected(self, items: list[Item]) -> tuple[np.ndarray, np.ndarray]:
        """The mean of k-space (n, coils, *shape), and the counts (n, phase, partitions).

        Raises ValueError if these are not the items that were measured.
        """
        if set(items) != set(self.items):
            raise ValueError(
                "Calibration lines belong to other slices than the image's lines. Write both for "
                "each, or none."
            )
        counts = np.stack([self.items[item][1] for item in items])
        kspace = np.stack([self.items[item][0] for item in items])
        kspace /= np.maximum(counts, 1)[:, None, None].astype(np.float32)
        return kspace, counts
