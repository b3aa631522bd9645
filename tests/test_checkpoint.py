"""A killed run goes on where it was, and ends as if nothing had happened."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import small_prior, small_problem

from invdiff import DDS, TDS, Gaussian, karras, sample

# A run that can be killed: its prior waits at call 12, which is in the second of two chunks.
SCRIPT = """
import sys, time
from pathlib import Path
import torch
from helpers import small_prior, small_problem
from invdiff import TDS, karras, sample

folder, waiting, out, wait = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]

class Slow:
    def __init__(self, prior):
        self.prior, self.calls = prior, 0
    def __call__(self, x, sigma):
        self.calls += 1
        if wait == "wait" and self.calls == 12:
            waiting.touch()
            time.sleep(600)
        return self.prior(x, sigma)
    def __getattr__(self, name):
        return getattr(self.prior, name)
    def __repr__(self):
        return repr(self.prior)

torch.set_num_threads(1)
prior = Slow(small_prior())
posterior = sample(small_problem(), prior, TDS(), karras(8, 0.01, 5.0), samples=4, seed=5, chunk=2,
                   checkpoint=folder, checkpoint_every=1, progress=False)
out.write_text(str(prior.calls))
posterior.save(out.with_suffix(".npz"))
"""


def start(tmp_path: Path, name: str, wait: str) -> subprocess.Popen:
    roots = [str(Path(__file__).parent), *sys.path]  # where this process finds its modules
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(roots), "OMP_NUM_THREADS": "1"}
    arguments = [tmp_path / f"run-{name}", tmp_path / "waiting", tmp_path / f"{name}.txt", wait]
    command = [sys.executable, "-c", SCRIPT, *map(str, arguments)]
    return subprocess.Popen(command, env=environment)


def test_killed_run_ends_as_if_never_killed(tmp_path):
    from invdiff import Posterior

    straight = start(tmp_path, "straight", "go")
    victim = start(tmp_path, "killed", "wait")
    deadline = time.monotonic() + 300
    while not (tmp_path / "waiting").exists():
        assert victim.poll() is None, "the run ended before it was killed"
        assert time.monotonic() < deadline, "the run never got to call 12"
        time.sleep(0.05)
    os.kill(victim.pid, signal.SIGKILL)
    assert victim.wait(60) == -signal.SIGKILL
    assert len(list((tmp_path / "run-killed").glob("items-*.npz"))) == 2
    assert start(tmp_path, "killed", "go").wait(300) == 0
    assert straight.wait(300) == 0
    one, other = (Posterior.load(tmp_path / name) for name in ("straight", "killed"))
    for field in ("x", "log_w", "chi2", "ok", "suspect"):
        left, right = getattr(one, field), getattr(other, field)
        assert left.numpy().tobytes() == right.numpy().tobytes(), field
    assert all(torch.equal(one.trace[name], other.trace[name]) for name in one.trace)
    assert one.counts == other.counts
    calls = [int((tmp_path / f"{name}.txt").read_text()) for name in ("straight", "killed")]
    assert calls[1] < calls[0]  # it went on rather than begin again


LADDER = karras(6, 0.01, 5.0)


def run(folder, problem=None, sampler=None, ladder=LADDER, **options):
    options = {"samples": 2, "progress": False, "checkpoint": folder} | options
    return sample(problem or small_problem(), small_prior(), sampler or DDS(), ladder, **options)


def test_finished_run_is_read_back(tmp_path):
    first, again = run(tmp_path), run(tmp_path)
    assert torch.equal(first.x, again.x)
    assert first.counts == again.counts
    assert torch.equal(first.trace["chi2"], again.trace["chi2"])


def louder(problem):
    return replace(problem, noise=Gaussian(0.31))


def moved(problem):
    return replace(problem, y=problem.y + 1e-12)


def turned(problem):
    return replace(problem, operator=type(problem.operator)(problem.operator.matrix * 1.0000001))


FOREIGN = {
    "seed": {"seed": 1},
    "samples": {"samples": 3},
    "ids": {"ids": ["a", "b", "c"]},
    "ladder": {"ladder": karras(6, 0.011, 5.0)},
    "sampler": {"sampler": DDS(data_weight=2.0)},
    "another sampler": {"sampler": TDS()},
    "noise": {"problem": louder(small_problem())},
    "measurement": {"problem": moved(small_problem())},
    "operator": {"problem": turned(small_problem())},
    "precision": {"problem": small_problem(dtype=torch.float32)},
    "chunk": {"chunk": 2},
}


@pytest.mark.parametrize("change", FOREIGN)
def test_foreign_checkpoint_is_refused(tmp_path, change):
    run(tmp_path)
    with pytest.raises(ValueError, match=r"belongs to another run.*Use another folder"):
        run(tmp_path, **FOREIGN[change])


def test_what_does_not_matter_may_change(tmp_path):
    first = run(tmp_path)
    assert torch.equal(run(tmp_path, rows=2, checkpoint_every=3, throw=False).x, first.x)


@pytest.mark.parametrize("kept", [0, 50, -20])
def test_truncated_checkpoint_is_refused(tmp_path, kept):
    run(tmp_path)
    (path,) = tmp_path.glob("*.npz")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match="is not a readable checkpoint"):
        run(tmp_path)


def test_no_folder_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(None)
    assert not list(tmp_path.iterdir())
