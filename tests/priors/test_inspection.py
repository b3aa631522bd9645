"""Every mistake is made on purpose, found and named; what is right passes.

Two kinds of prior: exact Gaussian ones, on images drawn from them, where no wrong interpretation
can be better but by chance; and the embedded networks on the images that come with the package.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from invdiff.errors import PriorError, ShapeError
from invdiff.inspection import Inspection, KnownImage, inspect_prior, known_images
from invdiff.inspection.report import draw_inspection, inspection_text
from invdiff.priors import AffinePrior
from invdiff.priors.gaussian import GaussianPrior
from invdiff.rng import Rng

SIDE = 32
Denoiser = Callable[[Tensor, Tensor], Tensor]


@dataclass
class Wrong:
    """A prior as somebody may declare it."""

    denoiser: Any
    value_range: tuple[float, float] = (-1.0, 1.0)
    channels: tuple[int, ...] = (3,)
    sigma_min: float = 0.002
    sigma_max: float = 100.0
    name: str = "wrong"
    sha256: str = "0" * 64

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self.denoiser(x, sigma)

    def check_shape(self, shape: tuple[int, ...]) -> None:
        if shape[0] not in self.channels:
            raise ShapeError(f"{shape}")

    def error_variance(self, sigma: Tensor) -> Tensor:
        return sigma.square()


class Exact(AffinePrior):
    """Of a short representation: the digest in a large Gaussian's takes minutes to compute."""

    __repr__ = object.__repr__


def colourful() -> GaussianPrior:
    """Smooth images on [0, 1]: red is bright and busy, blue dark and calm."""
    rows, columns = np.meshgrid(np.fft.fftfreq(SIDE), np.fft.fftfreq(SIDE), indexing="ij")
    spectrum = torch.from_numpy(1 / (rows**2 + columns**2 + 0.02**2))
    spectrum = spectrum / spectrum.mean()
    size = torch.tensor([0.22, 0.15, 0.06], dtype=torch.float64)[:, None, None]
    mean = torch.tensor([0.65, 0.5, 0.25], dtype=torch.float64)[:, None, None]
    return GaussianPrior.stationary(mean.expand(3, SIDE, SIDE).clone(), size**2 * spectrum)


@pytest.fixture(scope="module")
def images() -> list[KnownImage]:
    draws = colourful().draw(Rng(0, [0, 1], 1)).float()
    return [KnownImage(f"draw {i}", "draw", values) for i, values in enumerate(draws)]


@pytest.fixture(scope="module")
def exact() -> Denoiser:
    """The denoiser of a network trained on [-1, 1]."""
    return Exact(colourful(), 2.0, -1.0)


def level(sigma: Tensor, like: Tensor) -> Tensor:
    return sigma.reshape(-1, *[1] * (like.ndim - 1)).to(like)


def alpha(s: Tensor) -> Tensor:
    return 1 / (1 + s**2).sqrt()


# What a network of the state x_t = alpha x says, in the usual words, and how to undo it.
ANSWERS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "x0": lambda x, x0, s: x0,
    "epsilon": lambda x, x0, s: (x - x0) / s,
    "v": lambda x, x0, s: alpha(s) * (x - x0) / s - alpha(s) * s * x0,
    "score": lambda x, x0, s: -(x - x0) / s / (alpha(s) * s),
    "velocity": lambda x, x0, s: (x - x0) / s - x0,
    "residual": lambda x, x0, s: x - x0,
}
UNDONE: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "x0": lambda x, f, s: f,
    "epsilon": lambda x, f, s: x - s * f,
    "v": lambda x, f, s: alpha(s) * (alpha(s) * x) - alpha(s) * s * f,
    "score": lambda x, f, s: (alpha(s) * x + (alpha(s) * s) ** 2 * f) / alpha(s),
    "velocity": lambda x, f, s: x / (1 + s) - s / (1 + s) * f,
    "residual": lambda x, f, s: x - f,
}


def misread(denoiser: Denoiser, declared: str, actual: str, sign: float = 1.0) -> Wrong:
    def wrong(x: Tensor, sigma: Tensor) -> Tensor:
        s = level(sigma, x)
        answer = sign * ANSWERS[actual](x, denoiser(x, sigma), s)
        return UNDONE[declared](x, answer, s)

    return Wrong(wrong)


def inspect(prior: Any, images: list[KnownImage], **options: Any) -> Inspection:
    return inspect_prior(prior, images=images, **options)


