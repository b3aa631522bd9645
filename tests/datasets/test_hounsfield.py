"""Hounsfield units: exact values, and arrays that are none."""

import numpy as np
import pytest

from invdiff.datasets.hounsfield import attenuation_to_hu, hu_to_attenuation, water_attenuation


def test_known_values():
    hu = np.array([-1000.0, -1024.0, -2000.0, 0.0, 1000.0])
    found = hu_to_attenuation(hu, water=0.02)
    assert np.allclose(found, [0, -0.00048, 0, 0.02, 0.04], atol=1e-15)


@pytest.mark.parametrize("dtype", [np.int16, np.float32, np.float64])
def test_round_trip(dtype):
    hu = np.array([[-1000, -50], [40, 1200]], dtype=dtype)
    mu = hu_to_attenuation(hu, 0.0193)
    assert mu.dtype == (np.float32 if dtype == np.float32 else np.float64)
    assert np.allclose(attenuation_to_hu(mu, 0.0193), hu, atol=1e-3)


def test_refusals():
    with pytest.raises(TypeError, match="uint8"):
        hu_to_attenuation(np.zeros((4, 4), np.uint8))
    with pytest.raises(ValueError, match="normalised"):
        hu_to_attenuation(np.linspace(-1, 1, 9))
    with pytest.raises(ValueError, match="NaN"):
        hu_to_attenuation(np.array([0.0, np.nan, 100.0]))
    with pytest.raises(ValueError, match="NaN"):
        attenuation_to_hu(np.array([np.inf]))
    with pytest.raises(ValueError, match="water"):
        hu_to_attenuation(np.array([0.0, 500.0]), water=0.0)


def test_water():
    """Tabulated values, and 0.0193/mm at 70 keV and 0.02/mm at 65 keV to the 1 % it states."""
    assert water_attenuation(80) == pytest.approx(0.01837)
    assert water_attenuation(30) == pytest.approx(0.03756)
    assert water_attenuation(70) == pytest.approx(0.0193, rel=0.01)
    assert water_attenuation(65) == pytest.approx(0.02, rel=0.01)
    energies = np.linspace(30, 150, 200)
    assert np.all(np.diff([water_attenuation(energy) for energy in energies]) < 0)
    for bad in (0.07, 7e4, 200, float("nan")):
        with pytest.raises(ValueError, match="keV"):
            water_attenuation(bad)
