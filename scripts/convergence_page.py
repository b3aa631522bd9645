"""The page of docs/convergence.md and its figure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from particle_filters import Slope

from invdiff.files import written_whole

__all__ = ["BEGIN", "END", "Steps", "draw", "particle_table", "step_table", "write_page"]

BEGIN, END = "<!-- convergence: begin -->", "<!-- convergence: end -->"


class Steps(NamedTuple):
    """Errors of exact laws: of the mean, the variance and log p(y) at every number of steps."""

    declared: str
    counts: tuple[float, ...]
    errors: tuple[tuple[float, ...], ...]

    @property
    def totals(self) -> list[float]:
        return [math.sqrt(sum(e**2 for e in each if not math.isnan(e))) for each in self.errors]

    @property
    def rate(self) -> tuple[float, float]:
        """The exponent over the last doubling, and how far it is from that of the one before."""
        a, b, c = self.totals[-3:]
        last, before = math.log2(b / c), math.log2(a / b)
        sign = 1 if self.counts[-1] < self.counts[-2] else -1
        return sign * last, abs(last - before)


def particle_table(runs: Mapping[tuple[str, str], tuple[Slope, Slope]]) -> str:
    """Of the mean and of log p(y), by (problem, sampler)."""
    sizes = next(iter(runs.values()))[0].sizes
    heads = ["problem", "sampler", "declared"]
    heads += [f"mean, {sizes[0]}", f"mean, {sizes[-1]}", "slope"]
    heads += [f"log p(y), {sizes[0]}", f"log p(y), {sizes[-1]}", "slope"]
    body = []
    for (problem, name), pair in runs.items():
        declared = "none" if name.startswith("FPSSMC") else "-1/2"
        cells = [problem, name, declared]
        for one in pair:
            if math.isnan(one.value):
                cells += ["–", "–", "–"]
                continue
            cells += [f"{one.errors[0]:.3f}", f"{one.errors[-1]:.3f}"]
            cells.append(f"{one.value:.2f} ± {one.error:.2f}")
        body.append(cells)
    return _table(heads, body, 2)


def step_table(runs: Mapping[tuple[str, str], Steps]) -> str:
    """Errors at the coarsest and the finest, by (problem, sampler)."""
    heads = ["problem", "sampler", "declared", "from, to", "mean", "variance", "log p(y)", "slope"]
    body = []
    for (problem, name), one in runs.items():
        cells = [problem, name, one.declared, f"{one.counts[0]:g}, {one.counts[-1]:g}"]
        pairs = zip(one.errors[0], one.errors[-1], strict=True)
        cells += ["–" if math.isnan(a) else f"{_short(a)}, {_short(b)}" for a, b in pairs]
        exact = max(one.totals) < 1e-10
        value, error = (math.nan, math.nan) if exact else one.rate
        cells.append("exact" if exact else f"{value:.2f} ± {error:.2f}")
        body.append(cells)
    return _table(heads, body, 2)


def _short(value: float) -> str:
    return f"{value:.1e}" if abs(value) < 1e-3 else f"{value:.4f}"


def _table(heads: Sequence[str], body: Sequence[Sequence[str]], texts: int) -> str:
    rule = ["---"] * texts + ["---:"] * (len(heads) - texts)
    return "\n".join("| " + " | ".join(line) + " |" for line in [heads, rule, *body])


def draw(
    path: Path,
    particles: Mapping[tuple[str, str], tuple[Slope, Slope]],
    steps: Mapping[tuple[str, str], Steps],
) -> None:
    """Errors against particles above, against levels below."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 9.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 3)
    names = list(dict.fromkeys(name for _, name in (*particles, *steps)))
    styles: dict[str, dict[str, Any]] = {
        # Where two lines are one, the smaller mark shows on the larger.
        name: {"color": f"C{k % 10}", "marker": "osDv^<>phXPd"[k % 12], "markersize": 9 - 0.5 * k}
        for k, name in enumerate(names)
    }
    panels = (("one number", 1, "log p(y), nats"), ("three modes", 0, "the mean, posterior sd"),
              ("anisotropic", 0, "the mean, posterior sd"))  # fmt: skip
    for axis, (problem, place, what) in zip(axes[0], panels, strict=True):
        found = {n: pair[place] for (p, n), pair in particles.items() if p == problem}
        for name, one in found.items():
            if not math.isnan(one.value):
                axis.plot(one.sizes, one.errors, label=name, linewidth=1, **styles[name])
        _guide(axis, next(iter(found.values())).sizes, -0.5, "-1/2")
        _finish(axis, f"{problem}: error of {what}", "particles", next(iter(found.values())).sizes)
    for axis, problem in zip(axes[1], ("one number", "anisotropic"), strict=False):
        found_steps = {n: one for (p, n), one in steps.items() if p == problem}
        for name, each in found_steps.items():
            if max(each.totals) > 1e-10 and each.counts[-1] == 160:
                axis.plot(each.counts, each.totals, label=name, linewidth=1, **styles[name])
        counts = next(iter(found_steps.values())).counts
        _guide(axis, counts, -1.0, "-1", "0.7")
        _guide(axis, counts, -2.0, "-2")
        _finish(axis, f"{problem}: mean, variance and log p(y)", "levels", counts)
    axis = axes[1][2]
    for (_, name), each in steps.items():
        if each.counts[-1] < each.counts[0]:
            axis.plot(each.counts, each.totals, linewidth=1, label=name, **styles[name])
            _guide(axis, each.counts, 2.0, "2")
            _finish(axis, "anisotropic: mean and variance", "last level", each.counts)
    known: dict[str, Any] = {}
    for each in axes.ravel():
        handles, labels = each.get_legend_handles_labels()
        known |= dict(zip(labels, handles, strict=True))
    figure.legend(list(known.values()), list(known), loc="outside lower center", ncols=6)
    with written_whole(path) as temporary:
        figure.savefig(temporary, dpi=90, metadata={"Software": None})


def _guide(axis: Any, places: Sequence[float], rate: float, label: str, color: str = "0") -> None:
    """A straight line of a known rate below what was drawn."""
    low = min(min(line.get_ydata()) for line in axis.get_lines() if line.get_linestyle() == "-")
    end = places[-1]
    values = [0.7 * low * (place / end) ** rate for place in places]
    axis.plot(places, values, linestyle="--", color=color, linewidth=1, label=f"slope {label}")


def _finish(axis: Any, title: str, below: str, places: Sequence[float]) -> None:
    from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

    axis.set(xscale="log", yscale="log", xlabel=below)
    axis.set_title(title, fontsize=10)
    axis.xaxis.set_major_locator(FixedLocator(places))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(ScalarFormatter())
    axis.grid(alpha=0.25)


def write_page(path: Path, text: str) -> None:
    """Puts the text between the page's markers. Raises ValueError if they are missing."""
    before, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{path} lacks the markers {BEGIN} and {END}: add them.")
    with written_whole(path) as temporary:
        temporary.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")
