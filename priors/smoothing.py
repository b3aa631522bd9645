"""Exact smoothing of a random walk in noise, by messages along a lattice, with its derivative."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from invdiff.priors.lattice import Lattice

__all__ = ["Smoother", "posterior_covariance", "posterior_moments"]

_ROUNDING = 1e-18  # of the transforms of a message, relative to its peak


class _Messages(NamedTuple):
    """Two streams of messages over windows: forwards in time, and backwards, mirrored.

    The law of the increments is symmetric, so that the walk backwards in time is a walk like the
    one forwards; with its windows mirrored it uses the same transitions in opposite order.
    """

    spectra: Tensor  # Fourier transforms of all transitions that occur, (kinds, frequencies)
    kinds: Tensor  # which of them the streams take to every time, (times, 2 b)
    gains: Tensor  # normalised likelihoods, (times, 2 b, points)
    predicted: Tensor  # before the likelihood of their own time, (times, 2 b, points)
    filtered: Tensor  # after it; each sums to 1


def posterior_moments(z: Tensor, sigma: float, lattice: Lattice) -> tuple[Tensor, Tensor]:
    """Mean and variance of the clean walk given z (b, times), float64, at every time."""
    centres, messages = _pass(z, sigma, lattice)
    joint, offsets = _joint(messages), lattice.spacing * lattice.steps.to(z)
    mean, square = _average(joint, offsets), _average(joint, offsets.square())
    return (lattice.spacing * centres + mean).T, (square - mean.square()).T


def posterior_covariance(z: Tensor, sigma: float, lattice: Lattice) -> Tensor:
    """Cov[x0 | z], (b, times, times), for z (b, times), float64.

    One sweep forwards, of as many messages as there are times before: that of s carries the
    deviation of x_s, and meets the message from the future at every later time t.
    """
    _, messages = _pass(z, sigma, lattice)
    rows, times = z.shape
    offsets = lattice.spacing * lattice.steps.to(z)
    predicted, _ = messages.predicted.chunk(2, 1)
    gains, _ = messages.gains.chunk(2, 1)
    future = messages.filtered.chunk(2, 1)[1].flip(0, 2)
    joint = predicted * future
    mean, total = _average(joint, offsets), joint.sum(-1)
    result = z.new_empty(rows, times, times)
    carried = z.new_empty(0, rows, lattice.points)
    for time in range(times):
        if time:
            spectra = messages.spectra[messages.kinds[time - 1, :rows]]
            carried = _move(carried, spectra, lattice.transform)
        deviation = offsets - mean[time, :, None]
        carried = torch.cat([carried, (predicted[time] * deviation)[None]])
        shared = ((carried * future[time]) * deviation).sum(-1) / total[time]
        result[:, time, : time + 1] = shared.T
        result[:, : time + 1, time] = shared.T
        carried = carried * gains[time]
    return result


class Smoother(torch.autograd.Function):
    r"""E[x0 | z] for z (b, times), float64; its Jacobian is :math:`Cov[x_0 | z] / \sigma^2`."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, sigma: float, lattice: Lattice) -> Tensor:
        centres, messages = _pass(z, sigma, lattice)
        mean = _average(_joint(messages), lattice.spacing * lattice.steps.to(z))
        ctx.sigma, ctx.lattice = sigma, lattice
        ctx.save_for_backward(mean, *messages)
        return (lattice.spacing * centres + mean).T

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor, None, None]:
        mean, *saved = ctx.saved_tensors
        offsets = ctx.lattice.spacing * ctx.lattice.steps.to(v)
        # The mean's change when the log likelihood grows by v x / sigma^2 is Cov v / sigma^2.
        tilt = v.T[..., None] / ctx.sigma**2 * (offsets - mean[..., None])
        messages = _Messages(*saved)
        change = _tilted(messages, tilt, ctx.lattice.transform)
        joint = _joint(messages)
        moved = change @ offsets - change.sum(-1) * _average(joint, offsets)
        return (moved / joint.sum(-1)).T, None, None


