"""What can go wrong, as types. Messages say what was given, what was expected, what to do."""

__all__ = ["NotFinite", "PriorError", "ShapeError"]


class ShapeError(ValueError):
    """An array does not have the shape its place requires."""


class PriorError(ValueError):
    """A prior's weights or card cannot be used: unknown, missing, truncated, or not matching."""


class NotFinite(RuntimeError):
    """A measurement or a sample contains NaN or infinity."""
