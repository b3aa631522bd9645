"""Inpainting masks: what is kept, what is refused."""

import pytest
import torch

from invdiff.errors import ShapeError
from invdiff.operators import Identity, Inpainting


def test_random_keeps_the_share_in_all_channels():
    A = Inpainting.random((3, 20, 30), keep=0.3, seed=1)
    assert A.mask.sum(dim=(0, 2, 3)).tolist() == [180, 180, 180]
    assert (A.mask == A.mask[:, :1]).all()
    assert Inpainting.random((3, 20, 30), keep=0.3, seed=1) == A
    assert Inpainting.random((3, 20, 30), keep=0.3, seed=2) != A


def test_box_hides_the_box():
    A = Inpainting.box((1, 6, 7), (2, 3))
    assert (~A.observed[0, 0]).nonzero().tolist() == [[r, c] for r in (2, 3) for c in (2, 3, 4)]
    B = Inpainting.box((1, 6, 7), (1, 1), corner=(0, 0))
    assert (~B.observed[0, 0]).nonzero().tolist() == [[0, 0]]


def test_measured_zeros_differ_from_missing_pixels():
    mask = torch.tensor([[[[1.0, 0.0]]]])
    A = Inpainting(mask)
    assert A(torch.zeros(1, 1, 1, 2)).tolist() == [[[[0.0, 0.0]]]]
    assert A.observed.tolist() == [[[[True, False]]]]
    assert (2.0 * A).observed is not None
    assert (A @ Identity((1, 1, 2))).observed is not None


def test_bounds_include_the_zeros():
    A = Inpainting.box((1, 6, 7), (2, 3))
    assert A.bounds(-1, 1) == (-1, 1)
    assert A.bounds(2, 3) == (0, 3)


def test_refusals():
    with pytest.raises(ShapeError, match=r"mask\[None\]"):
        Inpainting(torch.ones(1, 4, 4))
    with pytest.raises(ValueError, match="zeros and ones"):
        Inpainting(torch.full((1, 1, 4, 4), 0.5))
    with pytest.raises(ValueError, match="keep"):
        Inpainting.random((1, 4, 4), keep=0.0, seed=0)
    with pytest.raises(ValueError, match="does not fit"):
        Inpainting.box((1, 4, 4), (3, 3), corner=(2, 0))
