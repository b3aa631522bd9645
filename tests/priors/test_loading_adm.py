"""guided-diffusion: round trips against OpenAI's own code (MIT), as azula carries it."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from azula.plugins.adm._src.unet import UNetModel
from loading_helpers import SIGMAS, close, fill, image, level
from safetensors.torch import save_file

from invdiff.errors import PriorError, ShapeError
from invdiff.priors import ClassConditional, Prior
from invdiff.priors.loading import DiscreteSchedule, Predicts, Target, load_guided_diffusion
from invdiff.priors.loading.adm import published_settings
from invdiff.priors.loading.adm_layout import ADMLayout
from invdiff.priors.loading.adm_network import ADMNetwork

SMALL = {
    "image_size": 32,
    "in_channels": 3,
    "model_channels": 32,
    "out_channels": 6,
    "num_res_blocks": 1,
    "attention_resolutions": {2, 4},
    "channel_mult": (1, 2, 2),
    "num_head_channels": 32,
    "use_scale_shift_norm": True,
    "resblock_updown": True,
}
VARIANTS = {
    "ffhq-like": ({}, {}),
    "two-channels-two-blocks": ({"in_channels": 2, "out_channels": 4, "num_res_blocks": 2}, {}),
    "fixed-variance": ({"out_channels": 3}, {}),
    "new-attention": ({"use_new_attention_order": True}, {"new_attention": True}),
    "four-heads": ({"num_heads": 4, "num_head_channels": -1}, {"head_channels": 0}),
    "plain-resampling": ({"resblock_updown": False, "use_scale_shift_norm": False}, {}),
    "attention-everywhere": ({"attention_resolutions": {1, 2, 4}}, {}),
    "half-width-first": ({"model_channels": 64, "channel_mult": (0.5, 1, 2)}, {}),
}


def save(network: torch.nn.Module, path) -> None:
    torch.save(network.state_dict(), path)


def formula(network, x, sigma, time, channels, **labels):
    """x - sigma eps(x / sqrt(1 + sigma^2), t), as in the DDPM paper with x0 isolated."""
    scaled = x / (1 + sigma**2) ** 0.5
    with torch.no_grad():
        noise = network(scaled, torch.full((len(x),), time), **labels)[:, :channels]
    return x - sigma * noise


@pytest.mark.parametrize("name", VARIANTS)
def test_round_trip(name, tmp_path):
    options, heads = VARIANTS[name]
    options = SMALL | options
    network = fill(UNetModel(**options))
    save(network, tmp_path / "model.pt")
    prior = load_guided_diffusion(tmp_path / "model.pt", **({"head_channels": 32} | heads))
    channels = options["in_channels"]
    assert prior.card.channels == channels
    assert prior.card.learned_variance == (options["out_channels"] == 2 * channels)
    assert prior.card.multiple == 4
    assert isinstance(prior, Prior)
    x = image(2, channels, 32, 32)
    for sigma in SIGMAS:
        time = float(prior.parametrisation.schedule.time(level(sigma)))
        close(prior(x, level(sigma)), formula(network, x, sigma, time, channels))


def test_at_the_steps_it_is_ddpm_to_the_digit(tmp_path):
    """Written with alpha-bar of whole steps, as the original sampler is."""
    network = fill(UNetModel(**SMALL))
    save(network, tmp_path / "model.pt")
    prior = load_guided_diffusion(tmp_path / "model.pt", head_channels=32)
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    bars = (1 - betas).cumprod(0)
    clean, noise = image(2, 3, 32, 32), image(2, 3, 32, 32, seed=1)
    for step in (3, 250, 700):
        bar = float(bars[step])
        x_t = bar**0.5 * clean + (1 - bar) ** 0.5 * noise
        with torch.no_grad():
            predicted = network(x_t, torch.full((2,), step))[:, :3]
        x0 = (x_t - (1 - bar) ** 0.5 * predicted) / bar**0.5
        sigma = ((1 - bar) / bar) ** 0.5
        close(prior(x_t / bar**0.5, level(sigma)), x0)


def test_classes(tmp_path):
    network = fill(UNetModel(**SMALL, num_classes=5))
    save(network, tmp_path / "classes.pt")
    prior = load_guided_diffusion(tmp_path / "classes.pt", head_channels=32)
    x = image(2, 3, 32, 32)
    with pytest.raises(PriorError, match="choose one, ClassConditional"):
        prior(x, level(0.5))
    with pytest.raises(PriorError, match="has 5 classes, there is no class 5"):
        ClassConditional(prior, 5)(x, level(0.5))
    time = float(prior.parametrisation.schedule.time(level(0.5)))
    of_two = formula(network, x, 0.5, time, 3, y=torch.tensor([2, 2]))
    close(ClassConditional(prior, 2)(x, level(0.5)), of_two)
    other = ClassConditional(prior, 3)(x, level(0.5))
    assert (other - of_two).abs().max() > 1e-3 * of_two.abs().max()


def test_other_targets_half_precision_prefixes_and_safetensors(tmp_path):
    network = fill(UNetModel(**SMALL))
    state = {f"module.{key}": value.half() for key, value in network.state_dict().items()}
    save_file(state, tmp_path / "half.safetensors")
    target = Predicts(Target.V, DiscreteSchedule.cosine())
    prior = load_guided_diffusion(
        tmp_path / "half.safetensors",
        schedule=target.schedule,
        target=target.target,
        head_channels=32,
    )
    halved = UNetModel(**SMALL).eval()
    halved.load_state_dict({k: v.half().float() for k, v in network.state_dict().items()})
    x, sigma = image(2, 3, 32, 32), 0.8
    time = float(target.schedule.time(level(sigma)))
    alpha = (1 + sigma**2) ** -0.5
    with torch.no_grad():
        v = halved(alpha * x, torch.full((2,), time))[:, :3]
    close(prior(x, level(sigma)), alpha * (alpha * x) - alpha * sigma * v)
    assert next(prior.network.parameters()).dtype == torch.float32


def test_sizes_are_padded_rows_apart_and_gradients_flow(tmp_path):
    save(fill(UNetModel(**SMALL)), tmp_path / "model.pt")
    prior = load_guided_diffusion(tmp_path / "model.pt", head_channels=32)
    x = image(3, 3, 29, 34)
    sigmas = torch.tensor([0.1, 1.0, 10.0], dtype=torch.float64)
    together = prior(x, sigmas)
    assert together.shape == x.shape
    for row in range(3):
        alone = prior(x[row : row + 1], sigmas[row])
        torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-4, atol=1e-5)
    leaf = x[:1].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(prior(leaf, level(0.5)).sum(), leaf)
    assert gradient.abs().sum() > 0
    assert not any(p.requires_grad for p in prior.network.parameters())
    with pytest.raises(ShapeError, match="does not take images"):
        prior(x[:, :1], level(0.5))
    with pytest.raises(ShapeError, match="noise level per row"):
        prior(x, sigmas[:2])
    with pytest.raises(TypeError, match="real floating-point"):
        prior(x.to(torch.complex64), level(0.5))


PUBLISHED = {
    "imagenet-64": ((192, 3, (1, 2, 3, 4), (32, 16, 8), 64, 1000), (64, True)),
    "imagenet-128": ((256, 2, (1, 1, 2, 3, 4), (32, 16, 8), 128, 1000), (0, False)),
    "imagenet-256": ((256, 2, (1, 1, 2, 2, 4, 4), (32, 16, 8), 256, 0), (64, False)),
    "imagenet-512": ((256, 2, (0.5, 1, 1, 2, 2, 4, 4), (32, 16, 8), 512, 1000), (64, False)),
    "ffhq-256": ((128, 1, (1, 1, 2, 2, 4, 4), (16,), 256, 0), (64, False)),
    "dds-ct-256": ((256, 1, (1, 1, 2, 2, 4, 4), (16,), 256, 0), (64, False)),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_architectures_are_read_from_their_weights(name):
    """Without memory: OpenAI's model of each configuration, and ours from its shapes."""
    (base, blocks, mult, attention, side, classes), (heads, new) = PUBLISHED[name]
    with torch.device("meta"):
        original = UNetModel(
            image_size=side,
            in_channels=3,
            model_channels=base,
            out_channels=6,
            num_res_blocks=blocks,
            attention_resolutions={side // r for r in attention},
            channel_mult=mult,
            num_classes=classes or None,
            num_heads=4,
            num_head_channels=heads or -1,
            use_scale_shift_norm=True,
            resblock_updown=True,
            use_new_attention_order=new,
        )
        state = original.state_dict()
    layout, schedule = published_settings(ADMLayout.of(state))
    with torch.device("meta"):
        ours = ADMNetwork(layout).state_dict()
    assert (layout.head_channels, layout.new_attention) == (heads, new)
    assert (schedule.sigma_max > 1000) == (name == "imagenet-64")  # cosine ends lower in signal
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in state.items()}


