"""Random numbers belong to (seed, item, particle, step), never to a place in a batch.

Statistical tests: fixed seeds, |z| < 4.5 on a few numbers each, false alarms below 1e-4.
"""

import numpy as np
import pytest
import torch

from invdiff.errors import ShapeError
from invdiff.philox import philox
from invdiff.rng import Rng

F64 = torch.float64

PUBLISHED = [
    [-0.7378246649944933, -1.4164464186325691, 0.3001815956268323],
    [-0.43713679909706116, -0.4793272614479065],
    [0.9641725345980844],
    [1.0, 1.0, -1.0, 1.0, -1.0, 1.0],
]

# Counter, key, words: the known answers published with the generator (Salmon et al., 2011).
KNOWN = [
    ("00000000 " * 4, "00000000 " * 2, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff " * 4, "ffffffff " * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    (
        "243f6a88 85a308d3 13198a2e 03707344",
        "a4093822 299f31d0",
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
]


def like(rows, *shape, dtype=F64):
    return torch.empty(rows, *shape, dtype=dtype)


def words(text):
    return [np.array([int(word, 16)], np.uint32) for word in text.split()]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN, ids=["zeros", "ones", "pi"])
def test_known_answers(counter, key, answer):
    assert philox(tuple(words(counter)), tuple(words(key))) == tuple(words(answer))


def test_rows_too_long_for_one_part():
    """Parts of the work leave no trace: a long row begins like a short one, in any company."""
    long = Rng(2, ["a", "b"], 2).normal(like(4, 3, 50_000))
    alone = Rng(2, ["b"], 1).normal(like(1, 3, 50_000))
    assert torch.equal(alone[0], long[2])
    assert len(long.unique()) > long.numel() * (1 - 1e-3)  # of 32 bits each, few meet
    signs = Rng(2, ["a", "b"], 2).signs(like(4, 3_000_000))
    assert torch.equal(Rng(2, ["b"], 1).signs(like(1, 3_000_000))[0], signs[2])
    assert float(torch.corrcoef(signs).fill_diagonal_(0).abs().max()) * 3e6**0.5 < 4.5


def test_precisions_agree():
    """Numbers of float32 are those of float64 but for rounding (of angles up to 2 pi: 1e-6)."""
    exact = Rng(4, range(3), 2).normal(like(6, 999))
    single = Rng(4, range(3), 2).normal(like(6, 999, dtype=torch.float32))
    assert float((exact - single).abs().max()) < 1e-5


def test_rows_must_match():
    with pytest.raises(ShapeError, match="2 items of 3 particles"):
        Rng(0, [0, 1], 3).normal(like(5, 2))


def test_prefix_property():
    """Particle 3 of 4 is particle 3 of 8, whichever items stand beside."""
    many = Rng(5, ["a", "b", "c"], 8, step=2).normal(like(24, 3)).reshape(3, 8, 3)
    few = Rng(5, ["c", "a"], 4, step=2).normal(like(8, 3)).reshape(2, 4, 3)
    assert torch.equal(few[0], many[2, :4])
    assert torch.equal(few[1], many[0, :4])
    signs = Rng(5, ["a", "b"], 8).signs(like(16, 3)).reshape(2, 8, 3)
    assert torch.equal(Rng(5, ["b"], 4).signs(like(4, 3)), signs[1, :4])
    uniform = Rng(5, ["a", "b"], 8).uniform()
    assert torch.equal(Rng(5, ["b"], 3).uniform(), uniform[1:])


def test_every_part_of_the_key_counts():
    draws = [
        Rng(seed, [item], 2, step).normal(like(2, 4))
        for seed in (0, 1, -1)
        for item in (0, 1, "0", "1")
        for step in (0, 1, 2)
    ]
    flat = torch.cat(draws).flatten(1)
    assert len(torch.unique(flat, dim=0)) == len(flat)
    rng = Rng(0, [0], 1)
    assert not torch.equal(rng.normal(like(1, 4)), rng.normal(like(1, 4)))


