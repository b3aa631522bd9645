"""Hounsfield units and attenuation."""

from __future__ import annotations

import numpy as np

__all__ = ["AIR", "attenuation_to_hu", "hu_to_attenuation", "water_attenuation"]

AIR = -1000.0  # Hounsfield units

# Of liquid water, with coherent scattering: photon energies in keV, attenuations in 1/mm.
ENERGIES = (30.0, 40.0, 50.0, 60.0, 80.0, 100.0, 150.0)
WATER = (0.03756, 0.02683, 0.02269, 0.02059, 0.01837, 0.01707, 0.01505)


def water_attenuation(energy: float) -> float:
    """Attenuation of water in 1/mm at a photon energy in keV: 0.0194 at 70, 0.0200 at 65.

    The X-rays of a scanner are not of one energy: this is the one that they act like, about half
    to two thirds of the tube's peak voltage. Interpolated in logarithms, to 1 %.

    Raises:
        ValueError: If the energy is not in [30, 150] keV.

    Reference:
        Tables of X-ray mass attenuation coefficients (Hubbell and Seltzer, NIST, 1995)
    """
    if not ENERGIES[0] <= energy <= ENERGIES[-1]:
        raise ValueError(
            f"energy is {energy}, expected {ENERGIES[0]:g} to {ENERGIES[-1]:g} keV: the mean of "
            "the X-rays, not the tube's peak voltage, and not in eV or MeV."
        )
    return float(np.exp(np.interp(np.log(energy), np.log(ENERGIES), np.log(WATER))))


def hu_to_attenuation(hu: np.ndarray, water: float = 0.02) -> np.ndarray:
    r"""Attenuation :math:`\mu = \mu_w (1 + \mathrm{HU} / 1000)` in the unit of ``water``.

    Values below -1024 HU cannot be measured: they are padding (scanners write -2000 or so outside
    the circle of the scan) and become air, -1000 HU, attenuation zero. ``water`` is in 1/mm,
    ``water_attenuation`` gives it; the default is that of 65 keV. Any shape; float32 stays
    float32, all else gives float64.

    Raises:
        TypeError: If the array is uint8 or bool: a windowed picture, not Hounsfield units.
        ValueError: If it looks normalised (nothing beyond -2 and 2), or is not finite; or if
            ``water`` is not positive.
    """
    hu = _finite(hu, "Hounsfield units")
    _positive(water)
    if hu.dtype in (np.uint8, np.bool_):
        raise TypeError(
            f"The image has dtype {hu.dtype}, which is a windowed picture; expected Hounsfield "
            "units (about -1000 to 3000). Read the DICOM file and apply its rescale slope and "
            "intercept."
        )
    if hu.size and hu.min() >= -2 and hu.max() <= 2:
        raise ValueError(
            f"All values lie in [{hu.min()}, {hu.max()}], which looks normalised; expected "
            "Hounsfield units (about -1000 to 3000). Undo the normalisation first."
        )
    kept = hu if hu.dtype in (np.float32, np.float64) else hu.astype(np.float64)
    kept = np.where(kept < -1024, kept.dtype.type(AIR), kept)
    return (water * (1 + kept / 1000)).astype(kept.dtype)


def attenuation_to_hu(attenuation: np.ndarray, water: float = 0.02) -> np.ndarray:
    r"""Hounsfield units :math:`1000 (\mu / \mu_w - 1)`, with ``water`` in the same unit.

    Any shape; float32 stays float32, all else gives float64.

    Raises:
        ValueError: If the array is not finite or ``water`` is not positive.
    """
    attenuation = _finite(attenuation, "attenuation")
    _positive(water)
    kept = attenuation.dtype if attenuation.dtype == np.float32 else np.dtype(np.float64)
    return (1000 * (attenuation / water - 1)).astype(kept)


def _finite(array: np.ndarray, what: str) -> np.ndarray:
    array = np.asarray(array)
    bad = int(array.size - np.isfinite(array).sum())
    if bad:
        raise ValueError(
            f"The array of {what} holds {bad} values that are NaN or infinite, expected none. "
            "Replace missing pixels by air first."
        )
    return array


def _positive(water: float) -> None:
    if not 0 < water < np.inf:
        raise ValueError(
            f"water is {water}, but must be the positive attenuation of water, about 0.02 per mm."
        )
