"""The optimizer of the training: against dense linear algebra, and against torch's AdamW."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from muon import Muon, orthogonal


@pytest.mark.parametrize("shape", [(8, 40), (40, 8), (16, 16)])
def test_singular_values_end_near_one_and_vectors_stay(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    out = orthogonal(matrix)
    u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
    inner = u.mT @ out @ vh.mT
    values = inner.diagonal()
    assert 0.6 < values.min()
    assert values.max() < 1.25  # the quintic's bound is 1.2; rounding and the ends of the interval
    # Off the diagonal there is only rounding: the singular vectors are those of the matrix.
    torch.testing.assert_close(inner - values.diag(), torch.zeros_like(inner), rtol=0, atol=1e-4)


def test_the_scale_of_a_gradient_does_not_matter():
    matrix = torch.randn(6, 20, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(orthogonal(1e-6 * matrix), orthogonal(matrix), rtol=1e-4, atol=1e-5)
    assert torch.isfinite(orthogonal(torch.zeros(3, 5))).all()


def gradients(count: int, *shape: int) -> list[torch.Tensor]:
    rng = torch.Generator().manual_seed(2)
    return [torch.randn(shape, generator=rng) for _ in range(count)]


def test_other_weights_are_updated_as_by_adamw():
    start = torch.linspace(-1, 1, 12)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    muon = Muon([], [ours], 0.03, weight_decay=0.1)
    adam = torch.optim.AdamW([theirs], 0.03, betas=(0.9, 0.99), weight_decay=0.1)
    for gradient in gradients(7, 12):
        ours.grad, theirs.grad = gradient, gradient.clone()
        muon.step()
        adam.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_a_convolution_moves_by_orthogonal_steps_of_the_size_of_adams():
    """The first step is along orthogonal(g), with a root mean square of 0.2 learning rates."""
    weight = nn.Parameter(torch.zeros(16, 8, 3, 3))
    (gradient,) = gradients(1, 16, 8, 3, 3)
    weight.grad = gradient
    Muon([weight], [], 0.01).step()
    expected = -0.01 * 0.2 * 72**0.5 * orthogonal(gradient.flatten(1))
    torch.testing.assert_close(weight.detach().flatten(1), expected, rtol=1e-4, atol=1e-7)
    # Singular values between 0.7 and 1.2 make it so within that factor.
    assert 0.7 * 0.002 < weight.detach().square().mean().sqrt() < 1.2 * 0.002


def test_its_state_is_saved_and_restored():
    weights = [nn.Parameter(torch.ones(4, 3, 3, 3)), nn.Parameter(torch.ones(5))]
    copies = [nn.Parameter(w.detach().clone()) for w in weights]
    one, other = (Muon([a], [b], 0.1) for a, b in (weights, copies))
    steps = list(zip(gradients(4, 4, 3, 3, 3), gradients(4, 5), strict=True))
    for k, (first, second) in enumerate(steps):
        for pair in (weights, copies):
            pair[0].grad, pair[1].grad = first.clone(), second.clone()
        one.step()
        if k < 2:
            other.step()
        elif k == 2:  # a fresh optimizer goes on where the other one stood
            resumed = Muon([copies[0]], [copies[1]], 0.1)
            resumed.load_state_dict(other.state_dict())
            resumed.step()
        else:
            resumed.step()
    for a, b in zip(weights, copies, strict=True):
        assert torch.equal(a, b)


def test_a_closure_is_run_with_gradients_before_the_update():
    weight = nn.Parameter(torch.ones(3))
    muon = Muon([], [weight], 0.1)

    def closure() -> float:
        value = weight.square().sum()
        value.backward()
        return value.item()

    assert muon.step(closure) == 3
    assert bool((weight < 1).all())
    assert muon.step() is None
