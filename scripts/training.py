"""Training a denoiser: the loss, the schedule, checkpoints, and what a run logs."""

from __future__ import annotations

import json
import math
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent))

from converted_weights import converted
from muon import Muon

from invdiff.datasets.crops import Crops
from invdiff.priors.network import load_prior
from invdiff.priors.preconditioning import scalings
from invdiff.priors.unet import UNet

LEVELS = (15, 25, 50)  # in 255ths of the range of the data
DATA_RANGE = {"photo": 2.0, "ct": 2.0, "mr": 1.0}
# What differs from Config's defaults. The parts of a complex image have a standard deviation of
# 0.2; half the batch gives twice the steps in the same time.
SETTINGS: dict[str, dict[str, Any]] = {
    "mr": {
        "sigma_data": 0.25,
        "sigma_min": 0.001,
        "sigma_max": 10.0,
        "log_mean": -2.2,
        "log_std": 1.3,
        "pixels": 32768,
        "rate": 5e-4,
        "start": "photo",
    }
}


@dataclass(frozen=True)
class Config:
    """All numbers of a training run.

    Arguments:
        kind: "photo" (3 channels, [-1, 1]), "ct" (1 channel, HU / 1000) or "mr" (2 channels,
            the real and imaginary part of magnitudes on [0, 1]).
        widths, blocks: The architecture, see UNet.
        sigma_data: The standard deviation of the images.
        sigma_min, sigma_max: The range of noise levels.
        log_mean, log_std: ln(sigma) of a training crop is normal with these, except for
        uniform: this share of crops, whose ln(sigma) is uniform over the whole range.
        pixels: The pixels of a batch.
        phases: Pairs (share of the run, size of the crops from there on).
        rate: The largest learning rate; 300 steps of warm-up, then a cosine to zero.
        floor: Of the error of a crop, for its weight, see ``crop_weights``.
        ema: The decay of the average of the weights.
        seed: Of everything random.
        start: The embedded prior whose weights it starts from; "" for random weights.
    """

    kind: str
    widths: tuple[int, ...] = (64, 96, 128, 160)
    blocks: tuple[int, ...] = (3, 2, 1, 1)
    sigma_data: float = 0.5
    sigma_min: float = 0.002
    sigma_max: float = 20.0
    log_mean: float = -1.5
    log_std: float = 1.2
    uniform: float = 0.15
    pixels: int = 65536
    phases: tuple[tuple[float, int], ...] = ((0.0, 64), (0.7, 96), (0.9, 128))
    rate: float = 8e-4
    floor: float = 0.02
    ema: float = 0.9993
    seed: int = 0
    start: str = ""


@dataclass
class Run:
    """What changes during training, and what a checkpoint holds."""

    model: nn.Module
    average: nn.Module
    optimizer: torch.optim.Optimizer
    step: int = 0
    elapsed: float = 0.0
    log: list[dict[str, float]] = field(default_factory=list)


def generator(config: Config, step: int) -> torch.Generator:
    """The noise of a step."""
    return torch.Generator().manual_seed((config.seed << 32) + step)


def draw_sigma(config: Config, batch: int, rng: torch.Generator) -> Tensor:
    """Noise levels of a batch: (b,)."""
    log = config.log_mean + config.log_std * torch.randn(batch, generator=rng)
    low, high = math.log(config.sigma_min), math.log(config.sigma_max)
    flat = low + (high - low) * torch.rand(batch, generator=rng)
    log = torch.where(torch.rand(batch, generator=rng) < config.uniform, flat, log)
    return log.clamp(low, high).exp()


def draw_noise(x0: Tensor, rng: torch.Generator) -> Tensor:
    """Unit noise; the same in the three channels of a grey photograph."""
    noise = torch.randn(x0.shape, generator=rng)
    if x0.shape[1] == 3:
        grey = (x0 == x0[:, :1]).flatten(1).all(1)[:, None, None, None]
        noise = torch.where(grey, noise[:, :1], noise)
    return noise


def denoise(model: nn.Module, x: Tensor, sigma: Tensor, sigma_data: float) -> Tensor:
    """D(x; sigma) of the bare network: (b, c, h, w), (b,) -> (b, c, h, w)."""
    s = scalings(sigma[:, None, None, None], sigma_data)
    body: Tensor = model(s.into * x, sigma.log() / 4)
    return s.skip * x + s.out * body.float()


