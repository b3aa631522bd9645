"""What is declared about a network that came from elsewhere."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from invdiff.errors import PriorError

__all__ = ["ModelCard"]


@dataclass(frozen=True)
class ModelCard:
    """What is known about a loaded network: nothing in it is guessed from images.

    Arguments:
        name: What provenance calls the prior.
        format: What it was loaded from, such as "guided-diffusion".
        sha256: Of the weight file, 64 hexadecimal digits.
        channels: The channels of an image.
        value_range: The range of clean images in the network's own units. For others wrap the
            prior in `AffinePrior`.
        multiple: Height and width are padded by reflection to a multiple of this.
        size: The only accepted height and width; None if they are free.
        dimensions: 2 for images, 3 for volumes.
        learned_variance: Whether the network's last half of channels is a variance, dropped here.
        classes: The number of classes the network is told one of, 0 for none.
        class_free: Whether a network with classes was also trained without one.
        variance: Of the pixels of clean images, roughly: the scale of `error_variance` as long as
            that is not measured. None takes 1/16 of the squared length of the range.
        weights: Which of a checkpoint's weights were taken: "the only ones", or "ema", ...
        licence: Of the weights.
        source: Where they come from.
        error_sigmas, error_variances: The measured error, see `ModelPrior.measured`.
    """

    name: str
    format: str
    sha256: str
    channels: int
    value_range: tuple[float, float]
    multiple: int = 1
    size: tuple[int, ...] | None = None
    dimensions: int = 2
    learned_variance: bool = False
    classes: int = 0
    class_free: bool = True
    variance: float | None = None
    weights: str = "the only ones"
    licence: str = "unknown (user's file)"
    source: str = "unknown (user's file)"
    error_sigmas: tuple[float, ...] = ()
    error_variances: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        low, high = self.value_range
        for holds, rule in (
            (re.fullmatch("[0-9a-f]{64}", self.sha256), "sha256 has 64 hexadecimal digits"),
            (self.channels >= 1 and self.multiple >= 1, "channels and multiple are at least 1"),
            (low < high, "value_range is increasing"),
            (self.dimensions in (1, 2, 3), "dimensions is 1, 2 or 3"),
            (self.size is None or len(self.size) == self.dimensions, "size has all dimensions"),
            (self.classes >= 0, "classes is not negative"),
            (self.variance is None or self.variance > 0, "variance is positive"),
            (
                len(self.error_sigmas) == len(self.error_variances) != 1,
                "error_sigmas and error_variances are as long, and not of one entry",
            ),
        ):
            if not holds:
                raise PriorError(f"The description of {self.name!r} is not valid: {rule}.")

    @property
    def pixel_variance(self) -> float:
        """The declared variance of clean pixels, or 1/16 of the squared length of the range.

        For [-1, 1] that is 0.25, the square of EDM's sigma_data. Raises PriorError if neither is
        declared.
        """
        if self.variance is not None:
            return self.variance
        low, high = self.value_range
        if not math.isfinite(high - low):
            raise PriorError(
                f"The prior {self.name!r} has no finite range and no variance: declare one, "
                "prior.described(variance=...)."
            )
        return (high - low) ** 2 / 16
