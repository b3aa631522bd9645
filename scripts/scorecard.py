"""The scorecard: every sampler on every kind of problem, and other libraries beside them.

    python scripts/scorecard.py

Writes docs/scorecard.md, between its markers, and docs/images/scorecard-*.png. Finished rows are
kept in docs/scorecard.json: a killed run goes on where it stopped. ``--only DPS`` measures a
sampler again, ``--part steps`` runs one part only, ``--problem`` one problem, ``--draw`` none.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))

from scorecard_figure import draw_field, draw_steps
from scorecard_tables import field_tables, steps_tables, write_between

from invdiff.certify.case import Case
from invdiff.certify.cases import benchmarks
from invdiff.certify.entries import Contender, Entry, entries, informed
from invdiff.certify.levy import LAWS, OPERATORS
from invdiff.certify.run import certify
from invdiff.files import save_json
from invdiff.ladder import karras
from invdiff.samplers import AFDPS, TDS, ConjugateTDS, MCGDiff, PnPDM, SplitSMC


@dataclass(frozen=True)
class Part:
    """Some problems on which all samplers run, with what that may cost.

    Arguments:
        name: Of the part.
        title: Its heading.
        problems: Their names.
        steps: Noise levels.
        size: Measurements and samples of each, at most.
        peers: Whether other libraries run, too: "all", those that can run in one "batch", "none".
        minutes: On two cores; a plan, not a limit.
        only: The samplers that run, all if empty: some problems are costly.
    """

    name: str
    title: str
    problems: tuple[str, ...]
    steps: tuple[int, ...]
    size: tuple[int, int]
    peers: str
    minutes: int
    only: tuple[str, ...] = ()


_KINDS = ("inpainting", "sr", "deblur", "ct", "ct-stiff", "mri")
_COMMON = ("exact draws", "DPS", "PiGDM", "MMPS", "DDS", "DiffPIR", "TDS", "ConjugateTDS")
_MIXTURES = tuple(f"mixture-{n}-{m}" for n in (8, 80) for m in (1, 2, 4))
PARTS = (
    Part("field", "All samplers, 50 steps",
         ("anisotropic", *(f"gaussian-{kind}-64" for kind in _KINDS), "two-modes"),
         (50,), (24, 40), "batch", 7),
    Part("draws", "Sixteen numbers, eight measured, 3000 samples", ("anisotropic-many",),
         (200,), (4, 3000), "none", 3,
         ("exact draws", "MMPS", "TDS", "ConjugateTDS", "AFDPS, 200", "MCGDiff, 64",
          "PnPDM, to 0.02", "PiGDM", "DPS", "DDS", "DiffPIR", "DAPS")),
    Part("noise", "Other noise levels",
         tuple(f"gaussian-{kind}-64-{level}" for kind in ("inpainting", "ct")
               for level in ("quiet", "noisy")),
         (50,), (16, 40), "none", 3, _COMMON),
    Part("mixture", "25 modes, 20 seeds each", _MIXTURES, (50,), (20, 40), "batch", 8,
         (*_COMMON, "DAPS", "PnPDM", "MCGDiff", "AFDPS", "FKC", "FKSteering", "SVDD",
          "SplitSMC", "SplitSMC, 480")),
    Part("one-of-8", "25 modes, one draw of each filter of 8 particles", _MIXTURES,
         (100,), (20, 200), "none", 5, ("exact draws", "TDS, one of 8")),
    Part("one-of-64", "25 modes, one draw of each filter of 64 particles", _MIXTURES,
         (100,), (20, 50), "none", 12, ("exact draws", "TDS, one of 64")),
    Part("one-of-256", "25 modes, one draw of each filter of 256 particles", _MIXTURES,
         (60,), (20, 25), "none", 40,
         ("exact draws", "MCGDiff, one of 256", "AFDPS, one of 256")),
    Part("nonlinear", "Nonlinear operators", ("square", "phase-pixels", "phase-atoms"),
         (50,), (24, 40), "none", 2),
    Part("levy", "Random walks with sparse increments, 25 dB",
         tuple(f"levy-{law}-{operator}" for law in sorted(LAWS) for operator in OPERATORS),
         (30,), (8, 64), "none", 300,
         ("exact draws", "DPS", "PiGDM", "MMPS", "DDS", "DiffPIR", "DAPS", "ConjugateTDS, 32",
          "SplitSMC", "SplitSMC, 64")),
    Part("steps", "Steps and sizes",
         tuple(f"gaussian-inpainting-{n}" for n in (64, 256, 1024)),
         (20, 50, 100, 300), (4, 40), "none", 8, _COMMON),
    Part("alone", "Libraries that take their batch for one image",
         ("gaussian-inpainting-64",), (50,), (8, 40), "alone", 1),
)  # fmt: skip

Task = tuple[str, str, str, str, int]
"""Part, problem, library, sampler, steps."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=Path, default=Path("docs/scorecard.json"))
    parser.add_argument("--page", type=Path, default=Path("docs/scorecard.md"))
    parser.add_argument("--images", type=Path, default=Path("docs/images"))
    parser.add_argument("--only", action="append", default=[], help="measure this one again")
    parser.add_argument("--part", action="append", default=[], help="one part; all if omitted")
    parser.add_argument(
        "--problem", action="append", default=[], help="one problem; all if omitted"
    )
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--draw", action="store_true", help="only tables and plots")
    given = parser.parse_args()
    rows = json.loads(given.rows.read_text("utf-8")) if given.rows.exists() else []
    if not given.draw:
        asked = [
            task for task in tasks(given.part)
            if (not given.only or task[3] in given.only)
            and (not given.problem or task[1] in given.problem)
        ]  # fmt: skip
        again = set(asked) if given.only else set()
        rows = [row for row in rows if key(row) not in again]
        rows = measure(rows, asked, given.workers, given.rows)
    order = {task: place for place, task in enumerate(tasks([]))}
    rows = sorted((row for row in rows if key(row) in order), key=lambda row: order[key(row)])
    pictures = [draw_field(given.images, rows), draw_steps(given.images, rows)]
    write_between(given.page, "\n\n".join([
        *(f"![{path.stem}](images/{path.name})" for path in pictures if path),
        *(field_tables(part.title, [row for row in rows if row["part"] == part.name])
          if len(part.steps) == 1 else
          steps_tables(part.title, [row for row in rows if row["part"] == part.name])
          for part in PARTS),
    ]))  # fmt: skip