def test_a_step_begins_anew():
    rng = Rng(0, [0, 1], 3)
    first = rng.at(4).normal(like(6, 2))
    rng.normal(like(6, 100))
    assert torch.equal(rng.at(4).normal(like(6, 2)), first)


def test_published_numbers():
    """These numbers are part of the package: changing them changes every published result."""
    normal = Rng(0, [0], 1).normal(like(1, 3))[0]
    named = Rng(7, ["brain/1"], 2, step=3).normal(like(2, 1, dtype=torch.float32))[:, 0]
    assert normal.tolist() == PUBLISHED[0]
    assert named.tolist() == pytest.approx(PUBLISHED[1], rel=1e-6)
    assert Rng(0, [0], 1).uniform().tolist() == PUBLISHED[2]
    assert Rng(0, [0], 1).signs(like(1, 6))[0].tolist() == PUBLISHED[3]


def test_law_of_the_numbers():
    count = 40000
    x = Rng(3, list(range(40)), 50).normal(like(2000, 20)).flatten()
    assert abs(float(x.mean())) * count**0.5 < 4.5
    assert abs(float(x.square().mean()) - 1) * (count / 2) ** 0.5 < 4.5
    assert abs(float((x**4).mean()) - 3) * (count / 96) ** 0.5 < 4.5
    signs = Rng(3, list(range(40)), 50).signs(like(2000, 20))
    assert set(signs.unique().tolist()) == {-1.0, 1.0}
    assert abs(float(signs.mean())) * count**0.5 < 4.5
    uniform = torch.cat([Rng(3, list(range(50)), 1, step).uniform() for step in range(40)])
    assert 0 <= float(uniform.min()) <= float(uniform.max()) < 1
    assert abs(float(uniform.mean()) - 0.5) * (12 * 2000) ** 0.5 < 4.5


def test_neighbouring_keys_are_independent():
    """Correlations between items, particles, steps and seeds: 20 numbers of variance 1/n."""
    n = 5000
    base = [
        Rng(s, [i], 2, t).normal(like(2, n))
        for s, i, t in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))
    ]
    flat = torch.cat(base)
    correlation = torch.corrcoef(flat) - torch.eye(len(flat), dtype=F64)
    assert float(correlation.abs().max()) * n**0.5 < 4.5


def test_complex_numbers():
    z = Rng(0, [0], 1).normal(torch.empty(1, 5000, dtype=torch.complex128))[0]
    for part in (z.real, z.imag):  # each of them standard normal, the package's convention
        assert abs(float(part.square().mean()) - 1) * (5000 / 2) ** 0.5 < 4.5
    assert abs(float((z.real * z.imag).mean())) * 5000**0.5 < 4.5


def test_precision_follows():
    for dtype in (torch.float32, F64, torch.bfloat16, torch.complex64):
        assert Rng(0, [0], 2).normal(torch.empty(2, 3, dtype=dtype)).dtype == dtype


def test_many_uniform_numbers():
    """The first of many is the one; items have their own; the law is uniform, place by place."""
    one, many = Rng(5, ["a", "b"], 3).uniform(), Rng(5, ["a", "b"], 3).uniform(4)
    assert many.shape == (2, 4)
    assert many.dtype == F64
    assert torch.equal(many[:, 0], one)
    assert torch.equal(Rng(5, ["b"], 8).uniform(4), many[1:])
    assert len(many.unique()) == 8
    rng = Rng(5, ["a"], 3)
    assert torch.equal(torch.cat([rng.uniform(2), rng.uniform(2)], 1), many[:1])
    law = Rng(3, list(range(2000)), 1).uniform(5)
    assert 0 <= float(law.min()) <= float(law.max()) < 1
    assert float((law.mean(0) - 0.5).abs().max()) * (12 * 2000) ** 0.5 < 4.5
    assert float((torch.corrcoef(law.T) - torch.eye(5)).abs().max()) * 2000**0.5 < 4.5