def crop_weights(errors: Tensor, sigma: Tensor, config: Config) -> Tensor:
    r"""What each crop's squared error of F counts: (b,), (b,) -> (b,).

    :math:`(1 + d) / (e + d)`, d = floor + (sigma / 2 sigma_data)^2. Where noise is moderate it is
    the relative error that counts, as in PSNR: else smooth images, whose errors are small,
    learn nothing beside textures. Where noise hides the crop, e is mostly chance, and to weigh by
    it would favour likely images over the mean of all: there every crop counts alike.
    """
    d = config.floor + (sigma / (2 * config.sigma_data)) ** 2
    return (1 + d) / (errors + d)


def loss(model: nn.Module, x0: Tensor, noise: Tensor, sigma: Tensor, config: Config) -> Tensor:
    """The squared error of F, as in EDM (which weights D's by 1 / c_out^2), and per crop."""
    s = scalings(sigma[:, None, None, None], config.sigma_data)
    x = x0 + sigma[:, None, None, None] * noise
    target = (x0 - s.skip * x) / s.out
    into = (s.into * x).contiguous(memory_format=torch.channels_last)
    body: Tensor = model(into, sigma.log() / 4)
    errors = (body.float() - target).square().flatten(1).mean(1)
    return (crop_weights(errors.detach(), sigma, config) * errors).mean()


def learning_rate(config: Config, step: int, progress: float) -> float:
    """Warm-up, then half a cosine over the run."""
    cosine = 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    return config.rate * min(1.0, (step + 1) / 300) * max(cosine, 1e-4)


def crop_size(config: Config, progress: float) -> int:
    """The size of the crops at this point of the run."""
    return [size for start, size in config.phases if progress >= start][-1]


