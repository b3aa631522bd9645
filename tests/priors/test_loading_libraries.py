"""Denoisers of deepinv and azula, functions with a declaration, and the prior around them."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from loading_helpers import close, fill, image, level
from torch import nn

from invdiff import Gaussian, Problem, sample
from invdiff.errors import PriorError, ShapeError
from invdiff.ladder import karras
from invdiff.operators import Inpainting
from invdiff.priors import AffinePrior, GaussianPrior, GuidedPrior, Prior
from invdiff.priors.loading import (
    DiscreteSchedule,
    ModelPrior,
    Predicts,
    Target,
    VarianceExploding,
    from_azula,
    from_deepinv,
    from_function,
)
from invdiff.priors.loading.adm import TABLES
from invdiff.priors.loading.adm_layout import ADMLayout
from invdiff.priors.loading.adm_network import ADMNetwork
from invdiff.samplers import DDS

EPSILON = Predicts(Target.EPSILON, DiscreteSchedule.linear())


def tiny(time_scale: float = 1.0) -> nn.Module:
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 3, padding=1)

        def forward(self, x, time):
            return self.conv(x) + 1e-3 * time_scale * time[:, None, None, None]

    return fill(Net())


def declared(network, parametrisation=EPSILON, **fields) -> ModelPrior:
    fields = {"channels": 1, "value_range": (-1.0, 1.0)} | fields
    return from_function(network, parametrisation, **fields)


def test_deepinv_denoisers_are_called_in_their_units():
    from deepinv.models import ADMUNet, DRUNet

    drunet = fill(DRUNet(1, 1, nc=(8, 8, 8, 8), nb=1, pretrained=None))
    prior = from_deepinv(drunet, channels=1, sigma_min=0.005, sigma_max=0.2, multiple=8)
    assert (prior.value_range, prior.sigma_max, prior.name) == ((0.0, 1.0), 0.2, "DRUNet")
    x = image(2, 1, 32, 32)
    with torch.no_grad():
        close(prior(x, level(0.1)), drunet(x, torch.full((2,), 0.1)))
    # Behind an affine map, for images on [-1, 1]: noise halves, values are moved.
    outside = AffinePrior(prior, 2.0, -1.0)
    with torch.no_grad():
        close(outside(x, level(0.2)), 2 * drunet((x + 1) / 2, torch.full((2,), 0.1)) - 1)

    adm = fill(
        ADMUNet(
            img_resolution=8, in_channels=1, out_channels=1, model_channels=64,
            channel_mult=(1,), num_blocks=1, attn_resolutions=(), pretrained=None,
        )
    )  # fmt: skip
    prior = from_deepinv(adm, channels=1, sigma_min=0.001, sigma_max=40.0)
    x = image(2, 1, 8, 8)
    with torch.no_grad():
        close(prior(x, level(1.3)), adm(x, torch.full((2,), 1.3)))


def test_deepinv_ncsnpp_by_adapter():
    from deepinv.models import NCSNpp

    model = fill(
        NCSNpp(
            img_resolution=8, in_channels=1, out_channels=1, model_channels=64, num_blocks=1,
            channel_mult=(1,), attn_resolutions=(), augment_dim=0, pretrained=None,
        )
    )  # fmt: skip
    prior = from_deepinv(model, channels=1, sigma_min=0.001, sigma_max=40.0)
    x = image(2, 1, 8, 8)
    with torch.no_grad():
        close(prior(x, level(0.7)), model(x, torch.full((2,), 0.7)))


def test_deepinvs_diffunet_is_sent_to_its_weights(tmp_path):
    """Its state dict is guided-diffusion's, and two tables."""
    from deepinv.models import DiffUNet

    with torch.device("meta"):
        model = DiffUNet(large_model=False, pretrained=None, in_channels=1, out_channels=1)
    with pytest.raises(PriorError, match="load_guided_diffusion"):
        from_deepinv(model, channels=1, sigma_min=0.01, sigma_max=100.0)
    state = {key: value for key, value in model.state_dict().items() if key not in TABLES}
    layout = ADMLayout.of(state)
    with torch.device("meta"):
        ours = ADMNetwork(layout).state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in state.items()}
    assert (layout.head_channels, layout.widths[-1], layout.blocks) == (64, 512, 1)


