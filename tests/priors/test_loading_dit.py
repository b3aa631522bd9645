"""DiT and SiT: round trips against diffusers' transformer, whose names and waves differ."""

from __future__ import annotations

import pytest
import torch
from loading_helpers import SIGMAS, close, fill, image, level

from invdiff.errors import PriorError, ShapeError
from invdiff.priors import ClassConditional, GuidedPrior
from invdiff.priors.loading import load_dit, load_sit
from invdiff.priors.loading.dit_network import DiTLayout, DiTNetwork

diffusers = pytest.importorskip("diffusers")

LAYOUT = DiTLayout(
    channels=4, out_channels=8, patch=2, tokens=16, width=48, heads=3, hidden=192, depth=2,
    classes=6,
)  # fmt: skip


def theirs(state: dict[str, torch.Tensor]) -> torch.nn.Module:
    """diffusers' DiT with the same weights; its norms and waves set to the original's."""
    model = diffusers.DiTTransformer2DModel(
        num_attention_heads=LAYOUT.heads,
        attention_head_dim=LAYOUT.width // LAYOUT.heads,
        in_channels=4,
        out_channels=8,
        num_layers=LAYOUT.depth,
        sample_size=8,
        patch_size=2,
        num_embeds_ada_norm=5,
        norm_eps=1e-6,
    )
    new = {"pos_embed.pos_embed": state["pos_embed"]}
    for kind in ("weight", "bias"):
        new[f"pos_embed.proj.{kind}"] = state[f"x_embedder.proj.{kind}"]
        new[f"proj_out_1.{kind}"] = state[f"final_layer.adaLN_modulation.1.{kind}"]
        new[f"proj_out_2.{kind}"] = state[f"final_layer.linear.{kind}"]
        for i in range(LAYOUT.depth):
            here, block = f"transformer_blocks.{i}", f"blocks.{i}"
            for name, part in zip(
                ("to_q", "to_k", "to_v"), state[f"{block}.attn.qkv.{kind}"].chunk(3), strict=True
            ):
                new[f"{here}.attn1.{name}.{kind}"] = part
            new[f"{here}.attn1.to_out.0.{kind}"] = state[f"{block}.attn.proj.{kind}"]
            new[f"{here}.ff.net.0.proj.{kind}"] = state[f"{block}.mlp.fc1.{kind}"]
            new[f"{here}.ff.net.2.{kind}"] = state[f"{block}.mlp.fc2.{kind}"]
            new[f"{here}.norm1.linear.{kind}"] = state[f"{block}.adaLN_modulation.1.{kind}"]
            for ours, other in ((0, "linear_1"), (2, "linear_2")):
                key = f"{here}.norm1.emb.timestep_embedder.{other}.{kind}"
                new[key] = state[f"t_embedder.mlp.{ours}.{kind}"]
    for i in range(LAYOUT.depth):
        key = f"transformer_blocks.{i}.norm1.emb.class_embedder.embedding_table.weight"
        new[key] = state["y_embedder.embedding_table.weight"]
    del new["pos_embed.pos_embed"]
    model.load_state_dict(new, strict=False)
    model.pos_embed.pos_embed = state["pos_embed"]
    for block in model.transformer_blocks:
        block.norm1.emb.time_proj.downscale_freq_shift = 0
    return model.eval()


@pytest.fixture
def network() -> DiTNetwork:
    return fill(DiTNetwork(LAYOUT))


def test_dit_round_trip(network, tmp_path):
    torch.save(network.state_dict(), tmp_path / "dit.pt")
    prior = load_dit(tmp_path / "dit.pt", heads=3)
    original = theirs(network.state_dict())
    x = image(2, 4, 8, 8)
    for sigma in SIGMAS:
        time = prior.parametrisation.schedule.time(level(sigma)).float().expand(2)
        with torch.no_grad():
            out = original(
                x / (1 + sigma**2) ** 0.5, time, torch.tensor([3, 3]), return_dict=False
            )[0]
        close(ClassConditional(prior, 3)(x, level(sigma)), x - sigma * out[:, :4])


def test_sit_round_trip(network, tmp_path):
    """t from noise to image, v = x0 - n: x0 = x_t + (1 - t) v."""
    torch.save({"ema": network.state_dict(), "args": 3}, tmp_path / "sit.pt")
    prior = load_sit(tmp_path / "sit.pt", heads=3)
    assert prior.card.weights == "'ema' (ema)"
    original = theirs(network.state_dict())
    x = image(2, 4, 8, 8)
    for sigma in SIGMAS:
        t = 1 / (1 + sigma)
        for label in (0, None):
            row = LAYOUT.classes - 1 if label is None else label
            with torch.no_grad():
                out = original(
                    t * x, torch.full((2,), t), torch.tensor([row, row]), return_dict=False
                )[0]
            close(prior.denoise(x, level(sigma), label), t * x + (1 - t) * out[:, :4])


def test_classifier_free_guidance(network, tmp_path):
    torch.save(network.state_dict(), tmp_path / "sit.pt")
    prior = load_sit(tmp_path / "sit.pt", heads=3)
    x, sigma = image(2, 4, 8, 8), level(0.9)
    told, free = prior.denoise(x, sigma, 4), prior(x, sigma)
    guided = GuidedPrior(ClassConditional(prior, 4), prior, 2.5)
    torch.testing.assert_close(guided(x, sigma), free + 2.5 * (told - free))
    assert "class 4" in guided.name
    for weight, expected in ((0.0, free), (1.0, told)):
        found = GuidedPrior(ClassConditional(prior, 4), prior, weight)(x, sigma)
        torch.testing.assert_close(found, expected)


def test_sizes_and_heads(network, tmp_path):
    torch.save(network.state_dict(), tmp_path / "sit.pt")
    with pytest.raises(PriorError, match="pass heads"):
        load_sit(tmp_path / "sit.pt")
    with pytest.raises(ShapeError, match=r"\*\(8, 8\)"):
        load_sit(tmp_path / "sit.pt", heads=3)(image(1, 4, 8, 10), level(1.0))