def test_wrong_files_are_named(tmp_path):
    network = fill(UNetModel(**SMALL))
    state = network.state_dict()
    cases = {
        "missing": ({k: v for k, v in state.items() if "middle_block.1" not in k}, "missing"),
        "extra": (state | {"surprise": torch.zeros(2)}, "1 unexpected: surprise"),
        "shape": (state | {"out.2.bias": torch.zeros(7)}, r"out.2.bias \(7,\), expected \(6,\)"),
        "nan": (state | {"out.2.bias": torch.full((6,), float("nan"))}, "not finite"),
        "other": ({"weight": torch.zeros(3)}, "not those of an ADM"),
        "channels": (
            state | {"out.2.weight": torch.zeros(5, 32, 3, 3), "out.2.bias": torch.zeros(5)},
            "predicts 5 channels of 3",
        ),
    }
    for name, (broken, message) in cases.items():
        torch.save(broken, tmp_path / f"{name}.pt")
        with pytest.raises(PriorError, match=message):
            load_guided_diffusion(tmp_path / f"{name}.pt", head_channels=32)
    with pytest.raises(PriorError, match=r"cannot be built.*divisible"):
        save(network, tmp_path / "heads.pt")
        load_guided_diffusion(tmp_path / "heads.pt", head_channels=48)


def test_upsamplers_are_no_priors(tmp_path):
    save(fill(UNetModel(**(SMALL | {"in_channels": 6}))), tmp_path / "upsampler.pt")
    with pytest.raises(PriorError, match="upsamplers"):
        load_guided_diffusion(tmp_path / "upsampler.pt", head_channels=32)


def test_global_random_numbers_are_left_alone(tmp_path):
    save(fill(UNetModel(**SMALL)), tmp_path / "model.pt")
    before = torch.random.get_rng_state()
    load_guided_diffusion(tmp_path / "model.pt", head_channels=32)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_layouts_are_values():
    layout = ADMLayout(3, 6, 32, (32, 64), 1, (1,))
    assert dataclasses.replace(layout, blocks=1) == layout
    assert eval(repr(layout)) == layout
