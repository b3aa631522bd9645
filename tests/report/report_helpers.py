"""A small reconstruction and its report."""

from dataclasses import replace

import torch
from torch import Tensor

from invdiff import DPS, TDS, Gaussian, Posterior, Problem, karras, sample
from invdiff.operators import Inpainting
from invdiff.priors import GaussianPrior
from invdiff.report import Display, Report, from_posterior, range_null_split

SHAPE = (1, 12, 10)
PLANTED = "DOE^JANE", "MRN-4711", "/ward7/jane.dcm"
DISPLAY = Display(
    show=lambda image: 100 * image,
    show_map=lambda std: 100 * std,
    unit="HU",
    window=(-200.0, 300.0),
    data_range=500.0,
    presets={"narrow": (0.0, 50.0)},
)


def run(items: int = 3, samples: int = 4, seed: int = 0, sampler=None) -> tuple:
    """A posterior of items with names that must not be told, its problem, and the truth."""
    prior = GaussianPrior.stationary(torch.zeros(SHAPE), torch.full(SHAPE, 0.5))
    source = torch.Generator().manual_seed(7)
    truth = torch.randn(items, *SHAPE, generator=source)
    operator = Inpainting((torch.rand(1, *SHAPE, generator=source) < 0.6).float())
    y = operator(truth) + 0.2 * operator(torch.randn(items, *SHAPE, generator=source))
    problem = Problem(y, operator, Gaussian(0.2))
    names = [PLANTED[i % 3] + str(i) for i in range(items)]
    ladder = karras(6, 0.05, 5.0)
    posterior = sample(
        problem, prior, sampler or DPS(), ladder, samples=samples, seed=seed, ids=names
    )
    return posterior, problem, truth


def make(posterior: Posterior, problem: Problem, truth: Tensor | None, **others) -> Report:
    settings = {
        "title": "A <b>title</b> & more",
        "caption": "</script><script>alert(1)</script>",
        "simulated": truth is not None,
        "baselines": {"Zero-filled": problem.operator.adjoint(problem.y)},
        "truth": None if truth is None else DISPLAY.show(truth),
        "split": range_null_split(problem, posterior.mean, 0.5),
    }
    return from_posterior(posterior, problem, DISPLAY, **(settings | others))


def report(**others) -> Report:
    return make(*run(), **others)


def weighted() -> Report:
    return make(*run(sampler=TDS()))


def planted(posterior: Posterior) -> Posterior:
    """With a patient in every place of the provenance that is free."""
    more = {"file": PLANTED[2], "patient": {"name": PLANTED[0], PLANTED[1]: 1}}
    return replace(posterior, provenance=posterior.provenance | more)