def train_step(run: Run, config: Config, crops: Crops, progress: float, device: str) -> Tensor:
    """One step of the optimizer and of the average; returns the loss."""
    size = crop_size(config, progress)
    batch = max(1, config.pixels // size**2)
    x0 = crops.draw(np.random.default_rng((config.seed, run.step)), batch, size)
    rng = generator(config, run.step)
    sigma, noise = draw_sigma(config, batch, rng), draw_noise(x0, rng)
    x0, noise, sigma = x0.to(device), noise.to(device), sigma.to(device)
    for group in run.optimizer.param_groups:
        group["lr"] = learning_rate(config, run.step, progress)
    with torch.autocast(torch.device(device).type, torch.bfloat16):
        value = loss(run.model, x0, noise, sigma, config)
    run.optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(value)
    parameters: list[Tensor] = list(run.model.parameters())
    nn.utils.clip_grad_norm_(parameters, 1.0, error_if_nonfinite=True)
    run.optimizer.step()
    decay = min(config.ema, (1 + run.step) / (10 + run.step))
    with torch.no_grad():
        torch._foreach_lerp_(list(run.average.parameters()), parameters, 1 - decay)
    run.step += 1
    return value.detach()


@torch.no_grad()
def validate(run: Run, config: Config, images: Tensor, device: str) -> dict[str, float]:
    """Denoising PSNR (dB) of the average at sigma 15, 25 and 50 of 255 of the data range."""
    data_range = DATA_RANGE[config.kind]
    out = {}
    noise = draw_noise(images, generator(config, -1 & 0xFFFFFFFF))
    for level in LEVELS:
        sigma = level / 255 * data_range
        x = (images + sigma * noise).to(device)
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            x0 = denoise(
                run.average, x, torch.full((len(x),), sigma, device=device), config.sigma_data
            )
        error = (x0.cpu() - images).square().flatten(1).mean(1)
        out[f"psnr{level}"] = float((10 * (data_range**2 / error).log10()).mean())
    return out


def save_checkpoint(run: Run, config: Config, out: Path) -> None:
    """Writes to a temporary name, then renames: a kill leaves the old file whole."""
    state = {
        "model": run.model.state_dict(),
        "average": run.average.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "step": run.step,
        "elapsed": run.elapsed,
        "log": run.log,
        "config": json.dumps(asdict(config)),
    }
    torch.save(state, out / "checkpoint.tmp")
    (out / "checkpoint.tmp").replace(out / "checkpoint.pt")


def load_checkpoint(run: Run, config: Config, out: Path, device: str) -> None:
    """Continues from RUN/checkpoint.pt, if there is one made by the same configuration."""
    path = out / "checkpoint.pt"
    if not path.exists():
        return
    state = torch.load(path, map_location=device, weights_only=True)
    got, expected = json.loads(state["config"]), json.loads(json.dumps(asdict(config)))
    if got != expected:
        different = {key: (got.get(key), value) for key, value in expected.items()
                     if got.get(key) != value}  # fmt: skip
        raise ValueError(
            f"{path} was made by another configuration: (saved, asked for) = {different}. "
            "Pass the same options or another --out."
        )
    run.model.load_state_dict(state["model"])
    run.average.load_state_dict(state["average"])
    run.optimizer.load_state_dict(state["optimizer"])
    run.step, run.elapsed, run.log = state["step"], state["elapsed"], state["log"]


def save_weights(run: Run, config: Config, out: Path) -> None:
    """The average in half precision, with its configuration as metadata."""
    state = run.average.state_dict()
    tensors = {name: value.detach().cpu().half().contiguous() for name, value in state.items()}
    meta = {"config": json.dumps(asdict(config)), "step": str(run.step)}
    meta["minutes"] = f"{run.elapsed / 60:.1f}"
    save_file(tensors, out / "weights.tmp", meta)
    (out / "weights.tmp").replace(out / "weights.safetensors")


def plot(run: Run, out: Path) -> None:
    """The curve of training loss and validation PSNR."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    steps = [entry["step"] / 1000 for entry in run.log]
    left.semilogy(steps, [entry["loss"] for entry in run.log])
    left.set(xlabel="thousand steps", ylabel="training loss (of F)")
    for level in LEVELS:
        right.plot(steps, [entry[f"psnr{level}"] for entry in run.log], label=f"sigma {level}/255")
    right.set(xlabel="thousand steps", ylabel="validation PSNR (dB)")
    right.legend(loc="upper left", bbox_to_anchor=(1, 1))
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.savefig(out / "curve.png", dpi=110)
    plt.close(figure)


def build(config: Config, channels: int, device: str) -> Run:
    """A fresh run: network, average and optimizer, seeded."""
    torch.manual_seed(config.seed)
    models = [
        UNet(channels, config.widths, config.blocks)
        .to(device)
        .to(memory_format=torch.channels_last)
        for _ in range(2)
    ]
    if config.start:
        prior = load_prior(config.start)
        log_scale = math.log(prior.card.sigma_data / config.sigma_data)
        models[0].load_state_dict(converted(prior.network.state_dict(), channels, log_scale))
    models[1].load_state_dict(models[0].state_dict())
    models[1].requires_grad_(False)
    named = list(models[0].named_parameters())
    hidden = [p for name, p in named if p.ndim == 4 and not name.startswith(("head", "tail"))]
    rest = [p for name, p in named if p.ndim != 4 or name.startswith(("head", "tail"))]
    return Run(models[0], models[1], Muon(hidden, rest, config.rate))


def train(
    config: Config,
    crops: Crops,
    images: Tensor,
    out: Path,
    *,
    steps: int | None = None,
    minutes: float | None = None,
    device: str = "cpu",
    every: int = 500,
    progress_bar: bool = True,
    stop_at: int | None = None,
) -> Run:
    """Trains until `steps` or `minutes`, resuming from a checkpoint in `out`.

    `stop_at` ends early at a step without saving, as a kill would (for tests).
    """
    if (steps is None) == (minutes is None):
        raise ValueError("Give either steps or minutes: they set the learning rate's schedule.")
    out.mkdir(parents=True, exist_ok=True)
    run = build(config, crops.channels, device)
    load_checkpoint(run, config, out, device)
    if torch.device(device).type == "cuda":
        run.model.compile()
    bar = None
    if progress_bar:
        from tqdm import tqdm

        total = steps if steps else round(60 * (minutes or 0))
        bar = tqdm(total=total, desc=config.kind, mininterval=10)
    losses: list[Tensor] = []
    start = time.monotonic() - run.elapsed

    def progress() -> float:
        return run.step / steps if steps else (time.monotonic() - start) / (60 * (minutes or 1))

    done = progress()
    while done < 1:
        if run.step == stop_at:
            return run
        losses.append(train_step(run, config, crops, done, device))
        if bar is not None:
            bar.n = run.step if steps else round(time.monotonic() - start)
            bar.update(0)
        size, done = crop_size(config, done), progress()
        if run.step % every == 0 or done >= 1:
            run.elapsed = time.monotonic() - start
            entry: dict[str, Any] = {
                "step": run.step,
                "minutes": round(run.elapsed / 60, 2),
                "loss": float(torch.stack(losses).mean()),
                "crop": size,
            }
            entry |= validate(run, config, images, device)
            losses.clear()
            run.log.append(entry)
            with (out / "log.jsonl").open("a") as file:
                file.write(json.dumps(entry) + "\n")
            save_checkpoint(run, config, out)
            save_weights(run, config, out)
    if bar is not None:
        bar.close()
    return run
