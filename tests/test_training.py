"""Training: what is minimised, and that a killed run continues bit for bit."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

import training
import training_data

from invdiff.datasets.crops import CTCrops, PhotoCrops, ct_pools, resample
from invdiff.priors.card import Card
from invdiff.priors.network import NetworkPrior, load_prior
from invdiff.priors.unet import UNet

TINY = training.Config(
    "ct", widths=(8, 8), blocks=(1, 1), pixels=1024, phases=((0.0, 16), (0.5, 32)), rate=3e-3
)


class Stripes:
    """Crops with a random stripe."""

    channels = 1

    def draw(self, rng: np.random.Generator, batch: int, size: int) -> Tensor:
        x = np.full((batch, 1, size, size), -1, np.float32)
        for row in x:
            start = int(rng.integers(size - 4))
            row[0, :, start : start + 4] = rng.uniform(0, 1)
        return torch.from_numpy(x)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def train(out: Path, **options) -> training.Run:
    images = Stripes().draw(np.random.default_rng(1), 2, 32)
    settings = {"steps": 14, "every": 4, "progress_bar": False} | options
    return training.train(TINY, Stripes(), images, out, **settings)


def parameters(run: training.Run) -> list[Tensor]:
    return [*run.model.parameters(), *run.average.parameters()]


def test_a_killed_run_continues_bit_for_bit(tmp_path):
    whole = train(tmp_path / "whole")
    killed = train(tmp_path / "killed", stop_at=10)  # two steps after the last checkpoint
    assert killed.step == 10
    resumed = train(tmp_path / "killed")
    assert resumed.step == whole.step == 14
    for a, b in zip(parameters(whole), parameters(resumed), strict=True):
        assert torch.equal(a, b)
    assert [e["loss"] for e in whole.log] == [e["loss"] for e in resumed.log]
    for name in ("whole", "killed"):
        assert (tmp_path / name / "weights.safetensors").exists()
    fresh = training.build(TINY, 1, "cpu")
    pairs = zip(parameters(fresh), parameters(whole), strict=True)
    assert any(not torch.equal(a, b) for a, b in pairs)


def test_another_seed_trains_another_network(tmp_path):
    one, same = train(tmp_path / "a", steps=3), train(tmp_path / "b", steps=3)
    assert all(torch.equal(a, b) for a, b in zip(parameters(one), parameters(same), strict=True))
    first = training.draw_sigma(TINY, 8, training.generator(TINY, 0))
    second = training.draw_sigma(TINY, 8, training.generator(TINY, 1))
    assert not torch.equal(first, second)


def test_a_checkpoint_of_another_configuration_is_refused(tmp_path):
    train(tmp_path, steps=4)
    other = training.Config("ct", widths=(8, 8), blocks=(1, 1), rate=1e-3)
    with pytest.raises(ValueError, match=r"another configuration.*rate.*another --out"):
        training.load_checkpoint(training.build(other, 1, "cpu"), other, tmp_path, "cpu")


def test_steps_or_minutes_but_not_both(tmp_path):
    for options in ({"steps": None}, {"steps": 3, "minutes": 1.0}):
        with pytest.raises(ValueError, match="either steps or minutes"):
            train(tmp_path, **options)


def test_a_run_by_the_clock_ends_by_the_clock(tmp_path):
    run = train(tmp_path, steps=None, minutes=0.02)
    assert 1.2 <= run.elapsed < 6
    assert run.log[-1]["step"] == run.step
    assert run.step > 1


def test_training_lowers_the_loss_and_writes_weights_a_prior_can_read(tmp_path):
    run = train(tmp_path, steps=120, every=40)
    assert run.log[-1]["loss"] < run.log[0]["loss"]
    assert run.log[-1]["psnr25"] > run.log[0]["psnr25"] + 0.5
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [40, 80, 120]
    weights = tmp_path / "weights.safetensors"
    card = Card(
        name="stripes", version="1", status="preliminary",
        sha256=hashlib.sha256(weights.read_bytes()).hexdigest(), channels=1,
        value_range=(-1.0, 1.0), units="none", multiple=4, sigma_min=TINY.sigma_min,
        sigma_max=TINY.sigma_max, sigma_data=TINY.sigma_data, mean=0.0, variance=0.2,
        widths=TINY.widths, blocks=TINY.blocks, training={}, data=(), limits="", denoising=(),
        error_sigmas=(0.1, 1.0), error_variances=(0.01, 0.1),
    )  # fmt: skip
    (tmp_path / "card.json").write_text(card.to_json())
    prior = NetworkPrior.read(weights, tmp_path / "card.json")
    x = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    sigma = torch.tensor([0.3, 0.3])
    with torch.no_grad():
        expected = training.denoise(run.average, x, sigma, TINY.sigma_data)
    torch.testing.assert_close(prior(x, sigma), expected, rtol=5e-3, atol=5e-3)


class Affine(nn.Module):
    """A network without weights."""

    def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
        return 0.3 * x + c_noise[:, None, None, None]


def test_the_loss_is_edms_with_every_crop_weighed_by_its_error():
    r"""The squared error of D by (sigma^2 + sigma_d^2) / (sigma sigma_d)^2 is that of F, e."""
    rng = torch.Generator().manual_seed(0)
    x0, noise = torch.randn(2, 3, 1, 8, 8, generator=rng)
    sigma = torch.tensor([0.01, 0.5, 10.0])
    x = x0 + sigma[:, None, None, None] * noise
    error = (training.denoise(Affine(), x, sigma, 0.5) - x0).square().mean((1, 2, 3))
    e = (sigma**2 + 0.25) / (sigma * 0.5) ** 2 * error
    d = 0.02 + sigma**2
    found = training.loss(Affine(), x0, noise, sigma, TINY)
    torch.testing.assert_close(found, ((1 + d) / (e + d) * e).mean(), rtol=1e-3, atol=0)


def test_crops_count_by_their_relative_errors_until_noise_hides_them():
    errors = torch.tensor([0.01, 0.1, 1.0])
    moderate = training.crop_weights(errors, torch.full((3,), 0.05), TINY)
    assert moderate[0] > 3 * moderate[1] > 20 * moderate[2] / 2
    hidden = training.crop_weights(errors, torch.full((3,), 10.0), TINY)
    torch.testing.assert_close(hidden, torch.ones(3), rtol=0.01, atol=0)


def test_the_weights_of_crops_have_no_gradient():
    """Else a network could lower its loss by being wrong."""
    bias = torch.zeros(1, requires_grad=True)

    class Biased(nn.Module):
        def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
            return 0 * x + bias

    rng = torch.Generator().manual_seed(0)
    x0, noise = torch.randn(2, 3, 1, 8, 8, generator=rng)
    sigma = torch.tensor([0.1, 0.2, 0.3])
    (slope,) = torch.autograd.grad(training.loss(Biased(), x0, noise, sigma, TINY), bias)
    s = training.scalings(sigma[:, None, None, None], 0.5)
    target = (x0 - s.skip * (x0 + sigma[:, None, None, None] * noise)) / s.out
    weights = training.crop_weights(target.square().mean((1, 2, 3)), sigma, TINY)
    expected = -2 * (weights * target.mean((1, 2, 3))).mean()
    torch.testing.assert_close(slope, expected[None], rtol=1e-4, atol=1e-6)


def test_grey_pictures_get_the_same_noise_in_all_channels():
    x0 = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    x0[1] = x0[1, :1]
    noise = training.draw_noise(x0, torch.Generator().manual_seed(1))
    assert torch.equal(noise[1, 0], noise[1, 1])
    assert torch.equal(noise[1, 0], noise[1, 2])
    assert not torch.equal(noise[0, 0], noise[0, 1])


def test_the_two_parts_of_a_complex_image_get_noise_of_their_own():
    x0 = torch.zeros(2, 2, 8, 8)
    noise = training.draw_noise(x0, torch.Generator().manual_seed(1))
    assert not torch.equal(noise[0, 0], noise[0, 1])


def test_validation_measures_psnr_with_the_range_of_the_data(monkeypatch):
    """A denoiser that returns its input leaves sigma: the PSNR is 20 log10(255 / level)."""
    monkeypatch.setattr(training, "denoise", lambda model, x, sigma, sigma_data: x)
    for kind, channels in (("ct", 1), ("mr", 2)):
        config = training.Config(kind, widths=(8, 8), blocks=(1, 1))
        run = training.build(config, channels, "cpu")
        images = torch.zeros(4, channels, 64, 64)
        found = training.validate(run, config, images, "cpu")
        for level in training.LEVELS:
            expected = 20 * np.log10(255 / level)
            assert found[f"psnr{level}"] == pytest.approx(expected, abs=0.2)


def test_unknown_kinds_are_refused(tmp_path):
    with pytest.raises(ValueError, match="expected 'photo', 'ct' or 'mr'"):
        training_data.load_crops("pet", tmp_path, 128)


@pytest.fixture
def trained() -> tuple[UNet, UNet]:
    """Two networks of 3 channels with equal random weights (the last layer starts at zero)."""
    torch.manual_seed(0)
    nets = UNet(3, (8, 8), (1, 1)), UNet(3, (8, 8), (1, 1))
    for parameter in nets[0].parameters():
        nn.init.normal_(parameter, std=0.2)
    nets[1].load_state_dict(nets[0].state_dict())
    return nets


@torch.no_grad()
def test_converted_weights_denoise_images_of_another_scale_alike(trained):
    r"""D'(x; sigma) = D(s x; s sigma) / s, up to rounding."""
    net, other = trained
    other.load_state_dict(training.converted(net.state_dict(), 3, np.log(2.5)))
    x = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    sigma = torch.tensor([0.01, 0.1, 1.0, 7.0])
    expected = training.denoise(net, 2.5 * x, 2.5 * sigma, 0.5) / 2.5
    out = training.denoise(other, x, sigma, 0.2)
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)
    unshifted = training.converted(net.state_dict(), 3, 0.0)
    other.load_state_dict(unshifted)
    assert (training.denoise(other, x, sigma, 0.2) - expected).abs().max() > 1e-3