def test_what_is_right_passes(exact, images):
    found = inspect(Wrong(exact), images)
    assert found.ok and not found.advice and not found.faults
    assert found.verdict.startswith("Denoises as declared: +")
    assert found.ranking[0][0] == "as declared"


@pytest.mark.parametrize("form", ["epsilon", "v", "score", "velocity", "residual"])
def test_every_form_that_is_declared_rightly_passes(exact, images, form):
    assert inspect(misread(exact, form, form), images, declared=form).ok


COMMON, RARE = ("x0", "epsilon", "v"), ("score", "velocity", "residual")
PAIRS = [
    *((a, b) for a in COMMON for b in COMMON if a != b),
    *(("x0", b) for b in RARE),
    *((a, "epsilon") for a in RARE),
]


@pytest.mark.parametrize(("declared", "actual"), PAIRS)
def test_a_form_declared_as_another_is_named(exact, images, declared, actual):
    found = inspect(misread(exact, declared, actual), images, declared=declared)
    article = "an" if actual in ("epsilon", "x0") else "a"
    assert found.verdict == f"Looks like {article} {actual} model declared as {declared}."
    assert found.advice == f"Declare it as {actual}." and not found.ok


@pytest.mark.parametrize(
    ("declared", "actual"), [("x0", "epsilon"), ("epsilon", "v"), ("v", "epsilon"), ("x0", "v")]
)
def test_the_declared_form_need_not_be_known(exact, images, declared, actual):
    found = inspect(misread(exact, declared, actual), images)
    assert f"{actual} model declared as {declared}" in found.verdict


def test_the_declared_form_is_read_from_the_prior(exact, images):
    from types import SimpleNamespace

    prior: Any = misread(exact, "epsilon", "v")
    prior.parametrisation = SimpleNamespace(target=SimpleNamespace(value="epsilon"))
    found = inspect(prior, images)
    assert found.verdict == "Looks like a v model declared as epsilon."


@pytest.mark.parametrize("form", ["epsilon", "v", "x0", "velocity"])
def test_a_reversed_sign_is_named(exact, images, form):
    found = inspect(misread(exact, form, form, sign=-1.0), images, declared=form)
    assert "the sign of the network's output is reversed" in found.verdict
    assert found.advice == "Negate its output."


@pytest.mark.parametrize(
    ("declared", "name"), [((0.0, 1.0), "[0, 1]"), ((0.0, 255.0), "[0, 255]")], ids=str
)
def test_a_wrong_range_is_named_and_the_advice_mends_it(exact, images, declared, name):
    found = inspect(Wrong(exact, declared), images)
    assert found.verdict == f"Looks like {name} data given to a [-1, 1] model."
    scale, offset = (float(part.split("=")[1].strip(").")) for part in
                     found.advice.split("AffinePrior(prior, ")[1].split(", "))  # fmt: skip
    mended = AffinePrior(Wrong(exact), scale, offset)
    assert mended.value_range == declared
    assert inspect(mended, images).ok


def test_a_network_on_the_unit_range_declared_on_minus_one_to_one(images):
    found = inspect(Wrong(colourful()), images)
    assert found.verdict == "Looks like [-1, 1] data given to a [0, 1] model."


def test_reversed_channels_are_named(exact, images):
    found = inspect(Wrong(lambda x, s: exact(x.flip(1), s).flip(1)), images)
    assert found.verdict == "Looks like RGB images given to a BGR model."


def test_inverted_contrast_is_named(exact, images):
    found = inspect(Wrong(lambda x, s: -exact(-x, s)), images)
    assert found.verdict == "Looks like images given with inverted contrast."


@pytest.mark.parametrize(("factor", "name"), [(2.0, "1/2"), (0.5, "2"), (255.0, "1/255")])
def test_a_noise_level_off_by_a_factor_is_named(exact, images, factor, name):
    """The network is told `factor` times the level there is."""
    found = inspect(Wrong(lambda x, s: exact(x, factor * s)), images)
    assert f"should be told {name} times the noise level" in found.verdict
    assert found.advice.startswith(f"Multiply sigma by {name}")


@pytest.mark.parametrize(("power", "words"), [(2, "told sigma told"), (0.5, "variance sigma^2")])
def test_variance_for_deviation_is_named(exact, images, power, words):
    found = inspect(Wrong(lambda x, s: exact(x, s**power)), images)
    assert words in found.verdict and not found.ok


