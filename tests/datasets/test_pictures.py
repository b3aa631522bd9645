"""Pictures of 8 and 16 bits: the same whole numbers after reading and writing, or a refusal."""

import io
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from invdiff.datasets import pictures
from invdiff.datasets.pictures import read_picture, write_picture
from invdiff.errors import ShapeError

rng = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("name", "bits", "channels"),
    [("a.png", 8, 1), ("a.png", 8, 3), ("a.png", 16, 1), ("a.tif", 8, 1), ("a.tiff", 8, 3),
     ("a.tif", 16, 1), ("a.tif", 16, 3)],
)  # fmt: skip
def test_every_code_comes_back(name, bits, channels, tmp_path):
    """All 2^b codes, in every channel."""
    codes = np.arange(2**bits).reshape(-1, 16)
    codes = np.stack([np.roll(codes, 5 * c) for c in range(channels)])
    values = codes / (2**bits - 1)
    write_picture(tmp_path / name, values, bits)
    again = read_picture(tmp_path / name)
    assert again.dtype == np.float32
    assert again.shape == (channels, *codes.shape[1:])
    assert again.min() == 0
    assert again.max() == 1
    assert np.array_equal(np.rint(again.astype(np.float64) * (2**bits - 1)), codes)
    first = (tmp_path / name).read_bytes()
    write_picture(tmp_path / name, again, bits)
    assert (tmp_path / name).read_bytes() == first


def test_other_readers_see_the_same(tmp_path):
    values = rng.random((3, 7, 9))
    write_picture(tmp_path / "a.png", values, 8)
    assert np.array_equal(
        np.asarray(Image.open(tmp_path / "a.png")), np.rint(255 * values).transpose(1, 2, 0)
    )
    write_picture(tmp_path / "a.tif", values, 16)
    stored = tifffile.imread(tmp_path / "a.tif")
    assert np.array_equal(stored, np.rint(65535 * values).transpose(1, 2, 0))


OTHERS = {
    "plain": {},
    "deflated": {"compression": "zlib"},
    "strips": {"rowsperstrip": 3},
    "deflated-strips": {"compression": "zlib", "rowsperstrip": 3},
    "tiles": {"tile": (16, 16)},
    "big-endian": {"byteorder": ">"},
}


@pytest.mark.parametrize("how", OTHERS.values(), ids=OTHERS)
def test_files_of_other_writers(how, tmp_path):
    codes = rng.integers(0, 2**16, (21, 19), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", codes, **how)
    assert np.array_equal(np.rint(65535 * read_picture(tmp_path / "a.tif")[0]), codes)


def png(image, **how):
    stream = io.BytesIO()
    image.save(stream, "PNG", **how)
    return stream.getvalue()


def tiff(array, **how):
    stream = io.BytesIO()
    tifffile.imwrite(stream, array, **how)
    return stream.getvalue()


def chunk(kind, content):
    return (
        len(content).to_bytes(4, "big")
        + kind
        + content
        + zlib.crc32(kind + content).to_bytes(4, "big")
    )


def raw_png(depth, colour, width=2, height=2, pixels=b"\0" * 200):
    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([depth, colour, 0, 0, 0])
    parts = chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(pixels)), chunk(b"IEND", b"")
    return pictures.PNG + b"".join(parts)


GREY = Image.fromarray(np.arange(100, dtype=np.uint8).reshape(10, 10))
REFUSED = {
    "empty": (b"", "neither PNG nor TIFF"),
    "jpeg": (b"\xff\xd8\xff\xe0" + bytes(100), "neither PNG nor TIFF"),
    "16-bit-colour": (raw_png(16, 2, pixels=bytes(50)), "colour type 2 with 16 bits"),
    "palette": (png(GREY.convert("P")), "colour type 3"),
    "alpha": (png(GREY.convert("RGBA")), "colour type 6"),
    "one-bit": (png(GREY.convert("1")), "with 1 bits"),
    "transparent": (png(GREY, transparency=3), "transparency"),
    "truncated": (png(GREY)[:-40], "damaged PNG"),
    "header-only": (pictures.PNG + bytes(4), "damaged PNG"),
    "huge": (raw_png(8, 0, 60000, 60000), "unpacks to|damaged"),
    "float": (tiff(np.ones((4, 4), np.float32)), "holds float32"),
    "int32": (tiff(np.ones((4, 4), np.int32)), "holds int32"),
    "pages": (tiff(np.ones((2, 4, 4), np.uint8), photometric="minisblack"), "several pages"),
    "planar-alpha": (tiff(np.ones((4, 4, 4), np.uint8), photometric="rgb"), "transparency"),
    "tiff-cut": (tiff(np.ones((40, 40), np.uint8))[:300], "damaged|unpacks"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_wrong_files_are_refused(case, tmp_path):
    content, match = REFUSED[case]
    (tmp_path / "a").write_bytes(content)
    with pytest.raises((ValueError, TypeError), match=match):
        read_picture(tmp_path / "a")


def test_a_strip_that_unpacks_to_too_much(tmp_path):
    """A strip of 100 declared bytes that holds 64 MiB of zeros."""
    good = tiff(np.zeros((10, 10), np.uint8), compression="zlib")
    bomb = zlib.compress(bytes(2**26))
    with tifffile.TiffFile(io.BytesIO(good)) as file:
        page = file.pages.first
        offsets, counts = page.tags["StripOffsets"], page.tags["StripByteCounts"]
        where = (offsets.valueoffset, counts.valueoffset)
        assert (offsets.dtype, counts.dtype) == (4, 4)
    changed = bytearray(good)
    changed[where[0] : where[0] + 4] = len(good).to_bytes(4, "little")
    changed[where[1] : where[1] + 4] = len(bomb).to_bytes(4, "little")
    (tmp_path / "a.tif").write_bytes(changed + bomb)
    with pytest.raises(ValueError, match="unpacks to more"):
        read_picture(tmp_path / "a.tif")


def test_large_files_are_refused_before_they_are_read(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(png(GREY))
    monkeypatch.setattr(pictures, "LIMIT", 50)
    with pytest.raises(ValueError, match="more than 50 bytes"):
        read_picture(tmp_path / "a.png")
    with pytest.raises(FileNotFoundError):
        read_picture(tmp_path)


WRONG = [
    ("a.png", np.ones((2, 4, 4)), 8, ShapeError, "1 or 3 channels"),
    ("a.png", np.ones((4, 4)), 8, ShapeError, "1 or 3 channels"),
    ("a.png", np.ones((1, 4, 4), np.uint8), 8, TypeError, "floating-point"),
    ("a.png", np.ones((1, 4, 4)), 12, TypeError, "8 or 16 bits"),
    ("a.png", np.full((1, 4, 4), 1.01), 8, ValueError, r"\[0, 1\]"),
    ("a.png", np.full((1, 4, 4), -1e-9), 8, ValueError, r"\[0, 1\]"),
    ("a.png", np.full((1, 4, 4), np.nan), 8, ValueError, r"\[0, 1\]"),
    ("a.png", np.ones((3, 4, 4)), 16, ValueError, "16-bit colour"),
    ("a.jpg", np.ones((1, 4, 4)), 8, ValueError, "must end with"),
]


@pytest.mark.parametrize(
    ("name", "values", "bits", "error", "match"),
    [pytest.param(*row, id=str(k)) for k, row in enumerate(WRONG)],
)
def test_what_cannot_be_written(name, values, bits, error, match, tmp_path):
    with pytest.raises(error, match=match):
        write_picture(tmp_path / name, values, bits)
    assert not list(tmp_path.iterdir())
