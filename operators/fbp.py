"""Filtered backprojection, the classical reconstruction of complete scans in the plane.

References:
    | Principles of Computerized Tomographic Imaging, chapter 3 (Kak and Slaney, 1988)
    | https://engineering.purdue.edu/~malcolm/pct/
    | Reconstruction algorithm for fan beam with a displaced center-of-rotation
      (Gullberg, Crawford and Tsui, 1986)
"""

from __future__ import annotations

from torch import Tensor

from invdiff.operators.ct import RayTransform
from invdiff.operators.ct_analytic import filtered_backprojection
from invdiff.operators.ct_windows import Window, ram_lak

__all__ = ["fbp"]


def fbp(
    operator: RayTransform, y: Tensor, window: Window = ram_lak, incomplete: bool = False
) -> Tensor:
    r"""Attenuations in 1/mm, (b, 1, rows, columns), from line integrals (b, 1, views, cells).

    .. math:: x = \sum_v \frac{m_v^2}{D} \, \big(h * (w \cdot c \cdot y)_v\big)(u_v(x))

    with the ramp h, the rays' weights w (``ct_weights``: any angles, whole turns and short scans,
    displaced detectors), and for a source on a circle the magnification m, the distance D from
    the source to the detector and c the distance from the source to where the ray passes the
    axis; all one for parallel rays. Lines and arcs of cells, with offsets and lateral shifts.
    Uses the operator's geometry alone: no matrix is built.

    Arguments:
        operator: A ``CTOperator`` or ``ParallelBeamCT`` of images.
        y: The measurement.
        window: ``ram_lak``, ``shepp_logan``, ``cosine``, ``hann``, or any function of the
            frequency (1 at Nyquist).
        incomplete: Whether to reconstruct also when angles or sides of the image were not seen:
            what is missing counts as zero, which leaves streaks and too small values.

    Raises:
        ShapeError: If y does not fit.
        ValueError: If the scan is of a volume, not circular, or (unless ``incomplete``) does not
            see the image's inner circle in whole and under all angles.
    """
    geometry = operator.geometry
    if geometry.dimensions != 2:
        raise ValueError(
            f"The images have shape {geometry.image_shape}, but filtered backprojection is for "
            "single slices. Use fdk for a cone beam."
        )
    operator._check(y, operator.range, operator.complex_range, "measurement")
    return filtered_backprojection(geometry, y, window, incomplete)
