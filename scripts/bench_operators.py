"""Times our CT and MRI operators beside those of other libraries, in one run.

    python scripts/bench_operators.py [--quick] [--json FILE] [--device cuda]

Every contender runs in a process of its own. A time is the best of several, a row's memory what
its process took at most beyond what it started with (matrices, workspaces and results). The
adjoint error is |<A x, y> - <x, A* y>| / (|A x| |y|) for zero-mean noise, which a positive image
would hide. --page writes the tables into a document, between its markers, and draws the picture.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))

from bench_libraries import Contender, ct_contenders, mri_contenders
from scorecard_tables import write_between

from invdiff.files import save_json

COILS, MRI_SIZE = 15, 320
SECONDS, REPEATS = 1.5, 3  # a time is the best of at least this many, over at least this long
Row = dict[str, Any]


class Setting(NamedTuple):
    """One comparison: all its contenders see the same numbers."""

    operator: str
    image: int
    views: int | None
    batch: int

    def contenders(self, device: torch.device) -> list[Contender]:
        if self.views is None:
            return mri_contenders(self.image, COILS, device)
        return ct_contenders(self.image, self.views, device)


def settings(quick: bool) -> Iterator[Setting]:
    for size, views in ((256, 60),) if quick else ((256, 60), (512, 180)):
        for batch in (1, 8) if quick else (1, 8, 32):
            yield Setting("parallel-beam CT", size, views, batch)
    for batch in (1,) if quick else (1, 8):
        yield Setting("multi-coil MRI", MRI_SIZE, None, batch)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the small ones, within a minute")
    parser.add_argument("--json", type=Path, help="where to write the rows")
    parser.add_argument("--page", type=Path, help="a document with markers for the tables")
    parser.add_argument("--picture", type=Path, help="where to draw them")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--rows", type=Path, help="draw these rows instead of measuring")
    given = parser.parse_args()
    if given.rows:
        rows = json.loads(given.rows.read_text("utf-8"))
    else:
        rows = measure_all(list(settings(given.quick)), torch.device(given.device))
    if given.json:
        save_json(given.json, rows)
    text = tables(rows)
    print(text)
    if given.page:
        write_between(given.page, text)
    if given.picture:
        draw(rows, given.picture)


def measure_all(chosen: list[Setting], device: torch.device) -> list[Row]:
    """The rows of all settings, those of a setting adjacent and ours first."""
    rows = []
    # Forked from a server that has imported everything and computed nothing.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bench_libraries", "deepinv.physics"])
    for setting in chosen:
        for place in range(len(setting.contenders(torch.device(device.type)))):
            queue = context.SimpleQueue()
            process = context.Process(target=_row, args=(setting, place, str(device), queue))
            process.start()
            process.join()
            if process.exitcode != 0:
                raise RuntimeError(f"{setting} failed with exit code {process.exitcode}.")
            rows.append(queue.get())
            print(_line(rows[-1]), file=sys.stderr, flush=True)
    return rows


def _row(setting: Setting, place: int, name: str, queue: Any) -> None:
    device = torch.device(name)
    contender = setting.contenders(device)[place]
    before = _memory(device, start=True)
    products = contender.make()
    x, y = _noise(setting, products.forward, device)
    forward_s, ax = _time(lambda: products.forward(x), device)
    adjoint_s, aty = _time(lambda: products.adjoint(y), device)
    row: Row = setting._asdict() | {
        "library": contender.library,
        "backend": contender.backend,
        "device": _device_name(device),
        "threads": torch.get_num_threads(),
        "forward_s": forward_s,
        "adjoint_s": adjoint_s,
        "cg_s": None,
    }
    if products.solve:
        solve = products.solve
        row["cg_s"], _ = _time(lambda: solve(aty), device)
    row["memory_mb"] = round((_memory(device) - before) / 1e6, 1)
    # Only now: inner products in double precision take memory, too.
    error = (_inner(ax, y) - _inner(x, aty)).abs() / (_norm(ax) * _norm(y))
    row["adjoint_error"] = float(error)
    queue.put(row)


def _noise(
    setting: Setting, forward: Callable[[Tensor], Tensor], device: torch.device
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    dtype = torch.complex64 if setting.views is None else torch.float32
    shape = setting.batch, 1, setting.image, setting.image
    x = torch.randn(shape, dtype=dtype, generator=generator).to(device)
    measured = forward(x[:1]).shape[1:]  # also makes what is made once
    return x, torch.randn(setting.batch, *measured, dtype=dtype, generator=generator).to(device)


def _time(call: Callable[[], Tensor], device: torch.device) -> tuple[float, Tensor]:
    """The shortest time of a call, and its result."""
    times: list[float] = []
    while len(times) < REPEATS or sum(times) < SECONDS:
        started = time.perf_counter()
        result = call()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
        if sum(times) > 10 * SECONDS:
            break
    return float(f"{min(times):.4g}"), result


def _memory(device: torch.device, *, start: bool = False) -> int:
    """Bytes in use at most since the start; at the start, those in use."""
    if device.type == "cuda":
        if start:
            torch.cuda.reset_peak_memory_stats()
        return torch.cuda.max_memory_allocated()
    if start:
        Path("/proc/self/clear_refs").write_text("5")  # forgets the peak
    wanted = "VmRSS:" if start else "VmHWM:"
    for line in Path("/proc/self/status").read_text("ascii").splitlines():
        if line.startswith(wanted):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status does not say what memory is in use; this needs Linux.")


def _inner(a: Tensor, b: Tensor) -> Tensor:
    wide = torch.complex128 if a.is_complex() else torch.float64
    return (a.to(wide).conj() * b.to(wide)).sum().real


def _norm(a: Tensor) -> Tensor:
    return _inner(a, a).sqrt()


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name() if device.type == "cuda" else f"{os.cpu_count()} cores"


def _line(row: Row) -> str:
    solved = "" if row["cg_s"] is None else f", 10 CG {row['cg_s']:.4f} s"
    return (
        f"{row['operator']} {row['image']}^2 batch {row['batch']}: {row['library']} "
        f"({row['backend']}) {row['forward_s']:.4f} s, adjoint {row['adjoint_s']:.4f} s{solved}, "
        f"{row['memory_mb']:.0f} MB"
    )


def _setting(row: Row) -> tuple[str, int, int | None, int]:
    return row["operator"], row["image"], row["views"], row["batch"]


def tables(rows: list[Row]) -> str:
    """A table per setting; times of the others as multiples of our first row's."""
    parts = [f"{rows[0]['device']}, {rows[0]['threads']} threads."]
    for (operator, image, views, batch), group in groupby(rows, _setting):
        ours, *others = list(group)
        seen = "15 coils" if views is None else f"{views} views"
        head = f"### {operator}, {image} x {image}, {seen}, batch {batch}\n\n"
        solved = ours["cg_s"] is not None
        lines = [
            "| library | forward | adjoint |" + (" 10 CG |" if solved else "")
            + " adjoint error | memory |",
            "|---|---|---|" + ("---|" if solved else "") + "---|---|",
        ]  # fmt: skip
        for row in (ours, *others):
            cells = [f"{row['library']}, {row['backend']}"]
            for key in ("forward_s", "adjoint_s", *(["cg_s"] if solved else [])):
                ratio = "" if row is ours else f" ({row[key] / ours[key]:.1f} x)"
                cells.append(f"{1000 * row[key]:.4g} ms{ratio}")
            cells += [f"{row['adjoint_error']:.0e}", f"{row['memory_mb']:.0f} MB"]
            lines.append("| " + " | ".join(cells) + " |")
        parts.append(head + "\n".join(lines))
    return "\n\n".join(parts)