@torch.no_grad()
def test_two_equal_channels_are_denoised_as_three(trained):
    net, _ = trained
    fewer = UNet(2, (8, 8), (1, 1))
    fewer.load_state_dict(training.converted(net.state_dict(), 2, 0.0))
    x = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    level = torch.tensor([-0.5, 0.1])
    out, expected = fewer(x.expand(-1, 2, -1, -1), level), net(x.expand(-1, 3, -1, -1), level)
    torch.testing.assert_close(out, expected[:, [0, 2]], rtol=1e-4, atol=1e-5)


def test_a_run_can_start_from_an_embedded_prior():
    prior = load_prior("photo")
    sizes = {"widths": prior.card.widths, "blocks": prior.card.blocks}
    config = training.Config("mr", **sizes, sigma_data=prior.card.sigma_data, start="photo")
    run = training.build(config, 3, "cpu")
    for model in (run.model, run.average):
        for name, value in model.state_dict().items():
            torch.testing.assert_close(value, prior.network.state_dict()[name])


def test_noise_levels_have_the_stated_law():
    sigma = training.draw_sigma(TINY, 40_000, torch.Generator().manual_seed(0)).log()
    low, high = np.log(TINY.sigma_min), np.log(TINY.sigma_max)
    expected = 0.85 * TINY.log_mean + 0.15 * (low + high) / 2
    assert float(sigma.mean()) == pytest.approx(expected, abs=0.03)
    assert low - 1e-5 <= sigma.min() < low + 0.2
    assert high - 0.2 < sigma.max() <= high + 1e-5