@pytest.mark.parametrize(
    "name", ["VPSchedule", "VESchedule", "CosineSchedule", "RectifiedSchedule"]
)
def test_azula_denoisers_on_every_schedule(name):
    """An exact Gaussian denoiser of azula's: its mean at (alpha x, t), in closed form."""
    import azula.noise
    from azula.denoise import KarrasDenoiser

    class Backbone(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 3, padding=1)

        def forward(self, x, t):
            return self.conv(x) + t[:, None, None, None]

    schedule = getattr(azula.noise, name)()
    model = fill(KarrasDenoiser(Backbone(), schedule))
    prior = from_azula(model, channels=1)
    x = image(2, 1, 8, 8)
    for t in (0.1, 0.5, 0.9):
        alpha, sigma = schedule(torch.tensor(t, dtype=torch.float64))
        ratio = float(sigma / alpha)
        with torch.no_grad():
            mean = model(float(alpha) * x, torch.full((2,), t)).mean
        close(prior(x, level(ratio)), mean)


def test_functions_of_every_kind():
    """Without parameters, they run in the precision of the image."""
    prior = declared(lambda x, time: 0.5 * x, value_range=(0.0, 1.0), licence="mine")
    assert isinstance(prior, Prior)
    assert (prior.card.licence, prior.card.format) == ("mine", "function")
    x = image(2, 1, 5, 7).double()
    found = prior(x, level(0.5))
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, x - 0.5 * 0.5 * x / 1.25**0.5)
    assert prior.to("cpu") is prior
    assert "function" in repr(prior)


def test_modules_keep_their_precision_and_the_skip_path_that_of_the_image():
    network = tiny()
    prior = declared(network)
    x = image(1, 1, 8, 8).double()
    found = prior(x, level(1e-3))
    assert found.dtype == torch.float64
    # At sigma = 0.001 the network's rounding counts for 1e-3 of itself.
    scaled = x / (1 + 1e-6) ** 0.5
    exact = fill(tiny()).double()
    with torch.no_grad():
        expected = x - 1e-3 * exact(scaled, torch.zeros(1, dtype=torch.float64))
    assert (found - expected).abs().max() < 1e-9
    assert torch.equal(prior(x, level(0.0)), x)


def test_fingerprints_follow_the_weights():
    one, same, other = tiny(), tiny(), tiny()
    with torch.no_grad():
        other.conv.bias.add_(1)
    assert declared(one).sha256 == declared(same).sha256 != declared(other).sha256
    assert declared(one, sha256="a" * 64).sha256 == "a" * 64


def test_a_network_of_other_channels_is_named():
    prior = declared(lambda x, time: torch.cat([x, x], 1))
    with pytest.raises(ShapeError, match=r"returned \(1, 2, 4, 4\).*learned_variance=True"):
        prior(image(1, 1, 4, 4), level(1.0))
    learned = prior.described(learned_variance=True)
    assert learned(image(1, 1, 4, 4), level(1.0)).shape == (1, 1, 4, 4)


def test_the_error_is_measured_or_that_of_white_images():
    prior = declared(lambda x, time: torch.zeros_like(x))
    sigma = torch.tensor([0.01, 0.5, 100.0], dtype=torch.float64)
    expected = 0.25 * sigma**2 / (0.25 + sigma**2)
    torch.testing.assert_close(prior.error_variance(sigma), expected)
    torch.testing.assert_close(
        prior.described(variance=0.04).error_variance(sigma), 0.04 * sigma**2 / (0.04 + sigma**2)
    )
    # A network that returns 0 for the noise is the identity: its error is sigma squared.
    clean = torch.zeros(64, 1, 16, 16)
    measured = prior.measured(clean, (0.1, 1.0), torch.Generator().manual_seed(0))
    found = measured.error_variance(torch.tensor([0.1, 1.0, 0.01], dtype=torch.float64))
    # 16384 numbers: the mean of their squares is within 5 * sqrt(2 / 16384) = 5.5 %.
    torch.testing.assert_close(
        found, torch.tensor([1e-2, 1.0, 1e-4], dtype=torch.float64), rtol=0.055, atol=0
    )
    unknown = declared(lambda x, time: x, value_range=(-float("inf"), float("inf")))
    with pytest.raises(PriorError, match="declare one"):
        unknown.error_variance(sigma)


