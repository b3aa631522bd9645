"""Phase retrieval against sums written out, finite differences and its symmetries."""

import math
import pickle

import pytest
import torch
from helpers import generator

from invdiff.curvature import push_forward
from invdiff.errors import NotFinite, ShapeError
from invdiff.operators import Scaled
from invdiff.operators.phase_retrieval import PhaseRetrieval

F64 = torch.float64


def masks(items: int = 1) -> torch.Tensor:
    return torch.randn(items, 3, 3, 4, generator=generator(2), dtype=torch.complex128)


MAKERS = {
    "plain": lambda: PhaseRetrieval((2, 3, 4)),
    "tight": lambda: PhaseRetrieval((2, 3, 4), oversampling=1.0),
    "masks": lambda: PhaseRetrieval((2, 3, 4), 1.5, masks()),
    "masks-items": lambda: PhaseRetrieval((2, 3, 4), 1.5, masks(2)),
    "real-masks": lambda: PhaseRetrieval((2, 3, 4), 2.0, masks().real.contiguous()),
}


@pytest.fixture(params=MAKERS)
def operator(request):
    return MAKERS[request.param]()


def image(seed: int = 0) -> torch.Tensor:
    return torch.randn(2, 2, 3, 4, generator=generator(seed), dtype=F64)


def dense(operator: PhaseRetrieval, item: int) -> torch.Tensor:
    """The matrix of the transform of one channel, mask by mask, written out as a sum."""
    rows, columns = operator.range[1:]
    blocks = torch.ones(1, 3, 4, dtype=torch.complex128)
    if operator.masks is not None:
        blocks = operator.masks[min(item, len(operator.masks) - 1)].to(torch.complex128)
    matrix = torch.zeros(len(blocks), rows, columns, 3, 4, dtype=torch.complex128)
    for k in range(rows):
        for m in range(columns):
            for r in range(3):
                for c in range(4):
                    phase = -2 * math.pi * (k * r / rows + m * c / columns)
                    matrix[:, k, m, r, c] = complex(math.cos(phase), math.sin(phase))
    matrix = matrix * blocks[:, None, None] / math.sqrt(rows * columns)
    return matrix.reshape(len(blocks), rows * columns, 12)


def test_agrees_with_the_sums(operator):
    x = image()
    found = operator(x)
    for item in range(2):
        parts = [
            (dense(operator, item) @ x[item, channel].flatten().to(torch.complex128)).abs()
            for channel in range(2)
        ]
        expected = torch.cat(parts).reshape(operator.range)
        assert (found[item] - expected).abs().max() < 1e-12


def test_keeps_the_norm():
    x = image()
    for oversampling in (1.0, 2.0):
        found = PhaseRetrieval((2, 3, 4), oversampling)(x)
        assert torch.allclose(found.flatten(1).norm(dim=1), x.flatten(1).norm(dim=1), rtol=1e-12)


def test_does_not_see_signs_and_mirrors():
    operator, x = PhaseRetrieval((2, 3, 4)), image()
    assert torch.equal(operator(-x), operator(x))
    assert torch.allclose(operator(x.flip(-1, -2)), operator(x), atol=1e-12)
    coded = MAKERS["masks"]()
    assert (coded(x.flip(-1, -2)) - coded(x)).abs().max() > 0.1


def test_derivatives_are_differences(operator):
    """Central differences of step 1e-5: errors of 1e-10, and 1e-6 at an amplitude of 0.01."""
    x, direction = image(), image(1)
    u = torch.randn(2, *operator.range, generator=generator(3), dtype=F64)
    value, vjp = operator.linearize(x)
    assert torch.equal(value, operator(x))
    step = 1e-5
    slope = (operator(x + step * direction) - operator(x - step * direction)) / (2 * step)
    assert (push_forward(operator_problem(operator), x, direction) - slope).abs().max() < 1e-5
    left, right = (u * slope).flatten(1).sum(1), (direction * vjp(u)).flatten(1).sum(1)
    assert (left - right).abs().max() < 1e-5


def operator_problem(operator):
    from invdiff import Gaussian, Problem

    return Problem(torch.ones(2, *operator.range, dtype=F64), operator, Gaussian(1.0))


