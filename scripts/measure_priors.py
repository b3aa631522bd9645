"""Measures a trained prior, writes its card, and installs both.

    python scripts/measure_priors.py ct --run RUN --data DATA --figures docs/images
    python scripts/measure_priors.py --table

The first command denoises held-out images at sigma 15, 25 and 50 of 255 with the prior, with
BM3D (library `bm3d`, true sigma) and with Chambolle's total variation (scikit-image, its weight
tuned on the truth, which flatters it); measures the mean squared error of the denoiser on
validation images at 24 noise levels; writes priors/embedded/<name>.safetensors and .json; and
draws denoised examples and unconditional samples. The second prints the table of the docs.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import itertools
import json
import math
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))

from train_prior import Config, load_crops

from invdiff.datasets.ct_phantoms import draw_slice
from invdiff.datasets.test_images import ct_slice, photograph
from invdiff.priors.card import Card, Denoising, Source
from invdiff.priors.network import EMBEDDED, NetworkPrior, load_prior
from invdiff.priors.transforms import GreyPrior

LEVELS = (15, 25, 50)
PHOTOS = {
    "colour": ("astronaut", "chelsea", "coffee", "motorcycle", "rocket", "retina", "ihc"),
    "grey": ("camera", "coins", "moon", "brick", "grass", "gravel", "cell", "page"),
}
TV_WEIGHTS = tuple(0.01 * 1.3**k for k in range(16))
TEST_PLANE = 52
LIMITS = {
    "ct": (
        "Trained on one head and on procedural slices: for research on reconstruction methods, "
        "not for diagnosis. Contrast-enhanced, paediatric, metal-bearing and motion-blurred "
        "scans are not covered; fine anatomy that the data do not determine is invented."
    ),
    "photo": (
        "Trained on some 60 photographs and dead-leaves pictures, none of them of people: a "
        "prior of edges and textures, not of faces, text or scenes. Its unconditional samples are "
        "abstract."
    ),
}


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """PSNR in dB with a data range of 2."""
    return float(10 * np.log10(4 / np.mean((a - b) ** 2)))


def centre(image: np.ndarray, size: int) -> np.ndarray:
    """The central square, or less where the image is smaller: (h, w, ...)."""
    top, left = (max(0, (n - size) // 2) for n in image.shape[:2])
    return image[top : top + size, left : left + size]


def halve(image: np.ndarray) -> np.ndarray:
    """Means of 2 x 2 pixels."""
    h, w = (n // 2 for n in image.shape)
    blocks: np.ndarray = image[: 2 * h, : 2 * w].reshape(h, 2, w, 2)
    return np.asarray(blocks.mean((1, 3)))


def test_set(kind: str, data: Path) -> dict[str, np.ndarray]:
    """Held-out images on a range of 2: (h, w) or (h, w, 3), at most 256 a side."""
    if kind == "photo":
        names = [*PHOTOS["colour"], *PHOTOS["grey"]]
        return {n: centre(photograph(n), 256).astype(np.float64) / 127.5 - 1 for n in names}
    plane = np.load(data / "cranium.npy")[TEST_PLANE].astype(np.float64)
    return {
        "spine (CT_small)": ct_slice("spine").astype(np.float64) / 1000,
        "head (693, 2x2 mean)": halve(ct_slice("head")).astype(np.float64) / 1000,
        "skull base (2x2 mean)": halve(ct_slice("skull base")).astype(np.float64) / 1000,
        f"cranium, axial {TEST_PLANE}": plane / 1000,
    }


def noisy(image: np.ndarray, level: int, name: str) -> np.ndarray:
    """The image plus noise, seeded by its name and the level."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
    noise = np.random.default_rng((seed, level)).standard_normal(image.shape)
    return image + level / 127.5 * noise


def denoise_bm3d(x: np.ndarray, level: int) -> np.ndarray:
    """BM3D on [0, 1]."""
    from bm3d import bm3d, bm3d_rgb

    method = bm3d_rgb if x.ndim == 3 else bm3d
    return np.asarray(method((x + 1) / 2, level / 255)) * 2 - 1


