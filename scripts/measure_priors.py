"""Measures a trained prior, writes its card, and installs both.

    python scripts/measure_priors.py ct --run RUN --data DATA --figures docs/images
    python scripts/measure_priors.py mr --run RUN --data DATA --packages DEBS --figures docs/images
    python scripts/measure_priors.py --table

The first commands denoise held-out images at sigma 15, 25 and 50 of 255 with the prior, with
BM3D (library `bm3d`, true sigma) and with Chambolle's total variation (scikit-image, its weight
tuned on the truth, which flatters it); measure the mean squared error of the denoiser on
validation images at 24 noise levels; write priors/embedded/<name>.safetensors and .json; and
draw denoised examples and unconditional samples. The last prints the tables of the docs.

Complex images: BM3D denoises the real and the imaginary part each, total variation is that of
the pair of them, and the PSNR is of the mean squared error per part.
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
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))

from mr_slices import fetch_slices, test_slices
from training import DATA_RANGE, LEVELS
from training_card import draft_card, with_error_curve
from training_data import load_crops

from invdiff.datasets.ct_phantoms import draw_slice
from invdiff.datasets.test_images import ct_slice, photograph
from invdiff.priors.card import Card, Denoising, Source
from invdiff.priors.network import EMBEDDED, NetworkPrior, load_prior
from invdiff.priors.transforms import GreyPrior

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
    "mr": (
        "Trained on two heads (T1-weighted and echo-planar images of one person, an average of "
        "another) with random contrasts, shadings and phases, and on photographs for structures "
        "not seen: for research on reconstruction methods, not for diagnosis. Pathology, body "
        "MR, motion and parallel-imaging artefacts are not covered; fine anatomy that the data "
        "do not determine is invented."
    ),
}


def psnr(a: np.ndarray, b: np.ndarray, data_range: float = 2.0) -> float:
    """PSNR in dB; of complex images, that of their parts."""
    parts = 2 if np.iscomplexobj(b) else 1
    return float(10 * np.log10(parts * data_range**2 / np.mean(np.abs(a - b) ** 2)))


def centre(image: np.ndarray, size: int) -> np.ndarray:
    """The central square, or less where the image is smaller: (h, w, ...)."""
    top, left = (max(0, (n - size) // 2) for n in image.shape[:2])
    return image[top : top + size, left : left + size]


def halve(image: np.ndarray) -> np.ndarray:
    """Means of 2 x 2 pixels."""
    h, w = (n // 2 for n in image.shape)
    blocks: np.ndarray = image[: 2 * h, : 2 * w].reshape(h, 2, w, 2)
    return np.asarray(blocks.mean((1, 3)))


def test_set(kind: str, data: Path, packages: Path | None = None) -> dict[str, np.ndarray]:
    """Held-out images: (h, w) or (h, w, 3), at most 256 a side; for `mr` complex or real."""
    if kind == "mr":
        if packages is None:
            raise ValueError("The MR test slices need --packages, the folder to download to.")
        fetch_slices(packages)
        return test_slices(packages)
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


def noisy(image: np.ndarray, sigma: float, name: str, level: int) -> np.ndarray:
    """The image plus noise, seeded by its name and the level."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
    rng = np.random.default_rng((seed, level))
    noise = rng.standard_normal(image.shape)
    if np.iscomplexobj(image):
        return image + sigma * (noise + 1j * rng.standard_normal(image.shape))
    return image + sigma * noise


def denoise_bm3d(x: np.ndarray, sigma: float) -> np.ndarray:
    """BM3D with [-1, 1] brought to [0, 1]; each part of a complex image for itself."""
    from bm3d import bm3d, bm3d_rgb

    if np.iscomplexobj(x):
        return denoise_bm3d(x.real, sigma) + 1j * denoise_bm3d(x.imag, sigma)
    method = bm3d_rgb if x.ndim == 3 else bm3d
    return np.asarray(method((x + 1) / 2, sigma / 2)) * 2 - 1


