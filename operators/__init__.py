"""Measurement operators. ASTRA and deepinv are imported only when an operator needs them."""

from invdiff.operators.algebra import Adjoint, Composition, Scaled
from invdiff.operators.base import Operator
from invdiff.operators.benchmark_masks import (
    fastmri_equispaced_fraction_mask,
    fastmri_equispaced_mask,
    fastmri_random_mask,
    inversebench_equispaced_mask,
    inversebench_random_mask,
)
from invdiff.operators.blur import Blur, Boundary
from invdiff.operators.blur_kernels import gaussian_kernel, motion_kernel
from invdiff.operators.cartesian_mri import CartesianMRI
from invdiff.operators.coil_combination import combine_coils, root_sum_of_squares
from invdiff.operators.coil_compression import CompressedCoils, compress_coils
from invdiff.operators.coil_maps import birdcage_maps, maps_from_calibration
from invdiff.operators.coil_noise import border_samples, noise_covariance, whiten
from invdiff.operators.complex import AsComplex
from invdiff.operators.ct import CTOperator
from invdiff.operators.ct_astra_cpu import AstraCPU
from invdiff.operators.ct_astra_cuda import AstraCUDA
from invdiff.operators.ct_backend import Backend
from invdiff.operators.ct_geometry import Beam, Geometry
from invdiff.operators.ct_kernel import Projection
from invdiff.operators.ct_matrix import SystemMatrix
from invdiff.operators.ct_simulation import project_once
from invdiff.operators.ct_windows import Window, cosine, hann, ram_lak, shepp_logan
from invdiff.operators.decoder import Decoder
from invdiff.operators.deepinv import FromDeepinv, as_deepinv
from invdiff.operators.density_compensation import (
    gridding,
    pipe_menon_density,
    radial_density,
)
from invdiff.operators.espirit import EspiritMaps, espirit_maps
from invdiff.operators.fbp import fbp
from invdiff.operators.fdk import fdk
from invdiff.operators.high_dynamic_range import HighDynamicRange
from invdiff.operators.identity import Identity
from invdiff.operators.inpainting import Inpainting
from invdiff.operators.inpainting_masks import (
    box_mask,
    free_form_mask,
    random_box_mask,
    random_pixel_mask,
)
from invdiff.operators.jpeg import JPEG, Chroma
from invdiff.operators.jsense import jsense_maps
from invdiff.operators.kspace_units import ScaledKSpace, remove_oversampling, scale_kspace
from invdiff.operators.masks import (
    CartesianMask,
    cartesian_mask,
    equispaced_fraction_mask,
    equispaced_mask,
    gaussian_column_mask,
)
from invdiff.operators.masks_2d import gaussian_mask, partial_fourier, poisson_disc_mask
from invdiff.operators.matrix import Matrix
from invdiff.operators.noncartesian_mri import NonCartesianMRI
from invdiff.operators.parallel_beam_ct import ParallelBeamCT
from invdiff.operators.phase_retrieval import PhaseRetrieval
from invdiff.operators.space_varying_blur import space_varying_blur
from invdiff.operators.super_resolution import Bicubic, BicubicProtocol, MeanPooling
from invdiff.operators.trajectories import (
    golden_radial_trajectory,
    kooshball_trajectory,
    radial_trajectory,
    spiral_trajectory,
)

__all__ = [
    "JPEG",
    "Adjoint",
    "AsComplex",
    "AstraCPU",
    "AstraCUDA",
    "Backend",
    "Beam",
    "Bicubic",
    "BicubicProtocol",
    "Blur",
    "Boundary",
    "CTOperator",
    "CartesianMRI",
    "CartesianMask",
    "Chroma",
    "Composition",
    "CompressedCoils",
    "Decoder",
    "EspiritMaps",
    "FromDeepinv",
    "Geometry",
    "HighDynamicRange",
    "Identity",
    "Inpainting",
    "Matrix",
    "MeanPooling",
    "NonCartesianMRI",
    "Operator",
    "ParallelBeamCT",
    "PhaseRetrieval",
    "Projection",
    "Scaled",
    "ScaledKSpace",
    "SystemMatrix",
    "Window",
    "as_deepinv",
    "birdcage_maps",
    "border_samples",
    "box_mask",
    "cartesian_mask",
    "combine_coils",
    "compress_coils",
    "cosine",
    "equispaced_fraction_mask",
    "equispaced_mask",
    "espirit_maps",
    "fastmri_equispaced_fraction_mask",
    "fastmri_equispaced_mask",
    "fastmri_random_mask",
    "fbp",
    "fdk",
    "free_form_mask",
    "gaussian_column_mask",
    "gaussian_kernel",
    "gaussian_mask",
    "golden_radial_trajectory",
    "gridding",
    "hann",
    "inversebench_equispaced_mask",
    "inversebench_random_mask",
    "jsense_maps",
    "kooshball_trajectory",
    "maps_from_calibration",
    "motion_kernel",
    "noise_covariance",
    "partial_fourier",
    "pipe_menon_density",
    "poisson_disc_mask",
    "project_once",
    "radial_density",
    "radial_trajectory",
    "ram_lak",
    "random_box_mask",
    "random_pixel_mask",
    "remove_oversampling",
    "root_sum_of_squares",
    "scale_kspace",
    "shepp_logan",
    "space_varying_blur",
    "spiral_trajectory",
    "whiten",
]
