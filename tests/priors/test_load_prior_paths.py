"""load_prior: a name, or any file, told apart by the names of its weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from azula.plugins.adm._src.unet import UNetModel
from deepinv.models import ADMUNet
from loading_helpers import fill, image, level
from safetensors.torch import save_file
from score_sde_reference import ScoreSDE
from test_loading_edm import LAYOUTS, edm2_state

from invdiff.errors import PriorError
from invdiff.priors import NetworkPrior, load_prior
from invdiff.priors.loading import ModelPrior
from invdiff.priors.network import EMBEDDED


def adm() -> dict[str, torch.Tensor]:
    network = UNetModel(
        image_size=16, in_channels=1, model_channels=64, out_channels=2, num_res_blocks=1,
        attention_resolutions={2}, channel_mult=(1, 1), num_head_channels=64,
        use_scale_shift_norm=True, resblock_updown=True,
    )  # fmt: skip
    return fill(network).state_dict()


def edm() -> dict[str, torch.Tensor]:
    network = ADMUNet(
        img_resolution=16, in_channels=1, out_channels=1, model_channels=128,
        channel_mult=(1,), num_blocks=1, attn_resolutions=(), pretrained=None,
    )  # fmt: skip
    return fill(network).state_dict()


FORMATS = {
    "guided-diffusion": adm,
    "score_sde": lambda: fill(ScoreSDE(1, 128, (1,), 1, (), True, False)).state_dict(),
    "EDM": edm,
    "EDM2": lambda: edm2_state(LAYOUTS["plain"]),
}


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
@pytest.mark.parametrize("name", FORMATS)
def test_formats_are_told_apart(name, suffix, tmp_path):
    path = tmp_path / f"weights.{suffix}"
    state = {key: value.clone() for key, value in FORMATS[name]().items()}
    save_file(state, path) if suffix == "safetensors" else torch.save(state, path)
    prior = load_prior(str(path))
    assert isinstance(prior, ModelPrior)
    assert (prior.card.format, prior.name) == (name, "weights")
    channels = prior.card.channels
    assert prior(image(1, channels, 16, 16), level(0.5)).isfinite().all()
    assert isinstance(load_prior(path, channels=channels), ModelPrior)
    with pytest.raises(PriorError, match="no view with 7"):
        load_prior(path, channels=7)


def test_our_own_files(tmp_path):
    for suffix in ("safetensors", "json"):
        shutil.copy(EMBEDDED / f"ct.{suffix}", tmp_path / f"mine.{suffix}")
    prior = load_prior(tmp_path / "mine.safetensors")
    assert isinstance(prior, NetworkPrior)
    assert prior.sha256 == load_prior("ct").sha256


def test_formats_that_need_settings_say_which(tmp_path):
    transformer = {
        "x_embedder.proj.weight": torch.zeros(2),
        "blocks.0.attn.qkv.weight": torch.zeros(2),
    }
    monai = {"conv_in.conv.weight": torch.zeros(2), "time_embed.0.weight": torch.zeros(2)}
    for state, message in (
        (transformer, r"load_dit\(path\) or load_sit\(path\)"),
        (monai, "load_monai"),
        ({"weight": torch.zeros(2)}, "no known format: weight.*from_function"),
    ):
        torch.save(state, tmp_path / "x.pt")
        with pytest.raises(PriorError, match=message):
            load_prior(tmp_path / "x.pt")


def test_names_and_paths_that_are_not_there(tmp_path):
    with pytest.raises(PriorError, match="Nor is there such a file or folder"):
        load_prior(tmp_path / "none.pt")
    with pytest.raises(PriorError, match="cannot be read"):
        load_prior(tmp_path)


def test_diffusers_folders(tmp_path):
    diffusers = pytest.importorskip("diffusers")
    model = diffusers.UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, layers_per_block=1,
        block_out_channels=(32,), down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",), norm_num_groups=8,
    )  # fmt: skip
    diffusers.DDPMPipeline(model, diffusers.DDPMScheduler()).save_pretrained(tmp_path / "ddpm")
    index = json.loads(Path(tmp_path / "ddpm" / "model_index.json").read_text())
    assert index["_class_name"] == "DDPMPipeline"
    assert load_prior(tmp_path / "ddpm").card.format == "diffusers"
