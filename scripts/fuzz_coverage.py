"""Reads inputs that are bred for new paths through each reader's code, with atheris.

    python scripts/fuzz_coverage.py --reader nifti --runs 10000

Needs ``pip install invdiff[fuzz]``. Valid inputs are mutated, and those that reach code that was
not reached before are mutated further. Only Python code is instrumented: the package's readers and
the Python parsers that they use, not libhdf5, the decoders of pictures and pixels, or numpy's C.
A reader with a process of its own is fuzzed in two parts, without that process: what the process
does with a file (``hdf5-worker``, ``dicom``), and what is made of its answers (``...-answers``).

An exception other than a clear refusal, a message with the file's name, more than 2 GiB, and more
than 20 seconds (6 for ``hdf5-worker``) are findings: the input is kept, and the exit status is 1.
An input that crashes or hangs a library must be refused by the reader that users call, whose
process protects them.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from types import FunctionType
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

MEMORY = 2048  # MiB, torch's libraries included
ROOM = 2**30  # bytes more that it may ask for


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--reader", action="append", help="by default all")
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--seconds", type=int, default=0, help="at most, for each; 0: no limit")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"))
    parser.add_argument("--inside", nargs=2, type=Path, help=argparse.SUPPRESS)
    options, rest = parser.parse_known_args()
    if options.inside:
        _fuzz_here(options.reader[0], *options.inside, rest)
    from fuzz_targets import TARGETS

    found = False
    for name in options.reader or TARGETS:
        report = fuzz(name, options)
        print(json.dumps(report), flush=True)
        found |= bool(report["findings"])
    return int(found)


def fuzz(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Runs the fuzzer, again after every input that only a library did not survive."""
    report: dict[str, Any] = {"reader": name, "runs": 0, "protected": 0, "findings": []}
    with tempfile.TemporaryDirectory() as place:
        corpus, work, bad = (Path(place) / part for part in ("corpus", "work", "bad"))
        for folder in (corpus, work, bad):
            folder.mkdir()
        while report["runs"] < options.runs:
            told = _run(name, options, report["runs"], (corpus, work, bad))
            report["runs"] += told.pop("runs")
            raised = told.pop("raised")
            report.setdefault("edges_of_seeds", told.pop("edges_of_seeds"))
            for key, value in told.items():
                report[key] = max(value, report.get(key, 0))
            kept = sorted(path for path in bad.iterdir() if not path.name.startswith("slow-unit"))
            for path in kept:
                if not raised and _refused_by_users_reader(name, path, work):
                    report["protected"] += 1
                else:
                    options.keep.mkdir(parents=True, exist_ok=True)
                    path.rename(options.keep / f"{name}-{path.name}")
                    report["findings"].append(path.name)
                path.unlink(missing_ok=True)
            if report["findings"] or not kept:
                break
    return report


def _run(
    name: str, options: argparse.Namespace, done_before: int, places: tuple[Path, Path, Path]
) -> dict[str, int]:
    from fuzz_targets import TARGETS

    corpus, work, bad = places
    runs, seed = options.runs - done_before, options.seed + done_before
    command = [
        *(sys.executable, "-P", __file__, "--reader", name, "--inside", str(corpus), str(work)),
        *(f"-runs={runs}", f"-max_total_time={options.seconds}", f"-seed={seed}"),
        *(f"-timeout={TARGETS[name].seconds}", f"-rss_limit_mb={MEMORY}"),
        f"-artifact_prefix={bad}/",
        *("-print_final_stats=1", "-len_control=0", "-reduce_inputs=0"),
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    said = done.stdout.decode(errors="replace")
    units = re.findall(r"stat::number_of_executed_units:\s+(\d+)|^#(\d+)\t", said, re.MULTILINE)
    covered = re.findall(r"cov: (\d+) ft: (\d+)", said)
    if not units or not covered:
        sys.exit(f"{name} could not be fuzzed:\n{said[-3000:]}")
    if done.returncode:
        sys.stderr.write(said[-6000:])
    rss = [int(size) for size in re.findall(r"rss: (\d+)Mb", said)]
    slowest = re.findall(r"stat::slowest_unit_time_sec:\s+(\d+)", said)
    return {
        "runs": max(int(number) for pair in units for number in pair if number),
        "edges": int(covered[-1][0]),
        "edges_of_seeds": max(map(int, re.findall(r"INITED cov: (\d+)", said)), default=0),
        "raised": "Uncaught Python exception" in said,
        "slowest_seconds": max(map(int, slowest), default=0),
        "peak_mib": max(rss),
    }


def _refused_by_users_reader(name: str, path: Path, work: Path) -> bool:
    """Whether users are protected from the library that did not survive this input."""
    from fuzz_targets import TARGETS

    if TARGETS[name].protected is None:
        return False
    code = (
        "import sys; from pathlib import Path; from fuzz_targets import TARGETS\n"
        f"try: TARGETS[{name!r}].protected(Path({str(work)!r}))(Path({str(path)!r}))\n"
        "except ValueError: sys.exit(7)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent)])}
    return subprocess.run([sys.executable, "-c", code], env=environment).returncode == 7


def _fuzz_here(name: str, corpus: Path, work: Path, rest: list[str]) -> None:
    """Does not return: libFuzzer ends the process."""
    try:
        import atheris
    except ImportError:
        sys.exit("Fuzzing needs atheris. Install it with: pip install invdiff[fuzz]")
    import torch  # before anything is instrumented, and so as it is

    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")
    from fuzz_targets import TARGETS

    target = TARGETS[name]
    for known in [module for key, module in sys.modules.items() if _within(key, target.modules)]:
        _instrument(known)
    with atheris.instrument_imports(include=list(target.modules)):
        read = target.load(work)
        with tempfile.TemporaryDirectory() as seeds:
            for number, seed in enumerate(target.seeds(Path(seeds))):
                (corpus / f"seed-{number}").write_bytes(seed)
                read(seed)  # it is valid; now all is imported
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, used + ROOM))
    atheris.Setup([sys.argv[0], *rest, str(corpus)], atheris.instrument_func(read))
    atheris.Fuzz()


def _within(name: str, packages: tuple[str, ...]) -> bool:
    return any(f"{name}.".startswith(f"{package}.") for package in packages)


def _instrument(module: Any) -> None:
    """The functions and methods of a module that was imported before."""
    import atheris

    own = [value for value in vars(module).values() if isinstance(value, type | FunctionType)]
    for value in own:
        if value.__module__ == module.__name__:
            members = vars(value).values() if isinstance(value, type) else [value]
            for function in members:
                if isinstance(function, FunctionType):
                    atheris.instrument_func(function)


if __name__ == "__main__":
    sys.exit(main())
