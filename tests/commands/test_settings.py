"""Settings: defaults, files, words and options, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from invdiff.commands.sampler_names import sampler_names
from invdiff.commands.settings import Settings, read_settings
from invdiff.samplers import DDS, DPS


def test_later_ones_win(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("steps: 7\nsamples: 3\nsampler: {name: DDS, cg_iterations: 4}\n")
    found = read_settings(
        file, ["steps=9", "sampler.data_weight=2.0"], {"samples": 5, "rows": None}
    )
    assert (found.steps, found.samples, found.rows) == (9, 5, None)
    assert found.make_sampler() == DDS(cg_iterations=4, data_weight=2.0)
    # Another sampler does not take over the parameters of the one before.
    assert read_settings(file, ["sampler=dps"], {}).make_sampler() == DPS()


def test_resolved_settings_give_themselves(tmp_path: Path) -> None:
    found = read_settings(None, ["sampler.name=MMPS", "items=0-2", "prior_window=[-500, 500]"], {})
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(found.to_dict()))
    assert read_settings(file, [], {}) == found


@pytest.mark.parametrize("name", sampler_names())
def test_every_sampler_can_be_named(name: str) -> None:
    made = read_settings(None, [f"sampler={name.lower()}"], {}).make_sampler()
    assert type(made).__name__ == name


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("sampels=3", "'samples'"),
        ("sampler=DDDS", "'DDS'"),
        ("sampler.cg_iteration=3", "'sampler.cg_iterations'"),
        ("samples=0", "at least 1"),
        ("steps=1", "at least 2"),
        ("steps=many", "whole number"),
        ("rows=0", "at least 1"),
        ("prior_window=[3, 1]", "increasing"),
        ("samples=[", "YAML"),
        ("sampler.cg_iterations=[1]", "plain value"),
    ],
)
def test_what_is_not_known_or_not_possible(word: str, said: str) -> None:
    with pytest.raises(ValueError, match=said.replace("[", r"\[")):
        read_settings(None, [word], {})


@pytest.mark.parametrize(
    ("text", "chosen"), [("all", [0, 1, 2, 3]), ("2", [2]), ("3,0-1", [0, 1, 3])]
)
def test_items(text: str, chosen: list[int]) -> None:
    assert Settings(items=text).chosen(4) == chosen


@pytest.mark.parametrize("text", ["4", "x", "1-", "-1", "", "0,9"])
def test_items_that_are_not_there(text: str) -> None:
    with pytest.raises(ValueError, match="item"):
        Settings(items=text).chosen(4)


@pytest.mark.parametrize("content", ["- 1\n", "a: [", "\xff\xfe", "3"])
def test_files_that_are_no_settings(content: str, tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_bytes(content.encode("latin-1"))
    with pytest.raises(ValueError, match="settings file"):
        read_settings(file, [], {})


def test_code_in_a_settings_file_is_not_run(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(f"samples: !!python/object/apply:os.mkdir ['{tmp_path / 'made'}']\n")
    with pytest.raises(ValueError, match="YAML"):
        read_settings(file, [], {})
    assert not (tmp_path / "made").exists()
