"""Finding out what is wrong with a prior by letting it denoise known images."""

from invdiff.inspection.images import KnownImage, known_images
from invdiff.inspection.result import Inspection
from invdiff.inspection.run import inspect_prior

__all__ = ["Inspection", "KnownImage", "inspect_prior", "known_images"]
