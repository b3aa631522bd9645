"""Measurement operators. ASTRA and deepinv are imported only when an operator needs them."""

from invdiff.operators.base import Adjoint, Composition, Operator, Scaled
from invdiff.operators.cartesian_mri import CartesianMRI
from invdiff.operators.coil_maps import birdcage_maps, maps_from_calibration
from invdiff.operators.complex import AsComplex
from invdiff.operators.ct_geometry import ParallelBeamGeometry, Projection
from invdiff.operators.deepinv import FromDeepinv, as_deepinv
from invdiff.operators.fbp import fbp, hann, ram_lak
from invdiff.operators.identity import Identity
from invdiff.operators.inpainting import Inpainting
from invdiff.operators.masks import CartesianMask, cartesian_mask
from invdiff.operators.matrix import Matrix
from invdiff.operators.parallel_beam_ct import ParallelBeamCT
from invdiff.operators.phase_retrieval import PhaseRetrieval
from invdiff.operators.super_resolution import Bicubic, MeanPooling

__all__ = [
    "Adjoint",
    "AsComplex",
    "Bicubic",
    "CartesianMRI",
    "CartesianMask",
    "Composition",
    "FromDeepinv",
    "Identity",
    "Inpainting",
    "Matrix",
    "MeanPooling",
    "Operator",
    "ParallelBeamCT",
    "ParallelBeamGeometry",
    "PhaseRetrieval",
    "Projection",
    "Scaled",
    "as_deepinv",
    "birdcage_maps",
    "cartesian_mask",
    "fbp",
    "hann",
    "maps_from_calibration",
    "ram_lak",
]