def denoise_tv(x: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Chambolle's total variation with the weight that is best for the truth."""
    from skimage.restoration import denoise_tv_chambolle

    if np.iscomplexobj(x):
        both = denoise_tv(*(np.stack([image.real, image.imag], -1) for image in (x, truth)))
        return both[..., 0] + 1j * both[..., 1]
    axis = -1 if x.ndim == 3 else None
    results = [
        2 * denoise_tv_chambolle((x + 1) / 2, weight=w, channel_axis=axis) - 1 for w in TV_WEIGHTS
    ]
    return max(results, key=lambda result: psnr(result, truth))


@torch.no_grad()
def denoise_prior(prior: NetworkPrior, x: np.ndarray, sigma: float) -> np.ndarray:
    """The prior at its true sigma; grey photographs go through GreyPrior.

    A real image given to `mr` gets an imaginary part of pure noise, and gives its real part.
    """
    if prior.name == "mr":
        imaginary = sigma * np.random.default_rng(1).standard_normal(x.shape)
        parts = np.stack([x.real, x.imag if np.iscomplexobj(x) else imaginary])
        out = prior(torch.from_numpy(parts[None]).float(), torch.tensor(sigma))[0].double()
        real, imaginary = out.numpy()
        return real + 1j * imaginary if np.iscomplexobj(x) else real
    planes = torch.from_numpy(np.ascontiguousarray(x)).float()
    planes = planes.permute(2, 0, 1)[None] if x.ndim == 3 else planes[None, None]
    model = prior if planes.shape[1] == prior.card.channels else GreyPrior(prior)
    clean = model(planes, torch.tensor(sigma))[0].double().numpy()
    return clean.transpose(1, 2, 0) if x.ndim == 3 else clean[0]


def baselines(
    kind: str, images: dict[str, np.ndarray], cache: Path | None
) -> dict[str, list[float]]:
    """PSNR of BM3D and TV per image and level, kept in a file since they do not change."""
    known: dict[str, list[float]] = {}
    data_range = DATA_RANGE[kind]
    if cache is not None and cache.exists():
        known = json.loads(cache.read_text())
    for name, image in images.items():
        for level in LEVELS:
            key = f"{name}@{level}"
            if key not in known:
                sigma = level / 255 * data_range
                x = noisy(image, sigma, name, level)
                results = denoise_bm3d(x, sigma), denoise_tv(x, image)
                known[key] = [psnr(result, image, data_range) for result in results]
        if cache is not None:
            cache.write_text(json.dumps(known, indent=1))
    return known


def denoising_table(
    prior: NetworkPrior, images: dict[str, np.ndarray], cache: Path | None
) -> tuple[Denoising, ...]:
    """All rows of the table."""
    known = baselines(prior.name, images, cache)
    data_range = DATA_RANGE[prior.name]
    rows = []
    for name, image in images.items():
        for level in LEVELS:
            bm3d, tv = known[f"{name}@{level}"]
            sigma = level / 255 * data_range
            clean = denoise_prior(prior, noisy(image, sigma, name, level), sigma)
            ours = psnr(clean, image, data_range)
            rows.append(Denoising(name, level, *(round(float(v), 2) for v in (ours, bm3d, tv))))
    return tuple(rows)


def validation_images(kind: str, data: Path) -> Tensor:
    """Images for the error curve, (n, c, 128, 128): none trained on, none of the test set."""
    _, images = load_crops(kind, data, 128)
    if kind == "ct":
        made = np.stack([draw_slice(10**6 + i, 256)[64:192, 64:192] for i in range(8)]) / 1000
        images = torch.cat([images[:8], torch.from_numpy(made)[:, None]])
    return images


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
    if kind == "mr":
        heads = tuple(
            Source(
                f"{v['name']}: {v['title']}",
                v["licence"],
                f"package {v['package']}, {v['source']}",
                (v["author"],),
            )
            for v in record["mr"]["volumes"]
        )
        return heads + _photographs(record)
    leaves = "drawn by scripts/prepare_training_data.py from the photographs above"
    return (*_photographs(record), Source("dead-leaves pictures", "as the photographs", leaves))


def _photographs(record: dict[str, Any]) -> tuple[Source, ...]:
    """The training photographs by package and licence."""
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
    return tuple(out)


def install(
    kind: str,
    run: Path,
    data: Path,
    tests: dict[str, np.ndarray],
    out: Path,
    hardware: str,
    status: str,
    version: str,
    cache: Path | None,
) -> NetworkPrior:
    """Measures a run and writes weights and card to `out`; returns the prior."""
    images = validation_images(kind, data)
    card = draft_card(
        run, images, kind=kind, name=kind, status=status, hardware=hardware,
        data=sources(kind, data), limits=LIMITS[kind], version=version,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        draft, weights = Path(folder) / "card.json", Path(folder) / "weights.safetensors"
        shutil.copyfile(run / "weights.safetensors", weights)
        card = dataclasses.replace(card, sha256=hashlib.sha256(weights.read_bytes()).hexdigest())
        draft.write_text(card.to_json())
        prior = NetworkPrior.read(weights, draft)
        card = with_error_curve(card, prior, images)
        card = dataclasses.replace(card, denoising=denoising_table(prior, tests, cache))
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
    elif card.name == "mr":
        for title in ("complex", "real"):
            rows = [r for r in card.denoising if r.image.endswith(", real") == (title == "real")]
            lines.append(line(f"mean, {title}", rows))
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
    window = {"ct": (-0.25, 0.65), "photo": (-1.0, 1.0), "mr": (0.0, 1.0)}[kind]
    data_range = DATA_RANGE[kind]

    def show(axes: Axes, image: np.ndarray, title: str) -> None:
        image = np.abs(image) if kind == "mr" else image
        scaled = np.clip((image - window[0]) / (window[1] - window[0]), 0, 1)
        axes.imshow(scaled, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set_title(title, fontsize=9)
        axes.axis("off")

    chosen = {
        "ct": ("spine (CT_small)", "head (693, 2x2 mean)"),
        "photo": ("chelsea", "camera"),
        "mr": ("sagittal head, T1", "axial head, PD"),
    }[kind]
    figure, grid = plt.subplots(len(chosen), 5, figsize=(13, 2.8 * len(chosen)),
                                layout="constrained")  # fmt: skip
    for row, name in zip(grid, chosen, strict=True):
        truth, level = centre(images[name], 128), 25
        sigma = level / 255 * data_range
        x = noisy(truth, sigma, name, level)
        results = {
            "truth": truth,
            f"sigma {level}/255": x,
            "ours": denoise_prior(prior, x, sigma),
            "BM3D": denoise_bm3d(x, sigma),
            "TV, tuned on the truth": denoise_tv(x, truth),
        }
        for axes, (title, image) in zip(row, results.items(), strict=True):
            note = "" if title == "truth" else f", {psnr(image, truth, data_range):.2f} dB"
            show(axes, image, title + note)
    figure.savefig(out / f"prior_{kind}_denoised.png", dpi=90)
    plt.close(figure)
    samples = heun(prior, (6, prior.card.channels, 128, 128), 50, 0).numpy()
    if kind == "mr":
        samples = (samples[:, 0] + 1j * samples[:, 1])[:, None]
    height = 4.6 if kind == "mr" else 2.4
    figure, grid = plt.subplots(
        2 if kind == "mr" else 1, 6, figsize=(13, height), layout="constrained", squeeze=False
    )
    for column, sample in zip(grid.T, samples, strict=True):
        show(column[0], sample.transpose(1, 2, 0).squeeze(), "")
        if kind == "mr":
            column[1].imshow(np.angle(sample[0]), cmap="twilight", vmin=-np.pi, vmax=np.pi)
            column[1].axis("off")
    figure.savefig(out / f"prior_{kind}_samples.png", dpi=90)
    plt.close(figure)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", nargs="?", choices=("ct", "photo", "mr"))
    parser.add_argument("--run", type=Path, help="folder written by train_prior.py")
    parser.add_argument("--data", type=Path, help="folder written by prepare_training_data.py")
    parser.add_argument("--packages", type=Path, help="where the MR test slices are or go")
    parser.add_argument("--out", type=Path, default=EMBEDDED)
    parser.add_argument("--figures", type=Path, help="where to draw pictures")
    parser.add_argument("--cache", type=Path, help="JSON that keeps BM3D's and TV's results")
    parser.add_argument("--hardware", default="", help="a word for the card")
    parser.add_argument("--status", choices=("final", "preliminary"), default="final")
    parser.add_argument("--version", default="1", help="of the prior, for its card")
    parser.add_argument("--table", action="store_true", help="print the tables and end")
    arguments = parser.parse_args()
    if arguments.table:
        for name in ("ct", "photo", "mr"):
            print(markdown(load_prior(name).card) + "\n")
        return
    if arguments.kind is None or arguments.run is None or arguments.data is None:
        parser.error("kind, --run and --data are needed to measure a run")
    tests = test_set(arguments.kind, arguments.data, arguments.packages)
    prior = install(
        arguments.kind, arguments.run, arguments.data, tests, arguments.out, arguments.hardware,
        arguments.status, arguments.version, arguments.cache,
    )  # fmt: skip
    print(markdown(prior.card))
    rise = math.sqrt(prior.card.error_variances[-1])
    print(f"\nroot mean squared error at sigma_max: {rise:.3f}")
    if arguments.figures is not None:
        arguments.figures.mkdir(parents=True, exist_ok=True)
        draw_figures(prior, tests, arguments.figures)
        curve = arguments.run / "curve.png"
        if curve.exists():
            shutil.copyfile(curve, arguments.figures / f"prior_{arguments.kind}_curve.png")


if __name__ == "__main__":
    main()
