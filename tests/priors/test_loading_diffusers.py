"""diffusers folders and autoencoders: round trips through save_pretrained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from loading_helpers import SIGMAS, close, fill, image, level
from safetensors.torch import load_file, save_file

from invdiff.errors import PriorError
from invdiff.priors import ClassConditional
from invdiff.priors.loading import (
    DiscreteSchedule,
    LinearPath,
    Predicts,
    Target,
    VarianceExploding,
    fetch_from_hub,
    load_diffusers,
    load_diffusers_autoencoder,
)
from invdiff.priors.loading.diffusers_schedules import parametrisation_of, schedule_of

diffusers = pytest.importorskip("diffusers")

SMALL = {
    "sample_size": 16,
    "in_channels": 1,
    "out_channels": 1,
    "layers_per_block": 1,
    "block_out_channels": (32, 64),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    "norm_num_groups": 16,
}
SCHEDULERS = {
    "linear": {"beta_schedule": "linear"},
    "scaled": {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    "cosine": {"beta_schedule": "squaredcos_cap_v2"},
    "sigmoid": {"beta_schedule": "sigmoid"},
    "trained": {"trained_betas": torch.linspace(1e-3, 0.3, 50).tolist()},
    "zero-terminal": {"beta_schedule": "scaled_linear", "rescale_betas_zero_snr": True},
    "short": {"beta_schedule": "linear", "num_train_timesteps": 100, "beta_end": 0.2},
}


def save(folder: Path, model, scheduler) -> Path:
    model.save_pretrained(folder / "unet")
    scheduler.save_pretrained(folder / "scheduler")
    return folder


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_round_trip(kind, tmp_path):
    """x0 as DDPMScheduler itself isolates it, at its own steps, and by formula in between."""
    model = fill(diffusers.UNet2DModel(**SMALL))
    scheduler = diffusers.DDPMScheduler(
        prediction_type=kind, clip_sample=False, beta_schedule="squaredcos_cap_v2"
    )
    prior = load_diffusers(save(tmp_path / "model", model, scheduler))
    assert (prior.name, prior.card.multiple, prior.card.format) == ("model", 2, "diffusers")
    x = image(2, 1, 16, 16)
    for step in (5, 300, 990):
        bar = float(scheduler.alphas_cumprod[step].double())
        alpha, std = bar**0.5, (1 - bar) ** 0.5
        with torch.no_grad():
            out = model(alpha * x, step, return_dict=False)[0]
        clean = scheduler.step(out, step, alpha * x).pred_original_sample
        found = prior(x, level(std / alpha))
        # The scheduler's alpha-bar is float32: 1 - bar has 1e-7 / (1 - bar) of error.
        assert (found - clean).abs().max() / clean.abs().max() < 2e-4
    for sigma in SIGMAS:
        alpha = (1 + sigma**2) ** -0.5
        std = sigma * alpha
        time = prior.parametrisation.schedule.time(level(sigma)).float()
        with torch.no_grad():
            out = model(alpha * x, time.expand(2), return_dict=False)[0]
        expected = {
            "epsilon": (alpha * x - std * out) / alpha,
            "v_prediction": alpha * (alpha * x) - std * out,
            "sample": out,
        }[kind]
        close(prior(x, level(sigma)), expected)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_schedules_are_those_of_diffusers(name):
    scheduler = diffusers.DDPMScheduler(**SCHEDULERS[name])
    bars = scheduler.alphas_cumprod.double()
    bars = bars[bars > 1e-10]
    schedule = schedule_of(dict(scheduler.config))
    assert len(schedule.levels) == len(bars)
    found = 1 / (1 + torch.tensor(schedule.levels, dtype=torch.float64).square())
    # float32 products of up to 1000 factors there, logarithms in float64 here.
    torch.testing.assert_close(found, bars, rtol=2e-3, atol=1e-6)
    torch.testing.assert_close(1 - found[:5], 1 - bars[:5], rtol=1e-2, atol=0)


def test_classes_learned_variance_and_old_attention_names(tmp_path):
    options = SMALL | {"num_class_embeds": 4, "out_channels": 2}
    model = fill(diffusers.UNet2DModel(**options))
    folder = save(tmp_path, model, diffusers.DDPMScheduler(variance_type="learned_range"))
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    former = {}
    for key, value in load_file(path).items():
        for now, then in (
            ("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn"),
        ):  # fmt: skip
            key = key.replace(f".{now}.", f".{then}.")
        former[key] = value
    assert any(".query." in key for key in former)
    save_file(former, path)
    prior = load_diffusers(folder)
    assert prior.card.learned_variance
    assert prior.card.classes == 4
    x, sigma = image(2, 1, 16, 16), 0.6
    time = prior.parametrisation.schedule.time(level(sigma)).float().expand(2)
    with torch.no_grad():
        out = model(x / (1 + sigma**2) ** 0.5, time, torch.tensor([3, 3]), return_dict=False)[0]
    close(ClassConditional(prior, 3)(x, level(sigma)), x - sigma * out[:, :1])


def test_variance_exploding_and_flow_matching(tmp_path):
    """NCSN++ of diffusers divides by sigma itself; flows are told 1000 t."""
    fourier = fill(
        diffusers.UNet2DModel(**SMALL, time_embedding_type="fourier", center_input_sample=True)
    )
    levels = diffusers.ScoreSdeVeScheduler(sigma_min=0.01, sigma_max=90.0)
    prior = load_diffusers(save(tmp_path / "ve", fourier, levels))
    assert prior.value_range == (0.0, 1.0)
    assert prior.parametrisation == Predicts(Target.SCORE, VarianceExploding(0.01, 90.0))
    x = image(2, 1, 16, 16)
    with torch.no_grad():
        score = fourier(x, torch.full((2,), 0.7), return_dict=False)[0]
    close(prior(x, level(0.7)), x + 0.49 * score)

    flow = fill(diffusers.UNet2DModel(**SMALL))
    matching = diffusers.FlowMatchEulerDiscreteScheduler()
    prior = load_diffusers(save(tmp_path / "flow", flow, matching))
    t = 0.7 / 1.7
    with torch.no_grad():
        velocity = flow((1 - t) * x, torch.full((2,), 1000 * t), return_dict=False)[0]
    close(prior(x, level(0.7)), (1 - t) * x - t * velocity)
    noised = matching.scale_noise(x, torch.tensor([400.0]), torch.ones_like(x))
    torch.testing.assert_close(noised, 0.6 * x + 0.4 * torch.ones_like(x))


def test_unknown_schedulers_are_refused():
    for config, message in (
        ({"_class_name": "KarrasVeScheduler"}, "is not known: declare"),
        ({"beta_schedule": "laplace"}, "'laplace' is not known"),
        ({"beta_schedule": "linear", "prediction_type": "flow"}, "'flow' is none of"),
    ):
        with pytest.raises(PriorError, match=message):
            parametrisation_of(config)


def test_folders_that_do_not_load_say_why(tmp_path):
    model = fill(diffusers.UNet2DModel(**SMALL))
    model.save_pretrained(tmp_path / "bare")
    with pytest.raises(PriorError, match="has no scheduler"):
        load_diffusers(tmp_path / "bare")
    declared = Predicts(Target.VELOCITY, LinearPath())
    assert load_diffusers(tmp_path / "bare", parametrisation=declared).sigma_max == 1e3
    with pytest.raises(PriorError, match="cannot be read"):
        load_diffusers(tmp_path)
    config = tmp_path / "bare" / "config.json"
    kept = config.read_text()
    config.write_text(json.dumps(json.loads(kept) | {"_class_name": "UNet2DConditionModel"}))
    with pytest.raises(PriorError, match="holds a UNet2DConditionModel"):
        load_diffusers(tmp_path / "bare", parametrisation=declared)
    config.write_text(kept[:-30])
    with pytest.raises(PriorError, match="cannot be read"):
        load_diffusers(tmp_path / "bare", parametrisation=declared)
    config.write_text(kept)
    (tmp_path / "bare" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(PriorError, match="has neither"):
        load_diffusers(tmp_path / "bare", parametrisation=declared)
    model.save_pretrained(tmp_path / "bin", safe_serialization=False)
    from_bin = load_diffusers(tmp_path / "bin", parametrisation=declared)
    assert from_bin.card.channels == 1


def test_the_hub_is_asked_only_by_name(monkeypatch, tmp_path):
    import huggingface_hub

    asked = {}

    def download(repository, **options):
        asked.update(options, repository=repository)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert fetch_from_hub("someone/model", "abc", tmp_path) == tmp_path
    assert asked["revision"] == "abc"
    assert asked["allow_patterns"] == ["*.json", "*.safetensors"]


@pytest.mark.parametrize("shifted", [False, True])
def test_autoencoder_round_trip(shifted, tmp_path):
    options = {"shift_factor": 0.3, "scaling_factor": 0.4} if shifted else {}
    vae = fill(
        diffusers.AutoencoderKL(
            in_channels=1,
            out_channels=1,
            block_out_channels=(16, 16),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            norm_num_groups=8,
            latent_channels=2,
            **options,
        )
    )
    vae.save_pretrained(tmp_path / "vae")
    codec = load_diffusers_autoencoder(tmp_path)
    shift, scale = (0.3, 0.4) if shifted else (0.0, 0.18215)
    x, z = image(2, 1, 16, 16), image(2, 2, 8, 8)
    with torch.no_grad():
        close(codec.encode(x), (vae.encode(x).latent_dist.mean - shift) * scale)
        close(codec.decode(z), vae.decode(z / scale + shift).sample)
        operator = codec.decoder((2, 8, 8))
        assert operator.range == (1, 16, 16)
        close(operator(z), vae.decode(z / scale + shift).sample)


def test_rounding(tmp_path):
    model = fill(diffusers.UNet2DModel(**SMALL))
    folder = save(tmp_path, model, diffusers.DDPMScheduler())
    rounded = load_diffusers(folder, rounded=True)
    schedule = rounded.parametrisation.schedule
    assert isinstance(schedule, DiscreteSchedule)
    assert schedule.rounded
    x, sigma = image(1, 1, 16, 16), 0.61
    exact = load_diffusers(folder).parametrisation.schedule.time(level(sigma))
    with torch.no_grad():
        out = model(x / (1 + sigma**2) ** 0.5, round(float(exact)), return_dict=False)[0]
    close(rounded(x, level(sigma)), x - sigma * out)
