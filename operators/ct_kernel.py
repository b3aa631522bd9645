"""How a ray meets the pixels."""

from __future__ import annotations

from enum import Enum

__all__ = ["Projection"]


class Projection(Enum):
    """How a ray meets the pixels.

    LINEAR (Joseph, 1982) interpolates along a thin ray: the better one to reconstruct with.
    STRIP integrates over the width of a detector: the better one to simulate with.
    """

    LINEAR = "linear"
    STRIP = "strip"

    def __repr__(self) -> str:
        return f"Projection.{self.name}"
