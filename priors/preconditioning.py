"""EDM preconditioning: what surrounds a network so that it becomes a denoiser.

References:
    | Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022)
    | https://arxiv.org/abs/2206.00364 (Table 1, column "ours")
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Scalings(NamedTuple):
    """The four factors, each with the shape of sigma."""

    skip: Tensor
    out: Tensor
    into: Tensor
    noise: Tensor


def scalings(sigma: Tensor, sigma_data: float) -> Scalings:
    r"""The factors of :math:`D(x; \sigma) = c_{skip} x + c_{out} F(c_{in} x, c_{noise})`.

    .. math::
        c_{skip} = \frac{\sigma_d^2}{\sigma^2 + \sigma_d^2}, \quad
        c_{out} = \frac{\sigma \sigma_d}{\sqrt{\sigma^2 + \sigma_d^2}}, \quad
        c_{in} = \frac{1}{\sqrt{\sigma^2 + \sigma_d^2}}, \quad
        c_{noise} = \tfrac14 \ln \sigma

    They keep input and target of F at unit variance, and D near the identity at small noise.
    """
    total = sigma.square() + sigma_data**2
    root = total.sqrt()
    return Scalings(
        skip=sigma_data**2 / total,
        out=sigma * sigma_data / root,
        into=1 / root,
        noise=sigma.log() / 4,
    )
