"""Unpacks the training images of the embedded priors from Debian packages.

Photographs: only files that Debian's copyright files mark as public domain, CC0 or CC-BY
(not share-alike, not GPL). CT: one head (InVesalius' example), GPL-2, without the axial
planes 45 to 60, which hold the test slab 48 to 57. MR: heads under permissive licences.

    python scripts/prepare_training_data.py --packages DEBS --out DATA --fetch

Writes `photos/*.png`, `attribution.json` (author, licence, source, SHA-256 of the pixels,
training or validation), `cranium.npy` (int16, Hounsfield units, (z, y, x)) and `mr.npz`
(magnitudes of the volumes of scripts/mr_volumes.py, (z, y, x)).
"""

from __future__ import annotations

import argparse
import fnmatch
import hashlib
import io
import json
import struct
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFile

sys.path.insert(0, str(Path(__file__).parent))

from mr_volumes import fetch_sdist, write_volumes

from invdiff.datasets.ct_phantoms import draw_slice

ImageFile.LOAD_TRUNCATED_IMAGES = True  # some WebP entries of gcompris end a few bytes short

PACKAGES = (
    "gcompris-qt-data",
    "lomiri-wallpapers-16.04",
    "libjxl-testdata",
    "invesalius-examples",
    "mricron-data",
    "insighttoolkit5-examples",
)
ACTIVITIES = (
    "categorization",
    "erase",
    "explore_farm_animals",
    "explore_monuments",
    "explore_world_animals",
    "explore_world_music",
)
FREE = (
    "public-domain",
    "cc0",
    "cc0-1.0",
    *(f"cc-by-{version}" for version in ("1.0", "2.0", "2.5", "3.0", "4.0")),
)
HELD_OUT_AXIAL = (45, 61)
LONG_SIDE = 1536
SHORT_SIDE = 120

# Not photographs of the world, seen on the contact sheet: paintings, drawings, cut-outs.
NOT_PHOTOGRAPHS = ("analogpattern", "umang")


@dataclass(frozen=True)
class Licence:
    """What a Debian copyright file says about some files."""

    patterns: tuple[str, ...]
    author: str
    licence: str
    source: str

    @property
    def free(self) -> bool:
        """Whether pictures under it may be trained on without share-alike questions."""
        return self.licence.lower() in FREE


@dataclass(frozen=True)
class Entry:
    """One line of the attribution file; `thumbnail` is 8 x 8 grey values in hexadecimal."""

    file: str
    original: str
    package: str
    author: str
    licence: str
    source: str
    size: tuple[int, int]
    sha256: str
    thumbnail: str
    split: str


def fetch(packages: Path) -> None:
    """Downloads the missing Debian packages with the ordinary client."""
    packages.mkdir(parents=True, exist_ok=True)
    for name in PACKAGES:
        if not list(packages.glob(f"{name}_*.deb")):
            subprocess.run(["apt-get", "download", name], cwd=packages, check=True)
    fetch_sdist(packages)


def unpack(packages: Path, out: Path) -> dict[str, Path]:
    """Extracts each package to its own folder; raises if one is missing."""
    out.mkdir(parents=True, exist_ok=True)
    folders = {}
    for name in PACKAGES:
        found = sorted(packages.glob(f"{name}_*.deb"))
        if not found:
            raise FileNotFoundError(
                f"The package {name} is missing: no {name}_*.deb in {packages}. "
                "Put it there or pass --fetch."
            )
        folders[name] = out / name
        if not folders[name].exists():
            subprocess.run(["dpkg-deb", "-x", str(found[-1]), str(folders[name])], check=True)
    return folders


def read_copyright(path: Path) -> list[Licence]:
    """The `Files` stanzas of a machine-readable Debian copyright file, in order."""
    stanzas = []
    for block in path.read_text(encoding="utf-8").split("\n\n"):
        fields: dict[str, list[str]] = {}
        key = ""
        for line in block.splitlines():
            if line[:1].isspace():
                fields.setdefault(key, []).append(line.strip())
            elif ":" in line:
                key, value = line.split(":", 1)
                fields[key] = [value.strip()]
        if "Files" in fields:
            stanzas.append(
                Licence(
                    patterns=tuple(" ".join(fields["Files"]).split()),
                    author="; ".join(filter(None, fields.get("Copyright", []))),
                    licence=(fields.get("License") or [""])[0].strip(),
                    source=" ".join(fields.get("Comment", [])).strip(),
                )
            )
    return stanzas


