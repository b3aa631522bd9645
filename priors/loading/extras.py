"""Libraries that are not always installed."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["needs"]


def needs(module: str, extra: str) -> Any:
    """Imports an optional library. Raises ImportError that names the extra to install."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"This needs {module}, which is not installed: pip install 'invdiff[{extra}]'."
        ) from error
