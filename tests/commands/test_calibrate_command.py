"""`calibrate` on a finished run, and `recon --calibration` with what it wrote."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from runs import QUICK, discs, invdiff

from invdiff.datasets.measurement_file import write_measurement


def test_from_runs_to_intervals(tmp_path: Path) -> None:
    whole = discs(4)
    for k in range(4):
        rows = slice(k, k + 1)
        one = replace(
            whole, items=whole.items[rows], data=whole.data[rows], truth=whole.truth[rows]
        )
        write_measurement(tmp_path / f"in/{k}.h5", one)
    arguments = ["recon", tmp_path / "in", "--out", tmp_path / "out", *QUICK]
    assert invdiff(*arguments).returncode in (0, 4)
    promise = ["--confidence", "0.7", "--pixels", "0.8", "--out", tmp_path / "c.json"]
    done = invdiff("calibrate", tmp_path / "out", *promise)
    assert done.returncode == 0 and "with probability at least 0.7" in done.stdout, done.stderr
    factor = json.loads((tmp_path / "c.json").read_text())
    assert factor["patients"] == 3 and factor["factor"] > 0
    done = invdiff(*arguments, "--calibration", tmp_path / "c.json")
    assert done.returncode in (0, 4) and done.stderr.count("was done before") == 4, done.stderr
    found = json.loads((tmp_path / "out/result.json").read_text())
    assert found["calibrated"] and found["calibration"]["factor"] == factor["factor"]
    assert found["report"]["calibration"]["patients"] == 3
    with np.load(tmp_path / "out/intervals.npz") as arrays:
        wide = arrays["item-0001.high"] - arrays["item-0001.low"]
    cell = found["items"][0]["cell"]
    with np.load(tmp_path / f"out/cells/{cell}.images.npz") as arrays:
        assert np.allclose(wide, 2 * factor["factor"] * arrays["std"], atol=1e-3)  # of 1000 HU
    too_much = invdiff("calibrate", tmp_path / "out", "--out", tmp_path / "d.json")
    assert too_much.returncode == 1 and "at least 9" in too_much.stderr
    other = [*arguments[:2], "--out", tmp_path / "other", *QUICK, "--samples", "3"]
    refused = invdiff(*other, "--calibration", tmp_path / "c.json")
    assert refused.returncode == 1 and "samples differ" in refused.stderr
