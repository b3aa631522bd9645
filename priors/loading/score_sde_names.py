"""From the names of score_sde's NCSN++ and DDPM++ to those of deepinv's NCSNpp.

score_sde numbers its modules in the order in which they are called; deepinv has the same ones in
the same order, with attention inside of its blocks. Queries, keys and values become one
convolution, interleaved, and dense layers (in, out) become 1 x 1 convolutions (out, in).

References:
    | Score-Based Generative Modeling through Stochastic Differential Equations (Song et al., 2021)
    | https://arxiv.org/abs/2011.13456
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from torch import Tensor

from invdiff.errors import PriorError
from invdiff.priors.loading.matching import State

__all__ = ["NCSNLayout", "is_score_sde", "renamed"]

NUMBERED = re.compile(r"all_modules\.(\d+)\.([\w.]+)")
RESOLUTION = 1024
"""deepinv names levels by resolution, which the weights do not tell: any power of 2 will do."""


@dataclass(frozen=True)
class NCSNLayout:
    """The arrangement of a score_sde network.

    Arguments:
        channels: Of the image.
        base: The channels of the first convolution.
        widths: The channels of each level, fine to coarse.
        blocks: The residual blocks of a level.
        attention: Levels with attention, 0 the finest.
        fourier: Whether it is NCSN++, with Fourier features and the image pyramid.
    """

    channels: int
    base: int
    widths: tuple[int, ...]
    blocks: int
    attention: tuple[int, ...]
    fourier: bool


def is_score_sde(state: State) -> bool:
    """Whether names are those of score_sde."""
    return any(key.startswith("all_modules.") for key in state)


def renamed(state: State) -> tuple[State, NCSNLayout]:
    """The same weights for deepinv's NCSNpp, but for its constant filters.

    Raises PriorError for variants that deepinv's class has not: residual blocks as in DDPM,
    progressive outputs, inputs skipped.
    """
    try:
        return _renamed(_modules(state))
    except (KeyError, IndexError, StopIteration, ValueError, RuntimeError) as error:
        raise PriorError(
            f"The weights are not of a score_sde network that can be loaded ({error}): expected "
            "NCSN++ with residual input pyramid and plain output, or DDPM++ without pyramid, both "
            "with BigGAN residual blocks."
        ) from error


def _modules(state: State) -> list[dict[str, Tensor]]:
    """The numbered modules, in order."""
    found: dict[int, dict[str, Tensor]] = {}
    for key, value in state.items():
        match = NUMBERED.fullmatch(key)
        if match:
            found.setdefault(int(match[1]), {})[match[2]] = value
        elif key != "sigmas":
            raise KeyError(f"unknown name {key}")
    if sorted(found) != list(range(len(found))):
        raise KeyError("modules are missing")
    return [found[i] for i in range(len(found))]


def _renamed(modules: list[dict[str, Tensor]]) -> tuple[State, NCSNLayout]:
    fourier = "W" in modules[0]
    out: State = {"map_noise.freqs": modules[0].pop("W")} if fourier else {}
    rest = iter(modules[1:] if fourier else modules)
    for name in ("map_layer0", "map_layer1"):
        _copy(out, name, next(rest))
    first = next(rest)
    body = list(rest)
    layout = _layout(first, body, fourier)
    place = iter(body)

    def side(level: int) -> str:
        return f"{RESOLUTION >> level}x{RESOLUTION >> level}"

    _copy(out, f"enc.{side(0)}_conv", first)
    levels = range(len(layout.widths))
    for level in levels:
        if level:
            _residual(out, f"enc.{side(level)}_down", next(place))
            if fourier:
                _copy(out, f"enc.{side(level)}_aux_residual", next(place), "Conv2d_0")
        for i in range(layout.blocks):
            _residual(out, f"enc.{side(level)}_block{i}", next(place))
            if level in layout.attention:
                _attention(out, f"enc.{side(level)}_block{i}", next(place))
    bottom = side(levels[-1])
    _residual(out, f"dec.{bottom}_in0", next(place))
    _attention(out, f"dec.{bottom}_in0", next(place))
    _residual(out, f"dec.{bottom}_in1", next(place))
    for level in reversed(levels):
        if level < levels[-1]:
            _residual(out, f"dec.{side(level)}_up", next(place))
        for i in range(layout.blocks + 1):
            _residual(out, f"dec.{side(level)}_block{i}", next(place))
        if level in layout.attention:
            _attention(out, f"dec.{side(level)}_block{layout.blocks}", next(place))
    _copy(out, f"dec.{side(0)}_aux_norm", next(place))
    _copy(out, f"dec.{side(0)}_aux_conv", next(place))
    if next(place, None) is not None or any(modules):
        raise ValueError("weights are left over")
    return out, layout


def _layout(first: dict[str, Tensor], body: list[dict[str, Tensor]], fourier: bool) -> NCSNLayout:
    """L levels of n blocks have L (2 n + 3) residual blocks in all, with the middle's and those
    that change the resolution; the first of these is square and yet has a skip convolution.
    """
    places = [i for i, module in enumerate(body) if "Conv_0.weight" in module]
    shapes = [body[i]["Conv_0.weight"].shape for i in places]
    changes = [
        count
        for count, (i, shape) in enumerate(zip(places, shapes, strict=True))
        if shape[0] == shape[1] and "Conv_2.weight" in body[i]
    ]
    blocks = changes[0] if changes else (len(places) - 3) // 2
    levels, left = divmod(len(places), 2 * blocks + 3)
    if left or not levels:
        raise ValueError(f"{len(places)} residual blocks, {blocks} in the first level")
    starts = [places[level * (blocks + 1)] for level in range(levels)]
    return NCSNLayout(
        channels=first["weight"].shape[1],
        base=first["weight"].shape[0],
        widths=tuple(body[i]["Conv_0.weight"].shape[0] for i in starts),
        blocks=blocks,
        attention=tuple(level for level, i in enumerate(starts) if "NIN_3.W" in body[i + 1]),
        fourier=fourier,
    )


def _copy(out: State, ours: str, module: dict[str, Tensor], theirs: str = "") -> None:
    for kind in ("weight", "bias"):
        out[f"{ours}.{kind}"] = module.pop(f"{theirs}.{kind}" if theirs else kind)


def _residual(out: State, name: str, module: dict[str, Tensor]) -> None:
    for ours, theirs in (
        ("norm0", "GroupNorm_0"),
        ("conv0", "Conv_0"),
        ("affine", "Dense_0"),
        ("norm1", "GroupNorm_1"),
        ("conv1", "Conv_1"),
    ):
        _copy(out, f"{name}.{ours}", module, theirs)
    if "Conv_2.weight" in module:
        _copy(out, f"{name}.skip", module, "Conv_2")


def _attention(out: State, name: str, module: dict[str, Tensor]) -> None:
    _copy(out, f"{name}.norm2", module, "GroupNorm_0")
    triple = range(3)
    weight = torch.stack([module.pop(f"NIN_{i}.W").T for i in triple], dim=1)
    out[f"{name}.qkv.weight"] = weight.flatten(0, 1)[:, :, None, None]
    out[f"{name}.qkv.bias"] = torch.stack([module.pop(f"NIN_{i}.b") for i in triple], 1).flatten()
    out[f"{name}.proj.weight"] = module.pop("NIN_3.W").T[:, :, None, None]
    out[f"{name}.proj.bias"] = module.pop("NIN_3.b")
