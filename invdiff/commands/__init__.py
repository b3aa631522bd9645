"""The commands for files: one file for each, and what they share."""

__all__: list[str] = []
