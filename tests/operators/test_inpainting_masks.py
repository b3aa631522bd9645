"""Masks hide exactly what they say, where they say, and nothing but their arguments matters."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from invdiff.operators import (
    Inpainting,
    box_mask,
    free_form_mask,
    random_box_mask,
    random_pixel_mask,
)

SHAPE = (3, 64, 48)
MAKERS = {
    "pixels": lambda seed: random_pixel_mask(SHAPE, 0.3, seed),
    "box": lambda seed: random_box_mask(SHAPE, (20, 12), seed, margin=4),
    "free-form": lambda seed: free_form_mask(SHAPE, 0.25, seed),
}


@pytest.mark.parametrize("kind", MAKERS)
def test_seeds_and_channels(kind):
    make = MAKERS[kind]
    mask = make(5)
    assert mask.shape == (1, *SHAPE)
    assert mask.dtype == torch.bool
    assert (mask == mask[:, :1]).all()
    torch.manual_seed(1)  # the global state has no say
    assert torch.equal(make(5), mask)
    assert not torch.equal(make(6), mask)
    assert not torch.equal(make((5, 1)), mask)
    per_item = Inpainting(torch.cat([make((5, item)) for item in range(3)]))
    assert per_item.items == 3
    assert torch.equal(per_item.rows(torch.tensor([2])).mask, make((5, 2)))


@pytest.mark.parametrize(("keep", "hidden"), [(0.3, 45875), (0.08, 60293), (0.5, 32768)])
def test_published_shares_of_256_pixels(keep, hidden):
    """DAPS and the DPS code hide int(65536 share) pixels; here rounded, which is the same."""
    operator = Inpainting.random((1, 256, 256), keep, seed=0)
    assert int((~operator.observed).sum()) == hidden
    assert operator.kept.tolist() == [1 - hidden / 65536]


def test_pixels_are_drawn_evenly():
    """How often 2000 masks keep each pixel: chi-square with 99 degrees; a false alarm of 1e-6."""
    count = torch.stack([random_pixel_mask((1, 10, 10), 0.3, s) for s in range(2000)]).sum(0)

    def statistic(count):
        # Without replacement the counts of a mask are correlated: 100 - 1 degrees of freedom.
        return float(((count - 600.0) ** 2).sum() / (2000 * 0.3 * 0.7) * 99 / 100)

    assert statistic(count) < 177.5
    uneven = count.clone()
    uneven[..., 0, :] += 60
    assert statistic(uneven) > 177.5


def test_box_protocols():
    """DPS: the corner of a box of 128 in 256 is uniform on 16 ... 111; DAPS 32 ... 95."""
    for margin, last in ((16, 111), (32, 95)):
        corners = set()
        for seed in range(1500):
            hidden = ~random_box_mask((1, 256, 256), (128, 128), seed, margin)[0, 0]
            rows, columns = hidden.any(1).nonzero(), hidden.any(0).nonzero()
            assert len(rows) == len(columns) == 128
            corners |= {int(rows[0]), -int(columns[0])}
        # All 2 x 96 or 2 x 64 places are seen: missed with chance 192 (95 / 96)^1500 = 3e-5.
        expected = set(range(margin, last + 1))
        assert corners == expected | {-place for place in expected}


@pytest.mark.parametrize("hide", [0.0, 0.1, 0.2, 0.5, 0.8])
def test_free_form_hides_the_share_exactly(hide):
    for seed in range(3):
        mask = free_form_mask((1, 64, 48), hide, seed)
        assert int((~mask).sum()) == round(hide * 64 * 48)


def test_free_form_is_made_of_strokes():
    """Connected parts no thinner than the brush: opened by a disc of its least radius, most of
    what is hidden stays, while of random pixels as dense nothing does."""
    disc = np.hypot(*np.mgrid[-3:4, -3:4]) <= 3
    for seed in range(5):
        hidden = ~free_form_mask((1, 128, 128), 0.25, seed, brush=(0.08, 0.12))[0, 0].numpy()
        assert ndimage.label(hidden)[1] <= 12
        assert ndimage.binary_opening(hidden, disc).sum() > 0.9 * hidden.sum()
        scattered = ~random_pixel_mask((1, 128, 128), 0.75, seed)[0, 0].numpy()
        assert ndimage.binary_opening(scattered, disc).sum() == 0


def test_refusals():
    with pytest.raises(ValueError, match="keep"):
        random_pixel_mask(SHAPE, 1.5, 0)
    with pytest.raises(ValueError, match="does not fit"):
        box_mask(SHAPE, (65, 3))
    with pytest.raises(ValueError, match="no place"):
        random_box_mask(SHAPE, (32, 32), 0, margin=10)
    with pytest.raises(ValueError, match="share"):
        free_form_mask(SHAPE, 1.0, 0)
    with pytest.raises(ValueError, match="widths"):
        free_form_mask(SHAPE, 0.2, 0, brush=(0.2, 0.1))