def draw(rows: list[Row], path: Path) -> None:
    """How many times longer the others take than our first row, a panel per setting."""
    import matplotlib.pyplot as plt

    groups = [list(group) for _, group in groupby(rows, _setting)]
    figure, axes = plt.subplots(2, -(-len(groups) // 2), figsize=(14, 6.5), squeeze=False)
    for axis in axes.flat[len(groups) :]:
        axis.set_visible(False)
    for axis, group in zip(axes.flat, groups, strict=False):
        ours = group[0]
        names = [f"{row['library']}\n{row['backend']}".replace(", ", "\n") for row in group]
        for shift, key, colour in ((-0.2, "forward_s", "#3b6ea5"), (0.2, "adjoint_s", "#c8693b")):
            heights = [row[key] / ours[key] for row in group]
            places = [k + shift for k in range(len(group))]
            axis.bar(places, heights, 0.38, color=colour, label=key.removesuffix("_s"))
        axis.axhline(1, color="black", linewidth=0.8)
        axis.set_yscale("log")
        axis.set_xticks(range(len(group)), names, fontsize=6.5)
        seen = f"{COILS} coils" if ours["views"] is None else f"{ours['views']} views"
        title = f"{ours['operator']}, {ours['image']}$^2$, {seen}, batch {ours['batch']}"
        axis.set_title(title, fontsize=9)
    axes[0, 0].legend(fontsize=8)
    axes[0, 0].set_ylabel("time over that of invdiff")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