def licence_of(name: str, stanzas: list[Licence]) -> Licence | None:
    """The last stanza that matches a file name, extensions apart (they were re-encoded)."""
    stem = name.rsplit(".", 1)[0]
    for stanza in reversed(stanzas):
        for pattern in stanza.patterns:
            if fnmatch.fnmatch(name, pattern) or (
                "*" not in pattern and pattern.rsplit(".", 1)[0] == stem
            ):
                return stanza
    return None


def qt_resources(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Walks a Qt resource container: yields (path, payload) of uncompressed entries.

    Header `qres`, then big-endian version and offsets of tree, data and names. A node is
    22 bytes (14 in version 1): name offset, flags, then either (children, first child) or
    (country, language, data offset). A payload is preceded by its length.
    """
    if data[:4] != b"qres":
        raise ValueError(f"Not a Qt resource file: starts with {data[:4]!r}, expected b'qres'.")
    version, tree, payloads, names = struct.unpack_from(">4I", data, 4)
    node_size = 22 if version >= 2 else 14

    def walk(node: int, prefix: str) -> Iterator[tuple[str, bytes]]:
        start = tree + node * node_size
        name_at, flags = struct.unpack_from(">IH", data, start)
        name = ""
        if node:
            (length,) = struct.unpack_from(">H", data, names + name_at)
            begin = names + name_at + 6
            name = data[begin : begin + 2 * length].decode("utf-16-be")
        path = f"{prefix}/{name}" if prefix else name
        if flags & 2:
            count, first = struct.unpack_from(">II", data, start + 6)
            for child in range(first, first + count):
                yield from walk(child, path)
        elif not flags & 5:  # neither zlib nor zstd
            _, _, at = struct.unpack_from(">HHI", data, start + 6)
            (length,) = struct.unpack_from(">I", data, payloads + at)
            yield path, data[payloads + at + 4 : payloads + at + 4 + length]

    yield from walk(0, "")


def gcompris(folder: Path) -> Iterator[tuple[str, bytes, Licence]]:
    """Free pictures among the resources of gcompris."""
    stanzas = read_copyright(folder / "usr/share/doc/gcompris-qt-data/copyright")
    for activity in ACTIVITIES:
        path = folder / f"usr/share/gcompris-qt/rcc/{activity}.rcc"
        for name, payload in qt_resources(path.read_bytes()):
            if not name.lower().endswith((".webp", ".png", ".jpg", ".jpeg")):
                continue
            original = name[name.find("src/") :] if "src/" in name else name
            licence = licence_of(original, stanzas)
            if licence is not None and licence.free:
                yield original, payload, licence


def lomiri(folder: Path) -> Iterator[tuple[str, bytes, Licence]]:
    """Free wallpapers, photographs only."""
    stanzas = read_copyright(next(folder.glob("usr/share/doc/*/copyright")))
    for path in sorted(folder.glob("usr/share/backgrounds/*.jpg")):
        licence = licence_of(f"16.04/{path.name}", stanzas)
        if licence is not None and licence.free:
            yield path.name, path.read_bytes(), licence


def libjxl(folder: Path) -> Iterator[tuple[str, bytes, Licence]]:
    """The CC0 photographs of 500 pixels and the flower of the JPEG XL test data."""
    root = folder / "usr/share/libjxl-testdata"
    cc0 = Licence((), "none stated (dedicated to the public domain)", "CC0-1.0", "wesaturate")
    for path in sorted(root.glob("external/wesaturate/500px/*_srgb8.png")):
        yield str(path.relative_to(root)), path.read_bytes(), cc0
    flower = root / "jxl/flower/flower.png"
    bsd = Licence(
        (), "the JPEG XL Project Authors", "BSD-3-Clause", "https://github.com/libjxl/testdata"
    )
    yield str(flower.relative_to(root)), flower.read_bytes(), bsd


def decode(payload: bytes) -> Image.Image | None:
    """An opaque colour picture of at most 1536 pixels a side, or None if it is none."""
    try:
        picture: Image.Image = Image.open(io.BytesIO(payload))
        picture.load()
    except (OSError, SyntaxError):
        return None
    if picture.mode in ("RGBA", "LA", "P"):
        alpha = np.asarray(picture.convert("RGBA"))[..., 3]
        if (alpha < 255).mean() > 0.001:
            return None
    picture = picture.convert("RGB")
    if min(picture.size) < SHORT_SIDE:
        return None
    scale = LONG_SIDE / max(picture.size)
    if scale < 1:
        size = (round(picture.width * scale), round(picture.height * scale))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    return picture


def pixel_hash(pixels: np.ndarray) -> str:
    """SHA-256 of an image: its shape, type and values."""
    head = f"{pixels.shape}{pixels.dtype}".encode()
    return hashlib.sha256(head + np.ascontiguousarray(pixels).tobytes()).hexdigest()


def thumbnail(picture: Image.Image) -> str:
    """The picture as 8 x 8 grey values, 128 hexadecimal digits: to find near copies with."""
    small = picture.convert("L").resize((8, 8), Image.Resampling.BOX)
    return np.asarray(small).tobytes().hex()


def photographs(folders: dict[str, Path], out: Path, seed: int, validation: int) -> list[Entry]:
    """Decodes, names and splits the photographs."""
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("*.png"):
        old.unlink()
    sources = {"gcompris-qt-data": gcompris, "lomiri-wallpapers-16.04": lomiri}
    sources["libjxl-testdata"] = libjxl
    found: dict[str, Entry] = {}
    for package, read in sources.items():
        for name, payload, licence in read(folders[package]):
            if any(word in name for word in NOT_PHOTOGRAPHS):
                continue
            picture = decode(payload)
            if picture is None:
                continue
            digest = pixel_hash(np.asarray(picture))
            if digest in found:
                continue
            file = f"{package.split('-')[0]}_{Path(name).stem}_{digest[:6]}.png"
            picture.save(out / file)
            found[digest] = Entry(
                file, name, package, licence.author, licence.licence, licence.source,
                picture.size, digest, thumbnail(picture), "training",
            )  # fmt: skip
    entries = sorted(found.values(), key=lambda entry: entry.file)
    chosen = np.random.default_rng(seed).choice(len(entries), validation, replace=False)
    return [
        Entry(**(asdict(e) | {"split": "validation"})) if i in chosen else e
        for i, e in enumerate(entries)
    ]


def dead_leaves(textures: list[Image.Image], rng: np.random.Generator, size: int) -> Image.Image:
    """Opaque random shapes with a heavy-tailed size, filled with photographs or plain colours.

    Drawn at twice the size and reduced, so that edges are as sharp as a camera's.
    """
    large = 2 * size
    canvas = textures[int(rng.integers(len(textures)))].resize((large, large))
    for _ in range(700):
        radius = 20 / (1 - rng.random() * 0.95)  # density r^-2 between 20 and 400
        count = int(rng.integers(3, 40))
        angles = (
            np.sort(rng.uniform(0, 2 * np.pi, count))
            if count < 8
            else (np.linspace(0, 2 * np.pi, count, endpoint=False))
        )
        stretch = rng.uniform(0.4, 1)
        turn = rng.uniform(0, np.pi)
        x, y = radius * np.cos(angles), radius * stretch * np.sin(angles)
        centre = rng.uniform(0, large, 2)
        px = centre[0] + x * np.cos(turn) - y * np.sin(turn)
        py = centre[1] + x * np.sin(turn) + y * np.cos(turn)
        mask = Image.new("L", (large, large))
        ImageDraw.Draw(mask).polygon(list(zip(px, py, strict=True)), fill=255)
        box = mask.getbbox()
        if box is None:
            continue
        extent = (box[2] - box[0], box[3] - box[1])
        picture = textures[int(rng.integers(len(textures)))]
        room = (picture.width - extent[0], picture.height - extent[1])
        if rng.random() < 0.25 or min(room) <= 0:
            spot = (int(rng.integers(picture.width)), int(rng.integers(picture.height)))
            fill = Image.new("RGB", extent, picture.getpixel(spot))
        else:
            at = (int(rng.integers(room[0])), int(rng.integers(room[1])))
            fill = picture.crop((*at, at[0] + extent[0], at[1] + extent[1]))
        canvas.paste(fill, box[:2], mask.crop(box))
    return canvas.resize((size, size), Image.Resampling.BOX)


def write_leaves(entries: list[Entry], out: Path, seed: int, count: int) -> None:
    """Dead-leaves pictures with textures of the training photographs only."""
    photos, leaves = out / "photos", out / "leaves"
    leaves.mkdir(exist_ok=True)
    textures = []
    for entry in entries:
        if entry.split == "training":
            with Image.open(photos / entry.file) as picture:
                textures.append(picture.convert("RGB"))
    for i in range(count):
        rng = np.random.default_rng((seed, i))
        dead_leaves(textures, rng, 512).save(leaves / f"leaves_{i:03d}.png")


def write_phantoms(out: Path, seed: int, count: int) -> None:
    """Procedural CT slices, int16 HU, (count, 256, 256)."""
    slices = [draw_slice(seed + i, 256).round().astype(np.int16) for i in range(count)]
    np.save(out / "phantoms.npy", np.stack(slices))


def cranium(folder: Path) -> np.ndarray:
    """The head volume, int16 HU, shape (108, 256, 256)."""
    path = next(folder.rglob("Cranium.inv3"))
    with tarfile.open(path) as archive:
        member = next(m for m in archive.getmembers() if m.name.endswith("matrix.dat"))
        stream = archive.extractfile(member)
        if stream is None:
            raise ValueError(f"{path} holds no matrix.dat: is it the InVesalius example?")
        return np.frombuffer(stream.read(), np.int16).reshape(108, 256, 256)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--packages", type=Path, required=True, help="folder of .deb files")
    parser.add_argument("--out", type=Path, required=True, help="where to write")
    parser.add_argument("--fetch", action="store_true", help="apt-get download what is missing")
    parser.add_argument("--seed", type=int, default=0, help="of the validation split")
    parser.add_argument("--validation", type=int, default=8, help="photographs for validation")
    parser.add_argument("--leaves", type=int, default=80, help="dead-leaves pictures to make")
    parser.add_argument("--phantoms", type=int, default=900, help="procedural CT slices to draw")
    arguments = parser.parse_args()
    if arguments.fetch:
        fetch(arguments.packages)
    folders = unpack(arguments.packages, arguments.out / "unpacked")
    entries = photographs(folders, arguments.out / "photos", arguments.seed, arguments.validation)
    write_leaves(entries, arguments.out, arguments.seed, arguments.leaves)
    write_phantoms(arguments.out, arguments.seed, arguments.phantoms)
    volume = cranium(folders["invesalius-examples"])
    np.save(arguments.out / "cranium.npy", volume)
    magnetic = write_volumes(arguments.packages, folders, arguments.out)
    text = json.dumps(
        {
            "photographs": [asdict(entry) for entry in entries],
            "ct": {
                "file": "cranium.npy",
                "package": "invesalius-examples",
                "author": "Centro de Tecnologia da Informacao Renato Archer and others",
                "licence": "GPL-2",
                "source": "https://github.com/invesalius/invesalius3.git",
                "sha256": pixel_hash(volume),
                "axial_planes_never_trained_on": list(range(*HELD_OUT_AXIAL)),
            },
            "mr": magnetic,
        },
        indent=1,
    )
    (arguments.out / "attribution.json").write_text(text + "\n", encoding="utf-8")
    print(f"{len(entries)} photographs, CT {volume.shape}, written to {arguments.out}")


if __name__ == "__main__":
    main()