def test_cards_are_checked():
    card = declared(tiny()).card
    for fields, rule in (
        ({"sha256": "abc"}, "64 hexadecimal"),
        ({"channels": 0}, "at least 1"),
        ({"value_range": (1.0, 0.0)}, "increasing"),
        ({"dimensions": 4}, "1, 2 or 3"),
        ({"size": (4,)}, "all dimensions"),
        ({"variance": 0.0}, "positive"),
        ({"error_sigmas": (1.0,), "error_variances": (1.0,)}, "as long"),
    ):
        with pytest.raises(PriorError, match=rule):
            dataclasses.replace(card, **fields)


def test_guidance_of_two_priors():
    good, bad = declared(tiny(), name="good"), declared(tiny(2.0), name="bad")
    guided = GuidedPrior(good, bad, 1.5)
    x, sigma = image(2, 1, 8, 8), torch.tensor([0.2, 2.0], dtype=torch.float64)
    expected = bad(x, sigma) + 1.5 * (good(x, sigma) - bad(x, sigma))
    torch.testing.assert_close(guided(x, sigma), expected)
    assert isinstance(guided, Prior)
    assert (guided.sigma_min, guided.sigma_max) == (good.sigma_min, good.sigma_max)
    assert len(guided.sha256) == 64
    torch.testing.assert_close(guided.error_variance(sigma), good.error_variance(sigma))
    guided.check_shape((1, 8, 8))
    with pytest.raises(ValueError, match="other ranges"):
        GuidedPrior(good, declared(tiny(), value_range=(0.0, 1.0)), 1.5)
    with pytest.raises(ValueError, match="finite"):
        GuidedPrior(good, bad, float("nan"))


def test_a_sampler_cannot_tell_it_from_the_closed_form():
    """The exact noise prediction of a Gaussian, declared, against GaussianPrior itself."""
    schedule, v = DiscreteSchedule.linear(), 0.3
    levels = torch.tensor(schedule.levels, dtype=torch.float64)

    def network(x_t, step):
        low = step.double().floor().long().clamp(0, 998)
        logs = levels[low].log(), levels[low + 1].log()
        sigma = (logs[0] + (step.double() - low) * (logs[1] - logs[0])).exp()
        sigma = sigma.to(x_t.dtype)[:, None, None, None]
        return x_t * sigma * (1 + sigma**2).sqrt() / (v + sigma**2)

    ours = declared(network, Predicts(Target.EPSILON, schedule), variance=v)
    exact = GaussianPrior.dense(torch.zeros(1, 4, 4), v * torch.eye(16))
    mask = (torch.arange(16) % 2).reshape(1, 1, 4, 4).double()
    problem = Problem(image(2, 1, 4, 4).double() * mask, Inpainting(mask), Gaussian(0.1))
    options = {"samples": 3, "seed": 4, "progress": False}
    sigmas = karras(12, 0.02, 20.0)
    found = [sample(problem, prior, DDS(), sigmas, **options).x for prior in (ours, exact)]
    # The network is told a float32-like fraction of a step: its sigma is exact to 1e-9.
    torch.testing.assert_close(found[0], found[1], rtol=1e-6, atol=1e-6)


def test_wrong_declarations_change_the_result():
    """The kinds of mistake that only a check on images can find: here they differ by far."""
    x, sigma = image(1, 1, 8, 8), level(0.5)
    network = tiny()
    results = [
        declared(network, Predicts(target, EPSILON.schedule))(x, sigma)
        for target in (Target.EPSILON, Target.V, Target.X0, Target.SCORE)
    ]
    results.append(
        declared(network, Predicts(Target.SCORE, VarianceExploding(0.01, 9.0)))(x, sigma)
    )
    for i, one in enumerate(results):
        for other in results[:i]:
            assert (one - other).abs().max() > 0.01
