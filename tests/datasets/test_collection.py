"""Folders and lists of files: stable names, and no way out of the root."""

import hashlib
import os

import pytest

from invdiff.datasets.collection import Collection


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "root"
    for name in ("b.h5", "a/x.H5", "a/y.h5", "a/.hidden.h5", ".git/z.h5", "c.txt", "A.h5"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


def test_folder_is_sorted_by_relative_name(root):
    found = Collection.of_folder(root, [".h5"])
    assert found.names == ("A.h5", "a/x.H5", "a/y.h5", "b.h5")
    assert len(found) == 4
    assert [path.read_text() for _, path in found] == list(found.names)
    assert Collection.of_folder(root, (".h5", ".txt")).names[-1] == "c.txt"
    assert "h5" not in repr(found)


def test_names_do_not_depend_on_where_the_folder_is(root, tmp_path, monkeypatch):
    before = Collection.of_folder(root, [".h5"]).names
    root.rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path / "moved")
    assert Collection.of_folder(".", [".h5"]).names == before


def test_list_keeps_its_order(root):
    (root / "list.txt").write_text("\ufeffb.h5\r\n# a comment\n\n  a/x.H5  \n", encoding="utf-8")
    assert Collection.of_list(root / "list.txt").names == ("b.h5", "a/x.H5")
    other = root.parent / "list.txt"
    other.write_text("b.h5\n")
    assert Collection.of_list(other, root).names == ("b.h5",)


def test_links_within_are_followed_and_those_out_are_not(root, tmp_path):
    (tmp_path / "secret.h5").write_text("secret")
    (root / "good.h5").symlink_to("b.h5")
    assert Collection(root, ("good.h5",)).names == ("good.h5",)
    with pytest.raises(ValueError, match="same file"):
        Collection(root, ("good.h5", "b.h5"))
    (root / "good.h5").unlink()
    (root / "out.h5").symlink_to(tmp_path / "secret.h5")
    with pytest.raises(ValueError, match="out of the root"):
        Collection.of_folder(root, [".h5"])
    (root / "out.h5").unlink()
    (root / "folder").symlink_to(tmp_path)
    assert len(Collection.of_folder(root, [".h5"])) == 4
    with pytest.raises(ValueError, match="out of the root"):
        Collection(root, ("folder/secret.h5",))
    (root / "loop.h5").symlink_to("loop.h5")
    with pytest.raises(FileNotFoundError, match="Name 1"):
        Collection(root, ("loop.h5",))


def test_the_root_itself_may_be_a_link(root, tmp_path):
    (tmp_path / "link").symlink_to(root)
    assert Collection.of_folder(tmp_path / "link", [".h5"]).names[0] == "A.h5"


LISTS = {
    "empty": ("# nothing\n\n", ValueError, "0 files"),
    "twice": ("b.h5\nb.h5\n", ValueError, "Names 1 and 2"),
    "spelled": ("b.h5\n./b.h5\n", ValueError, "Name 2"),
    "doubled": ("a//x.H5\n", ValueError, "Name 1"),
    "upwards": ("a/../b.h5\n", ValueError, "Name 1"),
    "out": ("../root/b.h5\n", ValueError, "Name 1"),
    "absolute": ("/etc/passwd\n", ValueError, "Name 1"),
    "backslash": ("a\\x.H5\n", ValueError, "Name 1"),
    "control": ("b.h5\x00\n", ValueError, "Name 1"),
    "long": ("a" * 5000, ValueError, "Name 1"),
    "missing": ("b.h5\nnone.h5\n", FileNotFoundError, "Name 2"),
    "folder": ("a\n", FileNotFoundError, "Name 1"),
}


@pytest.mark.parametrize("case", LISTS)
def test_wrong_lists_are_refused(case, root):
    text, error, match = LISTS[case]
    (root / "list.txt").write_text(text)
    with pytest.raises(error, match=match):
        Collection.of_list(root / "list.txt")


def test_what_is_no_list_or_folder(root):
    (root / "list.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ValueError, match="UTF-8"):
        Collection.of_list(root / "list.txt")
    with pytest.raises(FileNotFoundError):
        Collection.of_list(root / "none.txt")
    with pytest.raises(NotADirectoryError):
        Collection.of_list(root / "list.txt", root / "none")
    with pytest.raises(NotADirectoryError):
        Collection.of_folder(root / "none", [".h5"])
    with pytest.raises(ValueError, match="0 files"):
        Collection.of_folder(root, [".dcm"])
    os.mkfifo(root / "pipe.h5")
    with pytest.raises(FileNotFoundError):
        Collection(root, ("pipe.h5",))


def test_content_names_are_of_the_content(root):
    found = Collection.of_folder(root, [".h5"])
    expected = hashlib.sha256(b"A.h5").hexdigest()[:16]
    assert found.content_names()[0] == expected
    (root / "b.h5").rename(root / "renamed.h5")
    assert Collection(root, ("renamed.h5",)).content_names()[0] == found_name(b"b.h5")
    (root / "copy.h5").write_text("b.h5")
    with pytest.raises(ValueError, match="same bytes"):
        Collection(root, ("copy.h5", "renamed.h5")).content_names()


def found_name(content):
    return hashlib.sha256(content).hexdigest()[:16]
