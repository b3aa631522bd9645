"""EDM2's U-Net as one function of a state dict, from the paper's equations, for tests."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def unit(x: Tensor, dims) -> Tensor:
    return x / (1e-4 + x.square().mean(dims, keepdim=True).sqrt())


def act(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x) / 0.596


def mix(a: Tensor, b: Tensor, t: float) -> Tensor:
    return ((1 - t) * a + t * b) / math.sqrt((1 - t) ** 2 + t**2)


def layer(state, name, x, gain=1.0):
    w = state[f"{name}.weight"]
    # Unit-norm rows (equation 47), up to epsilon: rms 1, divided by the root of the fan-in.
    w = unit(w, tuple(range(1, w.ndim))) / math.sqrt(w[0].numel()) * gain
    return x @ w.T if w.ndim == 2 else F.conv2d(x, w, padding=w.shape[-1] // 2)


def block(state, name, x, emb, flavour, change=None):
    if change == "down":
        x = 0.25 * sum(x[..., i::2, j::2] for i in (0, 1) for j in (0, 1))
    if change == "up":
        x = x.repeat_interleave(2, -1).repeat_interleave(2, -2)
    has_skip = f"{name}.conv_skip.weight" in state
    if flavour == "enc":
        x = layer(state, f"{name}.conv_skip", x) if has_skip else x
        x = unit(x, 1)
    y = layer(state, f"{name}.conv_res0", act(x))
    scale = 1 + layer(state, f"{name}.emb_linear", emb, state[f"{name}.emb_gain"])
    y = layer(state, f"{name}.conv_res1", act(y * scale[..., None, None]))
    if flavour == "dec" and has_skip:
        x = layer(state, f"{name}.conv_skip", x)
    x = mix(x, y, 0.3)
    if f"{name}.attn_qkv.weight" in state:
        b, c, h, w = x.shape
        qkv = layer(state, f"{name}.attn_qkv", x).reshape(b, c // 64, 64, 3, h * w)
        q, k, v = unit(qkv, 2).unbind(3)
        share = torch.einsum("nhcq,nhck->nhqk", q, k / 8.0).softmax(-1)
        y = torch.einsum("nhqk,nhck->nhcq", share, v).reshape(b, c, h, w)
        x = mix(x, layer(state, f"{name}.attn_proj", y), 0.3)
    return x.clip(-256, 256)


def cat(a: Tensor, b: Tensor) -> Tensor:
    na, nb = a.shape[1], b.shape[1]
    factor = math.sqrt((na + nb) / 0.5)
    return torch.cat([factor / math.sqrt(na) * 0.5 * a, factor / math.sqrt(nb) * 0.5 * b], 1)


def edm2(state, x: Tensor, noise: Tensor, hot: Tensor | None = None) -> Tensor:
    waves = (noise.outer(state["emb_fourier.freqs"]) + state["emb_fourier.phases"]).cos()
    emb = layer(state, "emb_noise", math.sqrt(2) * waves)
    if hot is not None:
        emb = mix(emb, layer(state, "emb_label", hot * math.sqrt(hot.shape[1])), 0.5)
    emb = act(emb)
    names = dict.fromkeys(".".join(key.split(".")[:2]) for key in state if key[3] == ".")
    x, kept = torch.cat([x, torch.ones_like(x[:, :1])], 1), []
    for name in names:
        flavour, part = name.split(".")[0], name.split("_")[1]
        if part == "conv":
            x = layer(state, name, x)
        else:
            if flavour == "dec" and part.startswith("block"):
                x = cat(x, kept.pop())
            x = block(state, name, x, emb, flavour, part if part in ("down", "up") else None)
        if flavour == "enc":
            kept.append(x)
    return layer(state, "out_conv", x, state["out_gain"])
