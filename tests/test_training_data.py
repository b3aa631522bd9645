"""Reading licences and Qt resources."""

from __future__ import annotations

import gzip
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

import mr_volumes
import prepare_training_data as prepare

COPYRIGHT = """Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
Copyright: 2000, Somebody
License: GPL-3+

Files: src/fish/fish1.jpg
       src/fish/fish2.jpg
Copyright: Florin
           Second
License: public-domain
Comment: https://example.org/fish

Files: src/fish/fish3.jpg
Copyright: Elma
License: CC-BY-SA-3.0
"""


def test_licences_are_found_by_stem_and_the_last_match_wins(tmp_path):
    (tmp_path / "copyright").write_text(COPYRIGHT)
    stanzas = prepare.read_copyright(tmp_path / "copyright")
    assert len(stanzas) == 3
    fish = prepare.licence_of("src/fish/fish2.webp", stanzas)
    assert fish is not None
    assert (fish.licence, fish.author) == ("public-domain", "Florin; Second")
    assert fish.source == "https://example.org/fish"
    assert fish.free
    for name in ("src/fish/fish3.webp", "src/fish/fish11.webp", "src/other.png"):
        licence = prepare.licence_of(name, stanzas)
        assert licence is not None
        assert not licence.free


def resource(files: dict[str, bytes]) -> bytes:
    """A Qt resource of version 3 with one folder `img` holding the files."""
    names, payloads, nodes = b"", b"", []

    def add_name(name: str) -> int:
        nonlocal names
        at = len(names)
        names += struct.pack(">HI", len(name), 0) + name.encode("utf-16-be")
        return at

    nodes.append(struct.pack(">IHII", 0, 2, 1, 1) + bytes(8))
    nodes.append(struct.pack(">IHII", add_name("img"), 2, len(files), 2) + bytes(8))
    for name, data in files.items():
        nodes.append(struct.pack(">IHHHI", add_name(name), 0, 0, 0, len(payloads)) + bytes(8))
        payloads += struct.pack(">I", len(data)) + data
    tree = b"".join(nodes)
    start = 20
    head = b"qres" + struct.pack(
        ">4I", 3, start, start + len(tree), start + len(tree) + len(payloads)
    )
    return head + tree + payloads + names


def test_qt_resources_are_walked():
    files = {"a.png": b"first", "b.webp": b"second one"}
    found = dict(prepare.qt_resources(resource(files)))
    assert found == {"img/a.png": b"first", "img/b.webp": b"second one"}
    with pytest.raises(ValueError, match="Not a Qt resource"):
        list(prepare.qt_resources(b"PK\x03\x04" + bytes(40)))


def test_transparent_small_and_broken_pictures_are_dropped():
    def encode(picture: Image.Image) -> bytes:
        import io

        stream = io.BytesIO()
        picture.save(stream, "PNG")
        return stream.getvalue()

    assert prepare.decode(b"nothing") is None
    assert prepare.decode(encode(Image.new("RGB", (300, 100)))) is None
    assert prepare.decode(encode(Image.new("RGBA", (300, 300), (1, 2, 3, 0)))) is None
    large = prepare.decode(encode(Image.new("RGBA", (3072, 1000), (9, 8, 7, 255))))
    assert large is not None
    assert large.size == (1536, 500)
    assert large.getpixel((3, 3)) == (9, 8, 7)


def test_hashes_tell_shape_and_values_apart():
    a = np.zeros((2, 3), np.uint8)
    assert prepare.pixel_hash(a) == prepare.pixel_hash(a.copy())
    assert prepare.pixel_hash(a) != prepare.pixel_hash(a.reshape(3, 2))
    assert prepare.pixel_hash(a) != prepare.pixel_hash(a + 1)


def nifti(voxels: np.ndarray, code: int, order: str, slope: float, intercept: float) -> bytes:
    """A NIfTI-1 file of an array (z, y, x)."""
    header = bytearray(352)
    struct.pack_into(f"{order}i", header, 0, 348)
    struct.pack_into(f"{order}8h", header, 40, 3, *reversed(voxels.shape), 1, 1, 1, 1)
    struct.pack_into(f"{order}h", header, 70, code)
    struct.pack_into(f"{order}3f", header, 108, 352, slope, intercept)
    return bytes(header) + voxels.astype(voxels.dtype.newbyteorder(order)).tobytes()


@pytest.mark.parametrize(("kind", "code"), [("u1", 2), ("i2", 4), ("f4", 16), ("f8", 64)])
@pytest.mark.parametrize("order", ["<", ">"])
def test_nifti_voxels_are_read_and_scaled(kind, code, order):
    voxels = np.arange(2 * 3 * 4).reshape(2, 3, 4).astype(kind)
    data = nifti(voxels, code, order, 2.0, 5.0)
    for packed in (data, gzip.compress(data)):
        read = mr_volumes.read_nifti(packed)
        assert read.dtype == np.float32
        np.testing.assert_array_equal(read, voxels * 2.0 + 5.0)
    unscaled = mr_volumes.read_nifti(nifti(voxels, code, order, 0.0, 0.0))
    np.testing.assert_array_equal(unscaled, voxels)


def test_files_that_are_no_nifti_are_refused():
    with pytest.raises(ValueError, match="Not a NIfTI-1 file"):
        mr_volumes.read_nifti(b"PK" + bytes(400))
    with pytest.raises(ValueError, match="voxels of type 128"):
        mr_volumes.read_nifti(nifti(np.zeros((2, 2, 2), np.uint8), 128, "<", 1.0, 0.0))


def test_a_missing_source_distribution_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"pycortex is missing.*--fetch"):
        mr_volumes.payload(mr_volumes.VOLUMES[0], tmp_path, {})


def test_magnitudes_are_scaled_by_their_percentile():
    image = np.linspace(-50, 1000, 100_000).reshape(100, 1000)
    scaled = mr_volumes.normalise(image)
    assert scaled.dtype == np.float16
    assert scaled.min() == 0
    assert scaled.max() == pytest.approx(1000 / 998.95, abs=1e-3)


def test_missing_packages_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gcompris-qt-data is missing.*--fetch"):
        prepare.unpack(tmp_path, tmp_path / "out")
