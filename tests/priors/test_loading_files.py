"""Hostile, damaged and mistaken files: a clear PriorError, never code from the file.

INVDIFF_FUZZ=20000 runs that many mutations of each file instead of 500.
"""

from __future__ import annotations

import os
import pickle
import random
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from azula.plugins.adm._src.unet import UNetModel
from loading_helpers import fill
from safetensors.torch import save_file

from invdiff.errors import PriorError
from invdiff.priors import load_prior
from invdiff.priors.loading import ModelPrior, load_guided_diffusion, read_checkpoint

MUTATIONS = int(os.environ.get("INVDIFF_FUZZ", "500"))


class Bomb:
    """Runs on loading."""

    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self):
        return (Path.touch, (self.target,))


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    network = UNetModel(
        image_size=8,
        in_channels=1,
        model_channels=32,
        out_channels=1,
        num_res_blocks=1,
        attention_resolutions=set(),
        channel_mult=(1,),
        num_head_channels=32,
    )
    return fill(network).state_dict()


def test_pickles_are_refused_and_say_why(tmp_path, state):
    fuse = tmp_path / "exploded"
    torch.save({"model": state, "extra": Bomb(fuse)}, tmp_path / "bomb.pt")
    with pytest.raises(PriorError, match=r"holds Python objects \(\S+\).*trust_pickle=True"):
        load_prior(tmp_path / "bomb.pt")
    (tmp_path / "bomb.pkl").write_bytes(pickle.dumps({"ema": Bomb(fuse)}))
    with pytest.raises(PriorError, match="holds Python objects"):
        load_prior(tmp_path / "bomb.pkl")
    assert not fuse.exists()


def test_trust_is_explicit(tmp_path, state):
    fuse = tmp_path / "exploded"
    torch.save({"model": state, "extra": Bomb(fuse)}, tmp_path / "mine.pt")
    prior = load_guided_diffusion(tmp_path / "mine.pt", trust_pickle=True, head_channels=32)
    assert isinstance(prior, ModelPrior)
    assert fuse.exists()


def test_sizes_and_hashes(tmp_path, state):
    path = tmp_path / "model.pt"
    torch.save(state, path)
    file = read_checkpoint(path)
    assert read_checkpoint(path, sha256=file.sha256.upper()).sha256 == file.sha256
    with pytest.raises(PriorError, match="damaged or another file"):
        read_checkpoint(path, sha256="0" * 64)
    with pytest.raises(PriorError, match="expected 1 to 1000"):
        read_checkpoint(path, largest=1000)
    (tmp_path / "empty.pt").touch()
    with pytest.raises(PriorError, match="has 0 bytes"):
        read_checkpoint(tmp_path / "empty.pt")
    with pytest.raises(PriorError, match="There is no file"):
        read_checkpoint(tmp_path / "none.pt")


def test_archives_that_unpack_to_more_are_refused(tmp_path):
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb/data.pkl", bytes(50_000_000))
    assert path.stat().st_size < 100_000
    with pytest.raises(PriorError, match="unpacks to 50000000"):
        read_checkpoint(path, largest=10_000_000)
    with zipfile.ZipFile(tmp_path / "other.pt", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(PriorError, match="no torch checkpoint"):
        read_checkpoint(tmp_path / "other.pt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<!DOCTYPE html><html>", "web page"),
        (b"version https://git-lfs", "neither a safetensors"),
        (b"\x00" * 64, "neither a safetensors"),
        (b"\x40\x00\x00\x00\x00\x00\x00\x00{", "damaged safetensors"),
        (b"\xff\xff\xff\xff\xff\xff\xff\x7f{}", "damaged safetensors"),
        (b"PK\x03\x04 and then nothing", "damaged archive"),
        (b"\x80\x02broken", "damaged torch checkpoint|Python objects"),
    ],
)
def test_files_that_are_something_else(content, message, tmp_path):
    (tmp_path / "weights.bin").write_bytes(content)
    with pytest.raises(PriorError, match=message):
        load_prior(tmp_path / "weights.bin")


def test_containers_without_weights(tmp_path):
    for tree in ([1, 2], {"epoch": 3}, {"state_dict": {"a": 1}}, {}, torch.zeros(3)):
        torch.save(tree, tmp_path / "odd.pt")
        with pytest.raises(PriorError, match="holds no state dict"):
            load_prior(tmp_path / "odd.pt")