def measure(
    rows: list[dict[str, Any]], asked: list[Task], workers: int, path: Path
) -> list[dict[str, Any]]:
    """The rows and all of those asked for that are missing; each is saved when it is finished."""
    done = {key(row) for row in rows}
    left = [task for task in asked if task not in done]
    failed = []
    with multiprocessing.get_context("spawn").Pool(workers, initializer=_one_thread) as pool:
        for k, row in enumerate(pool.imap_unordered(attempt, left), 1):
            if "failed" in row:
                failed.append(row["failed"])
                print(failed[-1], flush=True)
                continue
            rows.append(row)
            save_json(path, rows)
            print(f"{k}/{len(left)} {' '.join(map(str, key(row)))}: {row['grade']} "
                  f"{row['seconds'] or 0:.1f} s", flush=True)  # fmt: skip
    if failed:
        raise RuntimeError(f"{len(failed)} rows failed; the last: {failed[-1]}")
    return rows


def attempt(task: Task) -> dict[str, Any]:
    """The row; or what went wrong, so that the other rows go on."""
    try:
        return run(task)
    except Exception:
        return {"failed": f"{task}\n{traceback.format_exc()}"}


def key(row: dict[str, Any]) -> Task:
    return row["part"], row["problem"], row["library"], row["sampler"], row["steps"]


def tasks(parts: list[str]) -> Iterator[Task]:
    """All rows of the scorecard, in its order."""
    for part in PARTS:
        if parts and part.name not in parts:
            continue
        for problem in part.problems:
            for steps in part.steps:
                for each in contenders(part, steps):
                    if each.steps or steps == part.steps[0]:
                        yield part.name, problem, each.library, each.name, each.steps


def _low(case: Case, steps: int) -> Tensor:
    """Levels that end at a fifth of the noise: PnPDM is exact as its last one falls."""
    return karras(steps, 0.02, float(case.ladder(steps)[0]))


SPECIAL = (
    Entry("AFDPS, 200", AFDPS(), particles=200),
    Entry("MCGDiff, 64", MCGDiff(), particles=64),
    Entry("PnPDM, to 0.02", PnPDM(), ladder=_low),
    Entry("TDS, one of 8", TDS(), particles=8, one_each=True),
    Entry("TDS, one of 64", TDS(), particles=64, one_each=True),
    Entry("MCGDiff, one of 256", MCGDiff(), particles=256, one_each=True),
    Entry("AFDPS, one of 256", AFDPS(), particles=256, one_each=True),
    Entry("ConjugateTDS, 32", ConjugateTDS(), particles=32, filters=4),
    Entry("SplitSMC, 480", SplitSMC(), particles=480, filters=2, ladder=informed),
    Entry("SplitSMC, 64", SplitSMC(), particles=64, filters=2, ladder=informed),
)


def contenders(part: Part, steps: int) -> list[Contender]:
    known = [*entries().values(), *SPECIAL] if part.only else entries().values()
    own = [
        dataclasses.replace(each, steps=steps) if isinstance(each, Entry) else each
        for each in known
        if not part.only or each.name in part.only
    ]
    if part.peers == "none":
        return own
    from scorecard_peers import peers

    others = [each for each in peers(steps) if each.alone == (part.peers == "alone")]
    return others if part.peers == "alone" else [*own, *others]


def run(task: Task) -> dict[str, Any]:
    name, problem, library, sampler, steps = task
    part = next(each for each in PARTS if each.name == name)
    items, samples = part.size
    cases = cases_of(problem, min(items, benchmarks()[problem].items))
    at = steps or part.steps[0]
    entry = next(
        each for each in contenders(part, at) if (each.library, each.name) == (library, sampler)
    )
    return certify(cases, entry, samples, name=problem) | {"part": name}


@lru_cache(maxsize=1)
def cases_of(problem: str, items: int) -> tuple[Case, ...]:
    return tuple(benchmarks()[problem].build(items))


def _one_thread() -> None:
    import warnings

    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of the other libraries


if __name__ == "__main__":
    main()
