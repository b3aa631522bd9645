"""The weights of exponential integrators, on the host in float64."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

__all__ = ["exponential_weights"]


@lru_cache(maxsize=4096)
def exponential_weights(
    nodes: tuple[float, ...], length: float, rate: float = 1.0
) -> tuple[float, ...]:
    r""":math:`w_j = c \int_0^h e^{-c (h - t)}\, \ell_j(t)\, \mathrm{d}t` for the nodes t_j.

    c = 1 weighs clean estimates; c = -1, with :math:`\sigma'` in front, estimates of the noise.
    Gauss-Legendre with 32 points, exact to rounding for steps of several units.
    """
    points, weights = np.polynomial.legendre.leggauss(32)
    time = 0.5 * length * (points + 1)
    kernel = 0.5 * length * weights * rate * np.exp(-rate * (length - time))
    result = []
    for j, node in enumerate(nodes):
        others = [other for i, other in enumerate(nodes) if i != j]
        lagrange = [(time - other) / (node - other) for other in others]
        result.append(float(kernel @ np.prod([np.ones(32), *lagrange], axis=0)))
    return tuple(result)
