"""Computed tomography with parallel rays."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from invdiff.operators.ct import RayTransform
from invdiff.operators.ct_backend import Backend
from invdiff.operators.ct_geometry import Geometry
from invdiff.operators.ct_kernel import Projection

__all__ = ["ParallelBeamCT"]


@dataclass(frozen=True, eq=False, repr=False)
class ParallelBeamCT(RayTransform):
    r"""Line integrals :math:`(A x)_{\theta u} = \int x \,\mathrm{d}l` along parallel rays.

    ``CTOperator(Geometry.parallel(...))`` with fewer words, and with every number in its repr.
    Images (1, rows, columns) are attenuations in 1/mm, measurements (1, views, detectors) are
    dimensionless. Row 0 is +y; the ray of detector u is x cos(theta) + y sin(theta) = u, and
    angles run counter-clockwise.

    Arguments:
        image_shape: Rows and columns of the image.
        views: How many, equally spaced over [0, pi); or the angles themselves in radians.
        pixel_size: The side of a pixel in mm; or its spacing (between rows, between columns).
        detectors: How many; None takes as many as cover the diagonal of the image, so that no
            pixel leaves the view under any angle.
        detector_spacing: In mm; None takes the (smaller) size of a pixel.
        kernel: How a ray meets the pixels.
        backend: What computes the products; None: ``chosen`` says, for the device of the data.

    Raises:
        ShapeError, ValueError: If the geometry is not one (``Geometry.parallel``), or the
            backend cannot compute it.
    """

    image_shape: tuple[int, int]
    views: int | tuple[float, ...]
    pixel_size: float | tuple[float, float]
    detectors: int | None = None
    detector_spacing: float | None = None
    kernel: Projection = Projection.LINEAR
    backend: Backend | None = None

    def __post_init__(self) -> None:
        def settle(name: str, value: object) -> None:
            object.__setattr__(self, name, value)

        # The defaults become numbers here, so that the repr (the provenance) holds them all.
        settle("image_shape", tuple(int(n) for n in self.image_shape))
        if not isinstance(self.views, int):
            settle("views", tuple(float(angle) for angle in self.views))
        if self.detector_spacing is None:
            size = self.pixel_size
            settle("detector_spacing", min(size) if isinstance(size, tuple) else size)
        settle("detectors", self.geometry.detectors[0])
        self._check_backend()

    @cached_property
    def geometry(self) -> Geometry:  # type: ignore[override]
        """Where rays and pixels are."""
        return Geometry.parallel(
            self.image_shape,
            self.views,
            pixel_size=self.pixel_size,
            detectors=self.detectors,
            detector_spacing=self.detector_spacing,
        )
