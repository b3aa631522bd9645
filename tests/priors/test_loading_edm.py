"""EDM through deepinv's classes, and EDM2 against a second implementation."""

from __future__ import annotations

import pytest
import torch
from deepinv.models import ADMUNet, NCSNpp
from edm2_reference import edm2
from loading_helpers import SIGMAS, close, fill, image, level
from safetensors.torch import save_file

from invdiff.errors import PriorError
from invdiff.priors import ClassConditional
from invdiff.priors.loading import Predicts, Target, VarianceExploding, load_edm, load_edm2
from invdiff.priors.loading.edm2_network import EDM2Layout, EDM2Network

ARGUMENTS = {
    "img_resolution": 16,
    "in_channels": 2,
    "out_channels": 2,
    "model_channels": 128,
    "channel_mult": (1, 2),
    "num_blocks": 1,
    "attn_resolutions": (8,),
    "pretrained": None,
    "pixel_std": 0.5,
}
NETWORKS = {
    "adm": (ADMUNet, {}),
    "adm-classes-augmented": (ADMUNet, {"label_dim": 3, "augment_dim": 9}),
    "ncsnpp": (NCSNpp, {"model_type": "ncsn", "augment_dim": 9}),
    "ddpmpp-classes": (NCSNpp, {"model_type": "ddpm", "augment_dim": 0, "label_dim": 4}),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_edm_round_trip(name, tmp_path):
    """The file is of the network within EDMPrecond, as InverseBench saves it."""
    kind, options = NETWORKS[name]
    network = fill(kind(**ARGUMENTS, **options))
    state = {f"model.{key}": value for key, value in network.state_dict().items()}
    torch.save({"ema": state, "net": {}, "nimg": 7}, tmp_path / "edm.pt")
    prior = load_edm(tmp_path / "edm.pt")
    assert (prior.card.weights, prior.card.multiple) == ("'ema' (ema)", 2)
    classes = options.get("label_dim", 0)
    assert prior.card.classes == classes
    hot = torch.eye(classes)[[1, 1]] if classes else None
    denoiser = ClassConditional(prior, 1) if classes else prior
    x = image(2, 2, 16, 16)
    for sigma in SIGMAS:
        root = (sigma**2 + 0.25) ** 0.5
        time = torch.full((2,), sigma).log() / 4
        with torch.no_grad():
            raw = network.forward_unet(x / root, time, class_labels=hot)
            whole = network(x, torch.tensor(sigma), class_labels=hot)
        expected = 0.25 / root**2 * x + 0.5 * sigma / root * raw
        close(denoiser(x, level(sigma)), expected)
        close(denoiser(x, level(sigma)), whole)


def test_edm_networks_in_other_preconditionings(tmp_path):
    """A network that predicts the noise and is told sigma."""
    network = fill(NCSNpp(model_type="ncsn", augment_dim=0, **ARGUMENTS))
    torch.save(network.state_dict(), tmp_path / "ve.pt")
    prior = load_edm(
        tmp_path / "ve.pt", parametrisation=Predicts(Target.EPSILON, VarianceExploding(0.1, 9.0))
    )
    x, sigma = image(2, 2, 16, 16), 0.7
    with torch.no_grad():
        raw = network.forward_unet(x, torch.full((2,), sigma))
    close(prior(x, level(sigma)), x - sigma * raw)


def test_edm_refuses_what_deepinv_lacks(tmp_path):
    state = fill(ADMUNet(**ARGUMENTS)).state_dict()
    cases = {
        "pyramid": (state | {"enc.8x8_aux_skip.weight": torch.zeros(1)}, "image pyramid"),
        "missing": ({k: v for k, v in state.items() if "in1.conv0" not in k}, "missing"),
        "empty": ({k: v for k, v in state.items() if "map_" not in k}, "no state dict of EDM"),
    }
    for name, (broken, message) in cases.items():
        torch.save(broken, tmp_path / f"{name}.pt")
        with pytest.raises(PriorError, match=message):
            load_edm(tmp_path / f"{name}.pt")
    thin = ADMUNet(**(ARGUMENTS | {"model_channels": 64})).state_dict()
    torch.save(thin, tmp_path / "thin.pt")
    with pytest.raises(PriorError, match="from 128 on"):
        load_edm(tmp_path / "thin.pt")


LAYOUTS = {
    "plain": EDM2Layout(3, 16, (64, 128), 1, (1,), 64, 128, 0),
    "classes-latent": EDM2Layout(4, 16, (64, 64, 128), 2, (1, 2), 64, 128, 5),
}


def edm2_state(layout: EDM2Layout) -> dict[str, torch.Tensor]:
    network = EDM2Network(layout)
    generator = torch.Generator().manual_seed(3)
    state = {
        key: torch.randn(value.shape, generator=generator)
        for key, value in network.state_dict().items()
    }
    return state | {"out_gain": torch.tensor(1.0)}


@pytest.mark.parametrize("name", LAYOUTS)
def test_edm2_round_trip(name, tmp_path):
    """The file is of Precond, with the head for uncertainty, in safetensors."""
    layout = LAYOUTS[name]
    state = edm2_state(layout)
    saved = {f"unet.{key}": value for key, value in state.items()}
    saved |= {"logvar_fourier.freqs": torch.zeros(8), "logvar_linear.weight": torch.zeros(1, 8)}
    save_file(saved, tmp_path / "edm2.safetensors")
    prior = load_edm2(tmp_path / "edm2.safetensors")
    assert prior.network.layout == layout
    denoiser = ClassConditional(prior, 2) if layout.classes else prior
    hot = torch.eye(layout.classes)[[2, 2]] if layout.classes else None
    x = image(2, layout.channels, 16, 16)
    for sigma in SIGMAS:
        root = (sigma**2 + 0.25) ** 0.5
        raw = edm2(state, x / root, torch.full((2,), sigma).log() / 4, hot)
        close(denoiser(x, level(sigma)), 0.25 / root**2 * x + 0.5 * sigma / root * raw)


def test_edm2_preserves_magnitudes():
    """The paper's principle: any weights, variance 1 in, variance near 1 out."""
    layout = LAYOUTS["classes-latent"]
    network = EDM2Network(layout)
    network.load_state_dict(edm2_state(layout))
    for value in network.parameters():
        value.data.mul_(7.0) if value.ndim > 1 else None  # a scale that must not matter
    x = image(16, 4, 16, 16)
    with torch.no_grad():
        out = network(x, image(16, seed=1), torch.arange(16) % 5)
    assert 0.5 < float(out.std()) < 2.0


def test_edm2_wrong_files(tmp_path):
    state = edm2_state(LAYOUTS["plain"])
    torch.save({k: v for k, v in state.items() if "block0.emb_gain" not in k}, tmp_path / "a.pt")
    with pytest.raises(PriorError, match="no state dict of EDM2"):
        load_edm2(tmp_path / "a.pt")
    torch.save(state | {"enc.8x8_block0.emb_gain": torch.zeros(2)}, tmp_path / "b.pt")
    with pytest.raises(PriorError, match="another shape"):
        load_edm2(tmp_path / "b.pt")