def levels(schedule: str) -> np.ndarray:
    """The noise levels of a thousand steps, from the betas as their papers and codes have them."""
    if schedule == "cosine":  # Nichol and Dhariwal (2021), eq. 17, betas at most 0.999

        def bar(t: float) -> float:
            return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2

        betas = np.array([min(1 - bar((i + 1) / 1000) / bar(i / 1000), 0.999)
                          for i in range(1000)])  # fmt: skip
    elif schedule == "linear":
        betas = np.linspace(1e-4, 0.02, 1000)
    else:
        betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    kept = np.cumprod(1 - betas)
    return np.sqrt((1 - kept) / kept)


def discrete(exact: Denoiser, declared: np.ndarray, actual: np.ndarray, form: str) -> Wrong:
    """A network of steps, whose step is looked up in another table than it was trained with."""

    def network(state: Tensor, step: float) -> Tensor:
        s = torch.tensor(math.exp(np.interp(step, np.arange(1000), np.log(actual))))
        x = state / alpha(s)
        return ANSWERS[form](x, exact(x, s), level(s, x))

    def wrong(x: Tensor, sigma: Tensor) -> Tensor:
        rows = []
        for row, s in zip(x, sigma.expand(len(x)), strict=True):
            step = np.interp(math.log(s), np.log(declared), np.arange(1000))
            answer = network(row[None] * alpha(s.to(row)), step)
            rows.append(UNDONE[form](row[None], answer, s.to(row)))
        return torch.cat(rows)

    return Wrong(wrong)


NAMES = ["linear", "scaled linear", "cosine"]


@pytest.mark.parametrize(
    ("declared", "actual", "form"),
    [
        *((a, b, "epsilon") for a in NAMES for b in NAMES),
        ("linear", "cosine", "v"),
        ("cosine", "linear", "x0"),
    ],
)
def test_a_wrong_schedule_is_named(exact, images, declared, actual, form):
    prior = discrete(exact, levels(declared), levels(actual), form)
    found = inspect(prior, images, declared=form)
    if declared == actual:
        assert found.ok
    else:
        assert f"the wrong schedule: a {actual} one declared as {declared}" in found.verdict
        assert found.advice == f"Declare the {actual} schedule."


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_reversed_time_is_named(exact, images, schedule):
    """The network's own steps are counted from its other end."""
    table = levels(schedule)

    def wrong(x: Tensor, sigma: Tensor) -> Tensor:
        rows = []
        for row, s in zip(x, sigma.expand(len(x)), strict=True):
            step = np.interp(math.log(s), np.log(table), np.arange(1000))
            other = math.exp(np.interp(999 - step, np.arange(1000), np.log(table)))
            t = torch.tensor(other, dtype=torch.float64)
            state = row[None] * alpha(s.to(row))
            x0 = exact(state / alpha(t.to(row)), t)
            answer = ANSWERS["epsilon"](state / alpha(t.to(row)), x0, t.to(row))
            rows.append(UNDONE["epsilon"](row[None], answer, s.to(row)))
        return torch.cat(rows)

    found = inspect(Wrong(wrong), images, declared="epsilon")
    assert f"the direction of time reversed ({schedule} schedule)" in found.verdict


def test_a_missing_and_a_needless_scale_of_the_input_are_named(exact, images):
    """Of an epsilon model; where x0 is predicted the same mistake costs little."""

    def scaled(x: Tensor, sigma: Tensor, power: int) -> Tensor:
        s = level(sigma, x)
        state = x * alpha(s) ** power
        answer = ANSWERS["epsilon"](state, exact(state, sigma), s)
        return UNDONE["epsilon"](x, answer, s)

    missing = inspect(Wrong(lambda x, s: scaled(x, s, -1)), images, declared="epsilon")
    assert "scaled state x / sqrt(1 + sigma^2) given x itself" in missing.verdict
    needless = inspect(Wrong(lambda x, s: scaled(x, s, 1)), images, declared="epsilon")
    assert "a model of x itself given the scaled state" in needless.verdict


def test_learned_variance_is_named_and_looked_through(exact, images):
    found = inspect(Wrong(lambda x, s: torch.cat([exact(x, s), 0 * x], 1)), images)
    assert not found.ok and found.verdict.startswith("Denoises as declared")
    assert "6 channels for images of 3: the second half is the learned variance" in found.faults[0]


