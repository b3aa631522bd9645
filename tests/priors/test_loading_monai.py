"""MONAI's networks: round trips, in two and three dimensions, and with their former names."""

from __future__ import annotations

import pytest
import torch
from loading_helpers import close, fill, image, level

from invdiff.errors import PriorError
from invdiff.priors import ClassConditional
from invdiff.priors.loading import (
    DiscreteSchedule,
    Predicts,
    Target,
    load_monai,
    load_monai_autoencoder,
)

pytest.importorskip("monai")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

CONFIG = {
    "spatial_dims": 2,
    "in_channels": 1,
    "out_channels": 1,
    "channels": (16, 32),
    "attention_levels": (False, True),
    "num_res_blocks": 1,
    "num_head_channels": 16,
    "norm_num_groups": 8,
}
BRATS = Predicts(Target.EPSILON, DiscreteSchedule.scaled_linear(1000, 0.0015, 0.0195))


@pytest.fixture
def nets():
    from monai.networks import nets

    return nets


@pytest.mark.parametrize("size", [(16, 16), (8, 8, 8)], ids=["2d", "3d"])
def test_round_trip(nets, size, tmp_path):
    config = CONFIG | {"spatial_dims": len(size)}
    network = fill(nets.DiffusionModelUNet(**config))
    torch.save(network.state_dict(), tmp_path / "model.pt")
    prior = load_monai(tmp_path / "model.pt", config, BRATS)
    assert prior.value_range == (0.0, 1.0)
    from monai.networks.schedulers import DDPMScheduler

    scheduler = DDPMScheduler(1000, "scaled_linear_beta", beta_start=0.0015, beta_end=0.0195)
    x = image(2, 1, *size)
    for step in (10, 500, 950):
        bar = float(scheduler.alphas_cumprod[step])
        alpha, std = bar**0.5, (1 - bar) ** 0.5
        with torch.no_grad():
            out = network(alpha * x, torch.full((2,), float(step)))
        expected = (alpha * x - std * out) / alpha
        # MONAI's alpha-bar is a float32 product.
        found = prior(x, level(std / alpha))
        assert (found - expected).abs().max() / expected.abs().max() < 1e-4
    for sigma in (0.05, 1.0, 10.0):
        time = BRATS.schedule.time(level(sigma)).float().expand(2)
        with torch.no_grad():
            out = network(x / (1 + sigma**2) ** 0.5, time)
        close(prior(x, level(sigma)), x - sigma * out)


def test_classes_and_odd_sizes(nets, tmp_path):
    config = CONFIG | {"num_class_embeds": 3}
    network = fill(nets.DiffusionModelUNet(**config))
    torch.save({"state_dict": network.state_dict()}, tmp_path / "model.pt")
    prior = load_monai(tmp_path / "model.pt", config, Predicts(Target.V, BRATS.schedule))
    x, sigma = image(2, 1, 16, 16), 0.4
    time = BRATS.schedule.time(level(sigma)).float().expand(2)
    alpha = (1 + sigma**2) ** -0.5
    with torch.no_grad():
        v = network(alpha * x, time, class_labels=torch.tensor([2, 2]))
    close(ClassConditional(prior, 2)(x, level(sigma)), alpha**2 * x - alpha * sigma * v)
    assert ClassConditional(prior, 2)(image(1, 1, 13, 15), level(sigma)).shape == (1, 1, 13, 15)


def test_former_names(nets, tmp_path):
    """As MONAI's own load_old_state_dict reads them."""
    network = fill(nets.DiffusionModelUNet(**CONFIG))
    former = {}
    for key, value in network.state_dict().items():
        key = key.replace(".attn.out_proj.", ".proj_attn.").replace(".attn.to_", ".to_")
        former[key.replace(".postconv.", ".conv.")] = value
    other = nets.DiffusionModelUNet(**CONFIG)
    other.load_old_state_dict(dict(former))
    torch.save(former, tmp_path / "old.pt")
    prior = load_monai(tmp_path / "old.pt", CONFIG, BRATS)
    for name, value in other.state_dict().items():
        assert torch.equal(prior.network.model.state_dict()[name], value)


def test_a_configuration_that_does_not_fit(nets, tmp_path):
    network = fill(nets.DiffusionModelUNet(**CONFIG))
    torch.save(network.state_dict(), tmp_path / "model.pt")
    with pytest.raises(PriorError, match="do not fit"):
        load_monai(tmp_path / "model.pt", CONFIG | {"channels": (16, 16)}, BRATS)
    with pytest.raises(PriorError, match="cannot be built"):
        load_monai(tmp_path / "model.pt", CONFIG | {"channels": (12, 30)}, BRATS)


def test_autoencoder_round_trip(nets, tmp_path):
    config = {
        "spatial_dims": 2,
        "channels": (16, 16),
        "attention_levels": (False, False),
        "num_res_blocks": 1,
        "latent_channels": 2,
        "norm_num_groups": 8,
        "with_encoder_nonlocal_attn": False,
        "with_decoder_nonlocal_attn": True,
    }
    network = fill(nets.AutoencoderKL(**config))
    torch.save(network.state_dict(), tmp_path / "vae.pt")
    codec = load_monai_autoencoder(tmp_path / "vae.pt", config, scale=1.7)
    x, z = image(2, 1, 16, 16), image(2, 2, 8, 8)
    with torch.no_grad():
        close(codec.encode(x), network.encode(x)[0] * 1.7)
        close(codec.decode(z), network.decode(z / 1.7))
        close(codec.decoder((2, 8, 8))(z), network.decode(z / 1.7))