def denoise_tv(x: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Chambolle's total variation with the weight that is best for the truth."""
    from skimage.restoration import denoise_tv_chambolle

    axis = -1 if x.ndim == 3 else None
    results = [
        2 * denoise_tv_chambolle((x + 1) / 2, weight=w, channel_axis=axis) - 1 for w in TV_WEIGHTS
    ]
    return max(results, key=lambda result: psnr(result, truth))


@torch.no_grad()
def denoise_prior(prior: NetworkPrior, x: np.ndarray, level: int) -> np.ndarray:
    """The prior at its true sigma; grey photographs go through GreyPrior."""
    planes = torch.from_numpy(np.ascontiguousarray(x)).float()
    planes = planes.permute(2, 0, 1)[None] if x.ndim == 3 else planes[None, None]
    model = prior if planes.shape[1] == prior.card.channels else GreyPrior(prior)
    out = model(planes, torch.tensor(level / 127.5))[0].double().numpy()
    return out.transpose(1, 2, 0) if x.ndim == 3 else out[0]


def baselines(images: dict[str, np.ndarray], cache: Path | None) -> dict[str, list[float]]:
    """PSNR of BM3D and TV per image and level, kept in a file since they do not change."""
    known: dict[str, list[float]] = {}
    if cache is not None and cache.exists():
        known = json.loads(cache.read_text())
    for name, image in images.items():
        for level in LEVELS:
            key = f"{name}@{level}"
            if key not in known:
                x = noisy(image, level, name)
                known[key] = [
                    psnr(denoise_bm3d(x, level), image), psnr(denoise_tv(x, image), image)
                ]  # fmt: skip
        if cache is not None:
            cache.write_text(json.dumps(known, indent=1))
    return known


def denoising_table(
    prior: NetworkPrior, images: dict[str, np.ndarray], cache: Path | None
) -> tuple[Denoising, ...]:
    """All rows of the table."""
    known = baselines(images, cache)
    rows = []
    for name, image in images.items():
        for level in LEVELS:
            bm3d, tv = known[f"{name}@{level}"]
            ours = psnr(denoise_prior(prior, noisy(image, level, name), level), image)
            rows.append(Denoising(name, level, *(round(float(v), 2) for v in (ours, bm3d, tv))))
    return tuple(rows)


def validation_images(kind: str, data: Path) -> Tensor:
    """Images for the error curve, (n, c, 128, 128): none trained on, none of the test set."""
    _, images = load_crops(Config(kind), data)
    if kind == "ct":
        made = np.stack([draw_slice(10**6 + i, 256)[64:192, 64:192] for i in range(8)]) / 1000
        images = torch.cat([images[:8], torch.from_numpy(made)[:, None]])
    return images


@torch.no_grad()
def error_curve(
    prior: Callable[[Tensor, Tensor], Tensor], images: Tensor, sigmas: Sequence[float]
) -> tuple[float, ...]:
    """The mean squared error of the denoiser at each noise level, made monotone."""
    rng = torch.Generator().manual_seed(0)
    errors = []
    for sigma in sigmas:
        total = 0.0
        for batch in torch.split(images, 8):
            x = batch + sigma * torch.randn(batch.shape, generator=rng)
            total += float((prior(x, torch.tensor(sigma)) - batch).square().double().sum())
        errors.append(total / images.numel())
    return tuple(float(f"{v:.5g}") for v in np.maximum.accumulate(errors))


def sources(kind: str, data: Path) -> tuple[Source, ...]:
    """What it was trained on, with the authors of every photograph."""
    record = json.loads((data / "attribution.json").read_text())
    if kind == "ct":
        origin = "drawn by invdiff.datasets.ct_phantoms"
        held = record["ct"]["axial_planes_never_trained_on"]
        name = f"Cranium, one head CT without axial planes {held[0]} to {held[-1]}"
        head = record["ct"]
        return (
            Source("900 procedural slices", "BSD-3-Clause", origin),
            Source(
                name,
                head["licence"],
                f"Debian package {head['package']}, {head['source']}",
                (head["author"],),
            ),
        )
    out = []
    for package in sorted({entry["package"] for entry in record["photographs"]}):
        used = [e for e in record["photographs"]
                if e["package"] == package and e["split"] == "training"]  # fmt: skip
        for licence in sorted({e["licence"] for e in used}):
            chosen = [e for e in used if e["licence"] == licence]
            out.append(
                Source(
                    f"{len(chosen)} photographs",
                    licence,
                    f"Debian package {package}",
                    tuple(
                        f"{Path(e['original']).name}: {e['author']}"
                        + (f", {e['source']}" if e["source"] else "")
                        for e in chosen
                    ),
                )
            )
    leaves = "drawn by scripts/prepare_training_data.py from the photographs above"
    return (*out, Source("dead-leaves pictures", "as the photographs", leaves))


def draft_card(kind: str, run: Path, data: Path, hardware: str, status: str) -> Card:
    """The card of a training run, before anything was measured."""
    weights = run / "weights.safetensors"
    with safe_open(weights, "pt") as file:
        meta = file.metadata()
    config = json.loads(meta["config"])
    images = validation_images(kind, data)
    return Card(
        name=kind,
        version="1",
        status=status,
        sha256=hashlib.sha256(weights.read_bytes()).hexdigest(),
        channels=images.shape[1],
        value_range=(-1.0, 1.0) if kind == "photo" else (-1.024, 3.071),
        units="8-bit value / 127.5 - 1" if kind == "photo" else "HU / 1000",
        multiple=2 ** len(config["widths"]),
        sigma_min=config["sigma_min"],
        sigma_max=config["sigma_max"],
        sigma_data=config["sigma_data"],
        mean=round(float(images.mean()), 4),
        variance=round(float(images.var()), 4),
        widths=tuple(config["widths"]),
        blocks=tuple(config["blocks"]),
        training={
            "script": "scripts/train_prior.py",
            "steps": int(meta["step"]),
            "minutes": float(meta["minutes"]),
            "pixels_per_batch": config["pixels"],
            "crops": ", ".join(f"{size} from {share:.0%}" for share, size in config["phases"]),
            "optimizer": f"AdamW, {config['rate']:g}, warm-up and cosine",
            "average": f"exponential, {config['ema']}",
            "ln_sigma": f"normal({config['log_mean']}, {config['log_std']}), "
            f"{config['uniform']:.0%} uniform",
            "precision": "bfloat16 autocast; weights stored in float16",
            "hardware": hardware,
        },
        data=sources(kind, data),
        limits=LIMITS[kind],
        denoising=(),
        error_sigmas=(config["sigma_min"], config["sigma_max"]),
        error_variances=(1.0, 1.0),
        grey_error_variances=(1.0, 1.0) if images.shape[1] == 3 else (),
    )


def install(
    kind: str, run: Path, data: Path, out: Path, hardware: str, status: str, cache: Path | None
) -> NetworkPrior:
    """Measures a run and writes weights and card to `out`; returns the prior."""
    card = draft_card(kind, run, data, hardware, status)
    with tempfile.TemporaryDirectory() as folder:
        draft, weights = Path(folder) / "card.json", Path(folder) / "weights.safetensors"
        shutil.copyfile(run / "weights.safetensors", weights)
        card = dataclasses.replace(card, sha256=hashlib.sha256(weights.read_bytes()).hexdigest())
        draft.write_text(card.to_json())
        prior = NetworkPrior.read(weights, draft)
        images = validation_images(kind, data)
        sigmas = np.geomspace(card.sigma_min, card.sigma_max, 24)
        grid = tuple(float(f"{v:.5g}") for v in sigmas)
        grey: tuple[float, ...] = ()
        if card.channels == 3:
            luma = torch.tensor((0.2125, 0.7154, 0.0721))[:, None, None]
            grey = error_curve(GreyPrior(prior), (images * luma).sum(1, keepdim=True), grid)
        card = dataclasses.replace(
            card,
            error_sigmas=grid,
            error_variances=error_curve(prior, images, grid),
            grey_error_variances=grey,
            denoising=denoising_table(prior, test_set(kind, data), cache),
        )
        out.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(weights, out / f"{kind}.safetensors")
        (out / f"{kind}.json").write_text(card.to_json(), encoding="utf-8")
    return NetworkPrior.read(out / f"{kind}.safetensors", out / f"{kind}.json")


def markdown(card: Card) -> str:
    """The table of a card, and the means over its images."""
    lines = [
        f"| `{card.name}` | " + " | ".join(f"sigma {level}" for level in LEVELS) + " |",
        "|---|" + "---|" * len(LEVELS),
    ]
    names = list(dict.fromkeys(row.image for row in card.denoising))

    def line(title: str, rows: Sequence[Denoising]) -> str:
        cells = []
        for level in LEVELS:
            at = [row for row in rows if row.level == level]
            ours, bm3d, tv = (
                sum(getattr(row, name) for row in at) / len(at) for name in ("ours", "bm3d", "tv")
            )
            mark = "**" if ours >= bm3d else ""
            cells.append(f"{mark}{ours:.2f}{mark} / {bm3d:.2f} / {tv:.2f}")
        return f"| {title} | " + " | ".join(cells) + " |"

    for name in names:
        lines.append(line(name, [row for row in card.denoising if row.image == name]))
    if card.name == "photo":
        for title, group in PHOTOS.items():
            lines.append(line(f"mean, {title}", [r for r in card.denoising if r.image in group]))
    else:
        lines.append(line("mean", card.denoising))
    return "\n".join(lines)


@torch.no_grad()
def heun(prior: NetworkPrior, shape: tuple[int, ...], steps: int, seed: int) -> Tensor:
    r"""Unconditional samples by Heun's method on :math:`dx/d\sigma = (x - D) / \sigma`.

    Karras' ladder with exponent 7, from sigma_max to sigma_min, then 0.
    """
    ends = (prior.sigma_max ** (1 / 7), max(prior.sigma_min, 0.005) ** (1 / 7))
    ladder = [*(float(v) ** 7 for v in np.linspace(*ends, steps)), 0.0]
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * ladder[0]
    for sigma, lower in itertools.pairwise(ladder):
        slope = (x - prior(x, torch.tensor(sigma))) / sigma
        euler = x + (lower - sigma) * slope
        if lower > 0:
            slope = (slope + (euler - prior(euler, torch.tensor(lower))) / lower) / 2
        x = x + (lower - sigma) * slope
    return x


def draw_figures(prior: NetworkPrior, images: dict[str, np.ndarray], out: Path) -> None:
    """Denoised examples and unconditional samples as PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.axes import Axes

    kind = prior.name
    window = (-0.25, 0.65) if kind == "ct" else (-1.0, 1.0)

    def show(axes: Axes, image: np.ndarray, title: str) -> None:
        scaled = np.clip((image - window[0]) / (window[1] - window[0]), 0, 1)
        axes.imshow(scaled, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set_title(title, fontsize=9)
        axes.axis("off")

    chosen = {
        "ct": ("spine (CT_small)", "head (693, 2x2 mean)"),
        "photo": ("chelsea", "camera"),
    }[kind]
    figure, grid = plt.subplots(len(chosen), 5, figsize=(13, 2.8 * len(chosen)),
                                layout="constrained")  # fmt: skip
    for row, name in zip(grid, chosen, strict=True):
        truth, level = centre(images[name], 128), 25
        x = noisy(truth, level, name)
        results = {
            "truth": truth,
            f"sigma {level}/255": x,
            "ours": denoise_prior(prior, x, level),
            "BM3D": denoise_bm3d(x, level),
            "TV, tuned on the truth": denoise_tv(x, truth),
        }
        for axes, (title, image) in zip(row, results.items(), strict=True):
            note = "" if title == "truth" else f", {psnr(image, truth):.2f} dB"
            show(axes, image, title + note)
    figure.savefig(out / f"prior_{kind}_denoised.png", dpi=90)
    plt.close(figure)
    samples = heun(prior, (6, prior.card.channels, 128, 128), 50, 0).numpy()
    figure, axes_row = plt.subplots(1, 6, figsize=(13, 2.4), layout="constrained")
    for axes, sample in zip(axes_row, samples, strict=True):
        show(axes, sample.transpose(1, 2, 0).squeeze(), "")
    figure.savefig(out / f"prior_{kind}_samples.png", dpi=90)
    plt.close(figure)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", nargs="?", choices=("ct", "photo"))
    parser.add_argument("--run", type=Path, help="folder written by train_prior.py")
    parser.add_argument("--data", type=Path, help="folder written by prepare_training_data.py")
    parser.add_argument("--out", type=Path, default=EMBEDDED)
    parser.add_argument("--figures", type=Path, help="where to draw pictures")
    parser.add_argument("--cache", type=Path, help="JSON that keeps BM3D's and TV's results")
    parser.add_argument("--hardware", default="", help="a word for the card")
    parser.add_argument("--status", choices=("final", "preliminary"), default="final")
    parser.add_argument("--table", action="store_true", help="print the tables and end")
    arguments = parser.parse_args()
    if arguments.table:
        for name in ("ct", "photo"):
            print(markdown(load_prior(name).card) + "\n")
        return
    if arguments.kind is None or arguments.run is None or arguments.data is None:
        parser.error("kind, --run and --data are needed to measure a run")
    prior = install(
        arguments.kind, arguments.run, arguments.data, arguments.out, arguments.hardware,
        arguments.status, arguments.cache,
    )  # fmt: skip
    print(markdown(prior.card))
    rise = math.sqrt(prior.card.error_variances[-1])
    print(f"\nroot mean squared error at sigma_max: {rise:.3f}")
    if arguments.figures is not None:
        arguments.figures.mkdir(parents=True, exist_ok=True)
        draw_figures(prior, test_set(arguments.kind, arguments.data), arguments.figures)
        curve = arguments.run / "curve.png"
        if curve.exists():
            shutil.copyfile(curve, arguments.figures / f"prior_{arguments.kind}_curve.png")


if __name__ == "__main__":
    main()
