"""Trained weights as a start for a prior of other channels and units."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor


def converted(weights: dict[str, Tensor], channels: int, log_scale: float) -> dict[str, Tensor]:
    r"""The weights of a trained network, changed to other channels and units.

    Dividing the images by :math:`e^s` divides the noise levels by it; only the embedding of
    ln(sigma) / 4 feels that, and a shift of its sines and cosines is a rotation, which its first
    layer takes up exactly. Output channels are those of the old network, spread evenly over it;
    an old input channel goes to the new one that is next to it, shared between two at a tie.
    """
    out = dict(weights)
    old = len(weights["tail.bias"]) // 4
    places = np.linspace(0, old - 1, channels)
    share = np.zeros((channels, old), np.float32)
    for channel in range(old):
        distance = np.abs(places - channel)
        share[np.isclose(distance, distance.min()), channel] = 1
    share /= share.sum(0)
    head = weights["head.weight"].unflatten(1, (old, 4))
    head = torch.einsum("ocpij,nc->onpij", head, torch.from_numpy(share))
    out["head.weight"] = head.flatten(1, 2)
    for name in ("tail.weight", "tail.bias"):
        blocks = weights[name].unflatten(0, (old, 4))
        out[name] = blocks[np.round(places).astype(int)].flatten(0, 1)
    count = weights["embedding.hidden.weight"].shape[1] // 2
    angle = math.pi * torch.exp2(torch.arange(count) / 4) * (log_scale / 4)
    cosine, sine = weights["embedding.hidden.weight"].split(count, 1)
    turned = [
        cosine * angle.cos() + sine * angle.sin(),
        sine * angle.cos() - cosine * angle.sin(),
    ]
    out["embedding.hidden.weight"] = torch.cat(turned, 1)
    return {name: value.clone() for name, value in out.items()}