def test_the_learning_rate_warms_up_and_falls_to_zero():
    assert training.learning_rate(TINY, 0, 0.0) == pytest.approx(TINY.rate / 300)
    assert training.learning_rate(TINY, 299, 0.0) == pytest.approx(TINY.rate)
    assert training.learning_rate(TINY, 5000, 0.5) == pytest.approx(TINY.rate / 2)
    assert training.learning_rate(TINY, 9999, 1.0) < 1e-3 * TINY.rate
    assert [training.crop_size(TINY, p) for p in (0.0, 0.49, 0.5, 1.0)] == [16, 16, 32, 32]


def test_the_held_out_slab_of_the_head_is_in_no_pool():
    rng = np.random.default_rng(0)
    volume = rng.integers(-1000, 1000, (40, 90, 90)).astype(np.int16)
    volume[18:24] = rng.integers(1500, 3000, (6, 90, 90))
    axial, strips = ct_pools(volume, (18, 24))
    assert axial.shape == (34, 90, 90)
    assert strips.shape[1] == 66
    assert axial.max() < 1000
    assert strips.max() < 1000
    leaked, _ = ct_pools(volume, (19, 24))
    assert leaked.max() > 2500


def test_compressed_slices_keep_their_units_and_lose_more_at_higher_rates():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:64, :64]
    planes = np.where((x - 32) ** 2 + (y - 30) ** 2 < 400, 40, -1000) + rng.normal(
        0, 20, (2, 64, 64)
    )
    planes = np.clip(planes, -1024, 3071).astype(np.int16)
    found = training_data.compressed(planes, (4, 16))
    assert found.shape == (4, 64, 64)
    assert found.dtype == np.int16
    errors = [np.abs(found[k] - planes[k // 2]).mean() for k in range(4)]
    assert errors[0] < 8 < errors[1] < 30  # HU; the noise is 20
    assert errors[2] < errors[3]
    outer = np.clip(np.full((1, 64, 64), 9000), -1024, 3071).astype(np.int16)
    assert np.abs(training_data.compressed(outer, (4,)) - outer).max() <= 1


def test_ct_crops_are_reproducible_and_in_range():
    rng = np.random.default_rng(0)
    pools = [rng.integers(-1200, 4000, shape).astype(np.int16)
             for shape in ((3, 128, 128), (3, 128, 128), (3, 66, 128))]  # fmt: skip
    source = CTCrops(pools, (0.5, 0.35, 0.15))
    first = source.draw(np.random.default_rng(3), 6, 64)
    assert torch.equal(first, source.draw(np.random.default_rng(3), 6, 64))
    assert not torch.equal(first, source.draw(np.random.default_rng(4), 6, 64))
    assert first.shape == (6, 1, 64, 64)
    assert first.min() >= -1.024
    assert first.max() <= 3.071


def test_a_zoomed_crop_of_a_linear_image_is_linear():
    y, x = np.mgrid[0:100, 0:120].astype(np.float32)
    image = (3 * x + 2 * y).astype(np.int16)
    out = resample(image, 50.5, 60.5, 2.0, 0.0, 32)
    np.testing.assert_allclose(out[:, 2:] - out[:, :-2], 3.0, atol=0.02)
    np.testing.assert_allclose(out[2:] - out[:-2], 2.0, atol=0.02)
    assert out.mean() == pytest.approx(3 * 60 + 2 * 50, abs=0.05)
    turned = resample(image, 50.5, 60.5, 1.0, np.pi / 2, 32)
    np.testing.assert_allclose(np.abs(np.diff(turned, axis=1)), 2.0, atol=0.02)


def test_magnified_crops_of_a_ramp_have_a_random_slope_in_every_channel(tmp_path):
    from PIL import Image

    y, x = np.mgrid[0:140, 0:140]
    ramp = np.stack([x, y, np.full_like(x, 90)], -1).astype(np.uint8)  # 1 level a pixel
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    source = PhotoCrops([tmp_path / "ramp.png"], [], grey_fraction=0.0, magnified=1.0)
    crops = source.draw(np.random.default_rng(3), 40, 16) * 127.5
    rows, columns = crops.diff(dim=2).mean((2, 3)), crops.diff(dim=3).mean((2, 3))
    slope = (rows.square() + columns.square()).sqrt()  # (40, 3), 1 / magnification
    assert slope[:, 2].abs().max() < 1e-3
    # 8 bits round each pixel by up to half a level, and bicubic weights the errors.
    assert torch.allclose(slope[:, 0], slope[:, 1], atol=0.05)
    assert slope[:, :2].min() > 1 / 3 - 0.05
    assert slope[:, :2].max() < 1 + 0.05
    assert slope[:, 0].std() > 0.1


def test_photo_crops_are_on_the_range_and_a_third_is_grey(tmp_path):
    from PIL import Image

    rng = np.random.default_rng(0)
    for i in range(3):
        pixels = rng.integers(0, 256, (140, 160, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    source = PhotoCrops(sorted(tmp_path.glob("*.png")), [])
    crops = source.draw(np.random.default_rng(1), 200, 16)
    assert crops.shape == (200, 3, 16, 16)
    assert crops.min() >= -1
    assert crops.max() <= 1
    grey = (crops == crops[:, :1]).flatten(1).all(1)
    assert 50 < int(grey.sum()) < 92
    assert torch.equal(crops, source.draw(np.random.default_rng(1), 200, 16))
