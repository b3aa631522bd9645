"""Several processes for one run: the same bytes, and no process outlives the one that began it."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest
from runs import invdiff, numbers, start, write_discs

from invdiff.commands.reconstruction import Reconstruction
from invdiff.commands.settings import Settings, read_settings
from invdiff.commands.workers import parse_devices

TWO = ("cpu", "cpu")


def settings(steps: int) -> Settings:
    return read_settings(None, ["samples=2", f"steps={steps}", "split=false"], {})


def run(source: Path, folder: Path, steps: int, devices: tuple[str, ...]) -> dict[str, bytes]:
    """What a run in this process writes."""
    whole = Reconstruction.prepare(source, settings(steps), folder, None, devices)
    names, figures = whole.run(quiet=True)
    assert figures["done"] == 3 and "report.html" in names
    assert not list(folder.rglob("*.lock")) and not list(folder.rglob("*.part*"))
    return numbers(folder)


def children(process: int) -> list[int]:
    """The processes that a process has started."""
    try:
        text = Path(f"/proc/{process}/task/{process}/children").read_text()
    except FileNotFoundError:
        return []
    found = [int(word) for word in text.split()]
    return [one for one in found if b"spawn_main" in Path(f"/proc/{one}/cmdline").read_bytes()]


def wait_for(condition: object) -> None:
    deadline = time.monotonic() + 120
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_two_workers_give_the_bytes_of_one_even_if_one_is_killed(tmp_path: Path) -> None:
    source = write_discs(tmp_path / "a.h5", 3)
    killed = []

    def kill_one() -> None:
        wait_for(lambda: list((tmp_path / "two/cells").glob("*.checkpoint/*.npz")))
        killed.append(children(os.getpid())[0])
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill_one)
    killer.start()
    two = run(source, tmp_path / "two", 20, TWO)
    killer.join()
    assert killed and two == run(source, tmp_path / "one", 20, ())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_their_parent(number: signal.Signals, tmp_path: Path) -> None:
    source = write_discs(tmp_path / "a.h5", 2)
    options = ["--samples", "2", "--steps", "2000", "split=false", "--devices", "cpu,cpu"]
    running = start("recon", source, "--out", tmp_path / "out", *options)
    wait_for(lambda: list((tmp_path / "out/cells").glob("*.checkpoint/*.npz")))
    workers = children(running.pid)
    assert len(workers) == 2
    running.send_signal(number)
    _, error = running.communicate(timeout=120)
    assert running.returncode == (75 if number == signal.SIGTERM else -signal.SIGKILL), error
    wait_for(lambda: not any(Path(f"/proc/{one}").exists() for one in workers))


def test_one_device_or_several(tmp_path: Path) -> None:
    source = write_discs(tmp_path / "a.h5", 1)
    done = invdiff("recon", source, "--device", "cpu", "--devices", "cpu,cpu")
    assert done.returncode == 2 and "--devices" in done.stderr
    done = invdiff("recon", "ct", source, "--devices", "cpu,cpu")
    assert done.returncode == 1 and "leave out the modality" in done.stderr


@pytest.mark.parametrize("text", ["", "cpu,cuda:0", "tpu9", "cpu,"])
def test_what_are_no_devices(text: str) -> None:
    with pytest.raises(ValueError, match="one kind"):
        parse_devices(text)