def _pass(z: Tensor, sigma: float, lattice: Lattice) -> tuple[Tensor, _Messages]:
    """The indices of the windows' centres, (times, b), and all messages."""
    centres, steps, points = lattice.centres(z).T, lattice.steps.to(z), lattice.points
    moves, kinds = centres.diff(dim=0).unique(return_inverse=True)
    lags = torch.arange(1 - points, points, dtype=z.dtype, device=z.device)
    spectra = torch.fft.rfft(lattice.jumps(moves[:, None] + lags), lattice.transform)
    kinds = torch.cat([kinds, kinds.flip(0)], 1)
    distance = (z.T - lattice.spacing * centres)[..., None] - lattice.spacing * steps
    misfit = distance.square_().mul_(0.5 / sigma**2)
    # Relative to the best point of a window; no window, however far from z, is left without any.
    likelihood = (misfit.amin(-1, keepdim=True) - misfit).exp_().clamp_(min=_ROUNDING)
    gains = _streams(likelihood)
    predicted, filtered = torch.empty_like(gains), torch.empty_like(gains)
    # Forwards the walk starts from 0, a point of the lattice; backwards from anywhere.
    start = lattice.jumps(centres[0, :, None] + steps)
    state = torch.cat([start, torch.ones_like(start)])
    for time, gain in enumerate(gains):
        if time:
            state = _move(filtered[time - 1], spectra[kinds[time - 1]], lattice.transform)
            # Transforms leave rounding errors about zero, also below; probabilities are positive.
            state = state.clamp(min=_ROUNDING)
        predicted[time] = state
        torch.mul(state, gain, out=filtered[time])
        total = filtered[time].sum(-1, keepdim=True)
        filtered[time] /= total
        gain /= total
    return centres, _Messages(spectra, kinds, gains, predicted, filtered)


def _tilted(messages: _Messages, tilt: Tensor, transform: int) -> Tensor:
    """The derivative of ``_joint`` when the log likelihood is tilted, (times, b, points).

    One sweep with the derivatives of all messages; their normalisers can stay as they are.
    """
    tilts = _streams(tilt) * messages.filtered
    predicted, filtered = torch.zeros_like(tilts), tilts
    for time in range(1, len(tilts)):
        spectra = messages.spectra[messages.kinds[time - 1]]
        predicted[time] = _move(filtered[time - 1], spectra, transform)
        filtered[time].addcmul_(predicted[time], messages.gains[time])
    forwards, _ = predicted.chunk(2, 1)
    _, backwards = messages.filtered.chunk(2, 1)
    change = forwards * backwards.flip(0, 2)
    forwards, _ = messages.predicted.chunk(2, 1)
    _, backwards = filtered.chunk(2, 1)
    return change.addcmul_(forwards, backwards.flip(0, 2))


def _streams(windows: Tensor) -> Tensor:
    """What both streams see of windows (times, b, points)."""
    return torch.cat([windows, windows.flip(0, 2)], 1)


def _move(state: Tensor, spectra: Tensor, transform: int) -> Tensor:
    """Windows (..., points), one time further."""
    points = state.shape[-1]
    moved: Tensor = torch.fft.irfft(torch.fft.rfft(state, transform) * spectra, transform)
    return moved[..., points - 1 : 2 * points - 1]


def _joint(messages: _Messages) -> Tensor:
    """The posterior probabilities of a window's points, not normalised, (times, b, points)."""
    forwards, _ = messages.predicted.chunk(2, 1)
    _, backwards = messages.filtered.chunk(2, 1)
    return forwards * backwards.flip(0, 2)


def _average(joint: Tensor, values: Tensor) -> Tensor:
    """The mean of a window's values, (times, b)."""
    return (joint @ values) / joint.sum(-1)