def test_gradient_at_zero_amplitude_is_zero(operator):
    zero = torch.zeros(2, 2, 3, 4, dtype=F64)
    value, vjp = operator.linearize(zero)
    assert (value == 0).all()
    assert (vjp(torch.ones_like(value)) == 0).all()
    assert (push_forward(operator_problem(operator), zero, image()) == 0).all()
    # One constant channel: only the mean of a tight transform is not zero.
    tight = PhaseRetrieval((1, 3, 4), oversampling=1.0)
    flat = torch.ones(1, 1, 3, 4, dtype=F64)
    value, vjp = tight.linearize(flat)
    only = torch.zeros_like(value)
    only[0, 0, 0, 0] = 1
    rest = 1 - only
    assert torch.allclose(vjp(only), torch.full_like(flat, 12**-0.5))
    assert vjp(rest).abs().max() < 1  # rounding has a sign, but never NaN
    assert torch.isfinite(vjp(rest)).all()


def test_bounds_hold(operator):
    low, high = operator.bounds(-0.3, 1.0)
    x = 1.3 * torch.rand(2, 2, 3, 4, generator=generator(5), dtype=F64) - 0.3
    assert low == 0
    assert float(operator(x).max()) <= high
    assert float(operator(torch.ones_like(x)).max()) <= high * (1 + 1e-12)
    if operator.masks is None:  # attained at the mean
        assert float(operator(torch.ones_like(x)).max()) == pytest.approx(high)


def test_contract(operator):
    assert not operator.linear
    assert operator.domain == (2, 3, 4)
    for dtype in (torch.float32, F64):
        found = operator(image().to(dtype))
        assert found.shape == (2, *operator.range)
        assert found.dtype == dtype
    index = torch.tensor([1])
    alone = operator.rows(index)(image()[index])
    assert (alone - operator(image())[index]).abs().max() < 1e-12
    with pytest.raises(TypeError, match="linearize"):
        operator.adjoint(operator(image()))
    with pytest.raises(TypeError, match="not linear"):
        _ = operator.H
    assert pickle.loads(pickle.dumps(operator)) == operator
    assert operator != PhaseRetrieval((2, 3, 4), 3.0)
    assert isinstance(2.0 * operator, Scaled)
    assert torch.equal((2.0 * operator)(image()), 2.0 * operator(image()))
    if operator.masks is None:
        assert eval(repr(operator)) == operator


def test_refusals():
    with pytest.raises(ShapeError, match="grey image"):
        PhaseRetrieval((3, 4))
    with pytest.raises(ValueError, match="at least 1"):
        PhaseRetrieval((1, 3, 4), 0.5)
    with pytest.raises(ShapeError, match=r"masks\[None\]"):
        PhaseRetrieval((1, 3, 4), 2.0, torch.ones(2, 3, 4))
    with pytest.raises(NotFinite, match="finite"):
        PhaseRetrieval((1, 3, 4), 2.0, torch.full((1, 1, 3, 4), math.nan))


def test_a_wrong_gradient_is_caught():
    class Detached(PhaseRetrieval):
        """Forgets the derivative of one half of the pattern."""

        def _forward(self, x):
            value = super()._forward(x)
            half = value.shape[-1] // 2
            return torch.cat([value[..., :half], value[..., half:].detach()], -1)

    with pytest.raises(AssertionError):
        test_derivatives_are_differences(Detached((2, 3, 4)))


@pytest.mark.parametrize("size", [256, 16])
def test_dps_and_daps_protocol(size):
    """Their "oversampling 2": a quarter of the image as zeros on every side, and a centred
    unitary transform. Ours lists the same amplitudes in another order."""
    x = torch.randn(1, 1, size, size, generator=generator(8), dtype=F64)
    pad = int(2.0 / 8.0 * size)
    padded = torch.nn.functional.pad(x, (pad, pad, pad, pad))
    theirs = torch.fft.fftshift(
        torch.fft.fft2(torch.fft.ifftshift(padded, dim=(-2, -1)), norm="ortho"), dim=(-2, -1)
    ).abs()
    ours = PhaseRetrieval((1, size, size), oversampling=1.5)(x)
    assert ours.shape == theirs.shape
    assert torch.allclose(torch.fft.fftshift(ours, dim=(-2, -1)), theirs, atol=1e-12)