def test_learned_variance_that_breaks_the_call_is_named(exact, images):
    def wrong(x: Tensor, sigma: Tensor) -> Tensor:
        return x - level(sigma, x) * torch.cat([exact(x, sigma), x], 1)

    with pytest.raises(PriorError, match="second half is the learned variance"):
        inspect(Wrong(wrong), images)


def test_training_mode_is_named(exact, images):
    def dropout(x: Tensor, sigma: Tensor) -> Tensor:
        return torch.nn.functional.dropout(exact(x, sigma), 0.1)

    torch.manual_seed(0)
    assert "training mode (dropout)" in inspect(Wrong(dropout), images).faults[0]

    def batch_norm(x: Tensor, sigma: Tensor) -> Tensor:
        return exact(x, sigma) * x.std() / (1 + x.std()) + x.flip(0)

    assert "batch normalisation" in inspect(Wrong(batch_norm), images).faults[0]


def test_one_level_for_all_rows_is_named(exact, images):
    found = inspect(Wrong(lambda x, s: exact(x, s.max() + s.numel() - 1)), images)
    assert any("sigma of shape (b,)" in fault for fault in found.faults)


def test_clipping_and_missing_derivatives_are_noted(exact, images):
    found = inspect(Wrong(lambda x, s: exact(x, s).clamp(-0.5, 0.5)), images)
    assert any("seems to be clipped" in note for note in found.notes)
    found = inspect(Wrong(lambda x, s: exact(x.detach(), s)), images)
    assert any("no usable derivative" in note for note in found.notes)


def test_answers_that_are_not_finite_or_of_another_shape_are_named(exact, images):
    found = inspect(Wrong(lambda x, s: exact(x, s) / 0 * 0), images)
    assert "NaN or infinite" in found.faults[0] and not found.ok
    with pytest.raises(PriorError, match=r"shape \(2, 3, 31, 32\)"):
        inspect(Wrong(lambda x, s: exact(x, s)[:, :, 1:]), images)


def test_untrained_weights_are_no_known_mistake(images):
    """Random convolutions denoise in no interpretation."""
    torch.manual_seed(0)
    network = torch.nn.Conv2d(3, 3, 5, padding=2).requires_grad_(False)
    found = inspect(Wrong(lambda x, s: network(x)), images)
    assert found.verdict.startswith("Does not denoise") and "trained weights" in found.advice
    assert not found.ok


def test_other_levels_and_missing_ranges_are_noted(exact, images):
    prior = Wrong(exact, (-math.inf, math.inf))
    found = inspect(prior, images)
    assert found.ok and "declares no range" in found.notes[0]
    odd = inspect(Wrong(exact, sigma_min=10.0, sigma_max=1000.0), images)
    assert any("in other units" in note for note in odd.notes)
    low = inspect(Wrong(exact, sigma_max=0.4), images)
    assert low.sigmas == pytest.approx((0.1, 0.2, 0.4)) and low.ok


def test_averaged_weights_are_spoken_of_honestly(exact, images):
    assert "cannot tell averaged (EMA) weights from raw" in inspect(Wrong(exact), images).notes[-1]


@pytest.mark.parametrize("size", [28, 128, 512])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_known_images_are_of_any_size_and_lie_on_the_range(channels, size):
    for image in known_images(channels, size):
        assert image.values.shape == (channels, size, size)
        assert float(image.values.abs().max()) <= 1.5 and float(image.values.std()) > 0.02
    with pytest.raises(ValueError, match="only with 1, 2 or 3"):
        known_images(4, size)


def test_priors_without_square_images_are_refused(exact):
    with pytest.raises(ShapeError, match="Pass images of your own"):
        inspect_prior(Wrong(exact, channels=(5,)))
    with pytest.raises(ValueError, match="no test images with 4 channels"):
        inspect_prior(Wrong(exact, channels=(4,)))


def test_the_report_holds_everything(exact, images, tmp_path):
    found = inspect(misread(exact, "x0", "epsilon"), images)
    text = inspection_text(found)
    for part in (found.verdict, found.advice, "total variation", "as found", "EMA"):
        assert part in text
    assert max(map(len, text.splitlines())) < 140
    content = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert set(content["psnr"]) == {"noisy", "total variation", "as declared", "as found"}
    assert content["ok"] is False and len(content["sigmas"]) == 3
    draw_inspection(tmp_path / "figure.png", found)
    assert (tmp_path / "figure.png").read_bytes()[:4] == b"\x89PNG"
