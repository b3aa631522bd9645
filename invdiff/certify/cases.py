"""The problems of the certificate, by name. To add one, add a line to ``benchmarks``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from invdiff.certify.case import Case
from invdiff.certify.gaussian import OPERATORS, anisotropic, gaussian_images
from invdiff.certify.levy import LAWS, levy_case
from invdiff.certify.levy import OPERATORS as WALK_OPERATORS
from invdiff.certify.mixtures import image_mixture, lattice
from invdiff.certify.nonlinear import phase_of_atoms, phase_of_two_pixels, square

__all__ = ["QUICK", "Benchmark", "benchmarks", "find_benchmarks", "one"]

QUICK = 20, 40  # measurements, which ranks need; samples of each: 95 % intervals need 39


@dataclass(frozen=True)
class Benchmark:
    """A problem of the certificate: one row per sampler, averaged over all items of all cases.

    Arguments:
        name: Of the row.
        build: Makes the cases of that many items: one case of all, or one for each where items
            differ in their prior.
        items: Measurements in the full certificate.
        samples: Per item, in the full certificate.
        quick: Both in a quick run; None if it is not part of it unless asked for.
    """

    name: str
    build: Callable[[int], Sequence[Case]]
    items: int
    samples: int
    quick: tuple[int, int] | None = None

    def size(self, quick: bool) -> tuple[int, int]:
        """The measurements and samples of a run."""
        if not quick:
            return self.items, self.samples
        return self.quick or (min(self.items, QUICK[0]), QUICK[1])


def benchmarks() -> dict[str, Benchmark]:
    """All of them, in the order of the tables."""
    return {each.name: each for each in (*_gaussian(), *_mixtures(), *_nonlinear(), *_levy())}


def find_benchmarks(names: Sequence[str], quick: bool) -> list[Benchmark]:
    """The named ones; all, or all of a quick run, if none is named.

    Raises ValueError for a name that is none.
    """
    known = benchmarks()
    if not names:
        return [each for each in known.values() if each.quick or not quick]
    for name in names:
        if name not in known:
            raise ValueError(f"There is no problem {name!r}. Known: {', '.join(known)}.")
    return [known[name] for name in names]


def one(build: Callable[[int], Case]) -> Callable[[int], Sequence[Case]]:
    """For problems whose items make a single case."""
    return lambda items: [build(items)]


def _gaussian() -> list[Benchmark]:
    draws, quick = 640, ("inpainting", "ct", "mri")
    first = one(partial(anisotropic, "anisotropic", draws=draws))
    many = one(partial(anisotropic, "anisotropic-many", draws=6400))  # for its covariance
    result = [
        Benchmark("anisotropic", first, 64, 80, quick=QUICK),
        Benchmark("anisotropic-many", many, 4, 3000),
    ]
    for side, items in ((8, 48), (16, 24), (32, 4)):
        for operator in OPERATORS:
            for level, sigma in (("", 0.05), ("-quiet", 0.02), ("-noisy", 0.2)):
                name = f"gaussian-{operator}-{side**2}{level}"
                build = one(partial(gaussian_images, name, operator, side, sigma, draws=draws))
                asked = QUICK if side == 8 and not level and operator in quick else None
                result.append(Benchmark(name, build, items, 80, asked))
    return result


def _mixtures() -> list[Benchmark]:
    two = one(partial(image_mixture, "two-modes", 8, 2, 0.05, draws=640))
    three = one(partial(image_mixture, "three-modes", 16, 3, 0.02, draws=640))
    result = [Benchmark("two-modes", two, 48, 80, QUICK), Benchmark("three-modes", three, 24, 80)]
    for pixels, measured in ((8, 1), (8, 2), (8, 4), (80, 1), (80, 2), (80, 4)):
        name = f"mixture-{pixels}-{measured}"
        build = partial(_lattices, name, pixels, measured)
        asked = (8, 100) if (pixels, measured) == (8, 2) else None
        result.append(Benchmark(name, build, 20, 200, asked))  # twenty seeds, as published
    return result


def _nonlinear() -> list[Benchmark]:
    makers = {"square": square, "phase-pixels": phase_of_two_pixels, "phase-atoms": phase_of_atoms}
    return [
        Benchmark(
            name, one(partial(_drawn, make, name)), 48, 80, QUICK if name == "square" else None
        )
        for name, make in makers.items()
    ]


def _drawn(make: Callable[[str, int, int], Case], name: str, items: int) -> Case:
    return make(name, items, 640)


def _levy() -> list[Benchmark]:
    return [
        Benchmark(f"levy-{law}-{operator}", one(partial(_walks, law, operator)), 16, 128)
        for law in LAWS
        for operator in WALK_OPERATORS
    ]


def _walks(law: str, operator: str, items: int) -> Case:
    return levy_case(law, operator, items, seed=0)


def _lattices(name: str, pixels: int, measured: int, seeds: int) -> list[Case]:
    return [lattice(name, pixels, measured, seed, draws=2000) for seed in range(seeds)]
