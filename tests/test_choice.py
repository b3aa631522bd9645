"""The default samplers: chosen by purpose, size and linearity, and never silently."""

import pytest
import torch
from helpers import PIXELS, Saturating, small_prior, small_problem

from invdiff import AFDPS, DDS, DPS, MMPS, ConjugateTDS, Gaussian, PiGDM, Problem, karras, sample
from invdiff.choice import Purpose, choose
from invdiff.operators import Identity


def large() -> Problem:
    return Problem(torch.zeros(1, 1, 32, 32), Identity((1, 32, 32)), Gaussian(0.1))


@pytest.mark.parametrize(
    ("problem", "purpose", "sampler"),
    [
        (small_problem(), "uncertainty", ConjugateTDS),
        (large(), "uncertainty", MMPS),
        (large(), "mean", DDS),
        (large(), "perception", PiGDM),
        (small_problem(kind=Saturating), "uncertainty", AFDPS),
        (small_problem(kind=Saturating), "mean", DPS),
        (small_problem(kind=Saturating), Purpose.PERCEPTION, DPS),
    ],
)
def test_choices(problem, purpose, sampler):
    choice = choose(problem, purpose)
    assert type(choice.sampler) is sampler
    assert choice.reason


def test_unknown_purposes_are_refused():
    with pytest.raises(ValueError, match="speed"):
        choose(small_problem(), "speed")


def test_auto_is_printed_and_is_what_it_says(capsys):
    options = {"samples": 4, "progress": False}
    ladder = karras(5, 0.01, 5.0)
    auto = sample(small_problem(), small_prior(), "auto", ladder, **options)
    told = capsys.readouterr().err
    assert "ConjugateTDS(" in told
    assert auto.provenance["sampler"] in told
    named = sample(small_problem(), small_prior(), ConjugateTDS(), ladder, **options)
    assert torch.equal(auto.x, named.x)
    assert auto.x.shape == (3, 4, PIXELS)


def test_other_words_are_refused():
    with pytest.raises(ValueError, match=r"sampler is 'dps'.*'auto'"):
        sample(small_problem(), small_prior(), "dps", karras(5, 0.01, 5.0))