def test_tensors_that_repeat_their_memory_are_refused(tmp_path, state):
    shape = state["out.2.weight"].shape
    torch.save(state | {"out.2.weight": torch.zeros(1).expand(shape)}, tmp_path / "wide.pt")
    with pytest.raises(PriorError, match="repeats its memory"):
        load_guided_diffusion(tmp_path / "wide.pt", head_channels=32)


def test_a_layout_of_absurd_size_is_refused_without_memory(tmp_path):
    """Shapes that claim petabytes, from a file of a few kilobytes."""
    wide = torch.zeros(1)
    state = {
        "time_embed.0.weight": wide.expand(4_000_000, 1_000_000),
        "input_blocks.0.0.weight": wide.expand(1_000_000, 3, 3, 3),
        "output_blocks.0.0.in_layers.2.weight": wide.expand(10**6, 2 * 10**6, 3, 3),
        "output_blocks.0.0.out_layers.3.weight": wide.expand(10**6, 10**6, 3, 3),
        "output_blocks.0.0.emb_layers.1.weight": wide.expand(10**6, 4 * 10**6),
        "out.2.weight": wide.expand(3, 10**6, 3, 3),
    }
    torch.save(state, tmp_path / "huge.pt")
    with pytest.raises(PriorError):
        load_guided_diffusion(tmp_path / "huge.pt")


def small_file(folder: Path, kind: str, state) -> bytes:
    """A whole checkpoint of fewer bytes, so that mutations reach its structure."""
    names = ("out.2.weight", "out.2.bias", "time_embed.0.bias", "input_blocks.0.0.weight")
    few = {name: state[name].clone() for name in names}
    path = folder / f"few.{kind}"
    save_file(few, path) if kind == "safetensors" else torch.save({"ema": few, "step": 3}, path)
    return path.read_bytes()


def mutated(data: bytes, random_numbers: random.Random) -> bytes:
    if random_numbers.random() < 0.3:
        return data[: random_numbers.randrange(len(data))]
    changed = bytearray(data)
    for _ in range(random_numbers.choice((1, 1, 2, 8))):
        # Half of the flips fall on the first kilobyte, where the structure is.
        reach = min(len(data), 1024) if random_numbers.random() < 0.5 else len(data)
        changed[random_numbers.randrange(reach)] ^= 1 << random_numbers.randrange(8)
    return bytes(changed)


def outcome(path: Path) -> str:
    """A PriorError or a checkpoint of tensors: anything else is a failure."""
    try:
        file = read_checkpoint(path)
    except PriorError as error:
        assert str(path) in str(error)
        return "refused"
    for value in file.tree.values() if isinstance(file.tree, dict) else []:
        assert isinstance(value, torch.Tensor | dict | int | float | str | list | tuple | bool)
    try:
        load_guided_diffusion(path, head_channels=32)
    except PriorError:
        return "does not fit"
    raise AssertionError("a part of a network was loaded as a whole one")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["safetensors", "pt"])
def test_fuzz(kind, tmp_path, state):
    data = small_file(tmp_path, kind, state)
    numbers = random.Random(f"{kind} {MUTATIONS}")
    path = tmp_path / f"mutated.{kind}"
    found = {"refused": 0, "does not fit": 0}
    for _ in range(MUTATIONS):
        path.write_bytes(mutated(data, numbers))
        found[outcome(path)] += 1
    assert found["refused"] > MUTATIONS // 4


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["safetensors", "pt"])
def test_fuzz_of_a_whole_model(kind, tmp_path, state):
    """It loads with other numbers, or is refused; never another error."""
    path = tmp_path / f"model.{kind}"
    save_file(state, path) if kind == "safetensors" else torch.save(state, path)
    data, numbers = path.read_bytes(), random.Random(kind)
    loaded = 0
    for _ in range(max(20, MUTATIONS // 20)):
        path.write_bytes(mutated(data, numbers))
        try:
            prior = load_guided_diffusion(path, head_channels=32)
        except PriorError:
            continue
        loaded += 1
        assert all(bool(value.isfinite().all()) for value in prior.network.parameters())
    assert loaded < max(20, MUTATIONS // 20)


def test_importing_the_loaders_is_light():
    code = (
        "import sys, invdiff.priors.loading\n"
        "heavy = 'deepinv diffusers monai azula safetensors huggingface_hub'\n"
        "print([name for name in heavy.split() if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
