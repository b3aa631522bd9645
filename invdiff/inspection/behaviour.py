"""What can be seen without knowing what an image is: shapes, repeatability, rows, gradients."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from torch import Tensor

from invdiff.errors import PriorError, ShapeError
from invdiff.priors.base import Prior

__all__ = ["Behaviour", "FirstHalf", "accepted", "observe"]

CHANNELS = (3, 1, 2, 4, 6)
SIZES = (128, 64, 96, 256, 320, 512, 32, 28)
TOLERANCE = 1e-3  # of the answer's size: half precision rounds to that


@dataclass(frozen=True)
class Behaviour:
    """What is wrong, and what is worth knowing.

    Arguments:
        faults: Each a sentence on something that must be mended.
        notes: Each a sentence on something that may be intended.
        halves: Whether the answer has twice the channels of the image.
    """

    faults: tuple[str, ...]
    notes: tuple[str, ...]
    halves: bool = False


@dataclass(frozen=True, eq=False)
class FirstHalf:
    """A prior whose answer is cut to the first half of its channels."""

    prior: Prior

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self.prior(x, sigma)[:, : x.shape[1]]


def accepted(prior: Prior, size: int | None = None) -> tuple[int, int]:
    """The number of channels that a prior takes, and the side of the square images.

    Where it does not say which, the first that can be called. Raises ShapeError if it takes no
    square image of any usual size.
    """
    for side in (size,) if size is not None else SIZES:
        shapes = [shape for c in CHANNELS if _takes(prior, shape := (c, side, side))]
        if len(shapes) > 1:
            shapes = [shape for shape in shapes if _runs(prior, shape)] or shapes
        if shapes:
            return shapes[0][0], side
    raise ShapeError(
        f"The prior {prior.name!r} takes no square images of {CHANNELS} channels and "
        f"{size or SIZES} pixels a side. Pass images of your own to inspect_prior."
    )


def _takes(prior: Prior, shape: tuple[int, ...]) -> bool:
    try:
        prior.check_shape(shape)
    except ShapeError:
        return False
    return True


@torch.no_grad()
def _runs(prior: Prior, shape: tuple[int, ...]) -> bool:
    try:
        prior(torch.zeros(1, *shape), torch.tensor(prior.sigma_max, dtype=torch.float64))
    except (RuntimeError, ValueError):
        return False
    return True


@torch.no_grad()
def observe(prior: Prior, x: Tensor, sigma: float) -> Behaviour:
    """Calls a prior a few times on noisy images x (b, channels, h, w), b at least 2.

    Raises PriorError if it cannot be called at all.
    """
    level = torch.tensor(sigma, dtype=torch.float64)
    try:
        out = prior(x, level)
    except RuntimeError as error:
        raise PriorError(_explained(error, x.shape[1])) from error
    expected = tuple(x.shape)
    halves = tuple(out.shape) == (len(x), 2 * x.shape[1], *x.shape[2:])
    if tuple(out.shape) != expected and not halves:
        raise PriorError(
            f"The prior answers with shape {tuple(out.shape)} to images of shape {expected}. "
            "It must answer with a denoised image of the same shape."
        )
    faults = [_LEARNED.format(2 * x.shape[1], x.shape[1])] if halves else []
    if not bool(torch.isfinite(out).all()):
        return Behaviour((*faults, "The answer has NaN or infinite entries."), (), halves)
    faults += _differences(prior, x, level, out)
    return Behaviour(tuple(faults), tuple(_notes(prior, x, level, out)), halves)


_LEARNED = (
    "The answer has {} channels for images of {}: the second half is the learned variance. "
    "Keep the first half of the network's output."
)


def _explained(error: RuntimeError, channels: int) -> str:
    """What a failed call tells: a network with learned variance cannot be added to its input."""
    numbers = {int(word) for word in re.findall(r"\d+", str(error))}
    if {channels, 2 * channels} <= numbers and "size of tensor" in str(error):
        return _LEARNED.format(2 * channels, channels) + f" (The call failed: {error})"
    return (
        f"The prior cannot be called on images of {channels} channels: {error} "
        "Check the channels and the size that it declares."
    )


def _differences(prior: Prior, x: Tensor, level: Tensor, out: Tensor) -> list[str]:
    """Calls that should agree and do not."""

    def far(other: Tensor) -> bool:
        gap = (other - out).double().square().mean().sqrt()
        return not bool(gap <= TOLERANCE * out.double().square().mean().sqrt())

    if far(prior(x, level)):
        return [
            "Two calls give different answers: the network is in training mode (dropout), or it "
            "draws random numbers. Call network.eval()."
        ]
    found = []
    if far(torch.cat([prior(row[None], level) for row in x])):
        found.append(
            "Images of one batch change each other's answers: batch normalisation in training "
            "mode, or a reduction over the batch. Call network.eval()."
        )
    try:
        wrong = far(prior(x, level.expand(len(x))))
    except (RuntimeError, TypeError, ValueError):
        wrong = True
    if wrong:
        found.append(
            "A noise level per row, sigma of shape (b,), does not give the answer of one level "
            "for all, sigma of shape (): broadcast it as sigma[:, None, None, None]."
        )
    return found


def _notes(prior: Prior, x: Tensor, level: Tensor, out: Tensor) -> list[str]:
    notes = []
    edges = [out == end for end in (out.amin(), out.amax())]
    clipped = max(float(edge.double().mean()) for edge in edges)
    if clipped > 0.01:
        notes.append(
            f"{clipped:.0%} of the answer has exactly one extreme value: it seems to be clipped. "
            "Guided samplers get no gradient there; leave clipping out."
        )
    if out.dtype != x.dtype:
        notes.append(f"The answer is {out.dtype} for images of {x.dtype}.")
    with torch.enable_grad():
        leaf = x[:1].clone().requires_grad_()
        try:
            (slope,) = torch.autograd.grad(prior(leaf, level).square().sum(), leaf)
            differentiable = bool(torch.isfinite(slope).all()) and bool((slope != 0).any())
        except RuntimeError:
            differentiable = False
    if not differentiable:
        notes.append(
            "There is no usable derivative with respect to the image: samplers that guide by "
            "derivatives (DPS and its like) cannot use this prior."
        )
    return notes
