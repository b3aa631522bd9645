"""score_sde: round trips against a second implementation, from the checkpoint to the digits."""

from __future__ import annotations

import math

import pytest
import torch
from loading_helpers import close, fill, image, level
from score_sde_reference import ScoreSDE

from invdiff.errors import PriorError
from invdiff.priors.loading import VarianceExploding, load_score_sde

VARIANTS = {
    "ve": (1, 128, (1, 1), 1, (1,), True, False),
    "ve-centred-three-levels": (1, 128, (1, 2, 2), 1, (1,), True, True),
    "ve-two-blocks": (3, 128, (1, 2), 2, (0,), True, False),
    "vp": (1, 128, (1, 1), 1, (1,), False, True),
    "vp-two-channels": (2, 128, (1, 2), 1, (), False, True),
    "one-level": (1, 128, (1,), 1, (0,), True, False),
}


def checkpoint(network, path, average: bool = True, prefix: str = "module.") -> None:
    """As score_sde saves it: the model has other numbers than its average."""
    model = {f"{prefix}{key}": value for key, value in network.state_dict().items()}
    noisy = {key: value + 0.1 for key, value in model.items()}
    fixed = f"{prefix}all_modules.0.W"
    if fixed in model and network.fourier:
        noisy[fixed] = model[fixed]
    shadow = [p.clone() for n, p in network.named_parameters() if n != "all_modules.0.W"]
    tree = {"optimizer": {"state": {}, "param_groups": []}, "step": 12}
    tree["model"] = (noisy if average else model) | {f"{prefix}sigmas": torch.ones(10)}
    if average:
        tree["ema"] = {"decay": 0.999, "num_updates": 12, "shadow_params": shadow}
    torch.save(tree, path)


@pytest.mark.parametrize("name", VARIANTS)
def test_round_trip(name, tmp_path):
    options = VARIANTS[name]
    network = fill(ScoreSDE(*options))
    fourier, centred = options[-2:]
    checkpoint(network, tmp_path / "checkpoint_20.pth")
    prior = load_score_sde(tmp_path / "checkpoint_20.pth", centred=centred)
    assert prior.card.weights == "'ema' (ema)"
    assert prior.value_range == ((-1.0, 1.0) if centred else (0.0, 1.0))
    assert prior.card.channels == options[0]
    x = image(2, options[0], 16, 16)
    for sigma in (0.02, 0.5, 4.0, 40.0):
        if fourier:
            with torch.no_grad():
                score = network(x, torch.full((2,), sigma))
            expected = x + sigma**2 * score
        else:
            # t of the VP-SDE by bisection on its marginal, not by the closed form.
            low, high = 1e-3, 1.0
            for _ in range(60):
                t = (low + high) / 2
                log_alpha = -0.25 * t**2 * 19.9 - 0.5 * t * 0.1
                below = math.sqrt(math.exp(-2 * log_alpha) - 1) < sigma
                low, high = (t, high) if below else (low, t)
            alpha = math.exp(log_alpha)
            std = math.sqrt(1 - alpha**2)
            with torch.no_grad():
                score = -network(alpha * x, torch.full((2,), 999 * t)) / std
            expected = (alpha * x + std**2 * score) / alpha
        close(prior(x, level(sigma)), expected)


def test_without_average_and_without_wrapper(tmp_path):
    network = fill(ScoreSDE(*VARIANTS["ve"]))
    checkpoint(network, tmp_path / "plain.pth", average=False, prefix="")
    torch.save(network.state_dict(), tmp_path / "state.pt")
    x = image(1, 1, 8, 8)
    one = load_score_sde(tmp_path / "plain.pth")
    other = load_score_sde(tmp_path / "state.pt", schedule=VarianceExploding(0.01, 378.0))
    assert one.card.weights == "'model' (not averaged)"
    assert (one.sigma_max, other.sigma_max) == (50.0, 378.0)
    assert torch.equal(one(x, level(0.3)), other(x, level(0.3)))


def test_an_average_that_does_not_fit_is_refused(tmp_path):
    network = fill(ScoreSDE(*VARIANTS["ve"]))
    checkpoint(network, tmp_path / "bad.pth")
    tree = torch.load(tmp_path / "bad.pth", weights_only=True)
    tree["ema"]["shadow_params"].pop()
    torch.save(tree, tmp_path / "bad.pth")
    with pytest.raises(PriorError, match="cannot be matched to names"):
        load_score_sde(tmp_path / "bad.pth")


def test_other_variants_are_refused(tmp_path):
    state = fill(ScoreSDE(*VARIANTS["ve"])).state_dict()
    cases = {
        "combine": state | {"all_modules.6.Conv.weight": torch.zeros(3)},
        "short": {k: v for k, v in state.items() if not k.startswith("all_modules.5.")},
        "name": state | {"something": torch.zeros(3)},
    }
    for name, broken in cases.items():
        torch.save(broken, tmp_path / f"{name}.pt")
        with pytest.raises(PriorError, match=r"score_sde network that can be loaded|do not fit"):
            load_score_sde(tmp_path / f"{name}.pt")
    torch.save(ScoreSDE(1, 64, (1, 1), 1, (), True, False).state_dict(), tmp_path / "thin.pt")
    with pytest.raises(PriorError, match="from 128 on"):
        load_score_sde(tmp_path / "thin.pt")
