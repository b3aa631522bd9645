"""What is shipped, and what importing it costs."""

import configparser
import importlib
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import invdiff

ROOT = Path(__file__).parents[1]
FOLDERS = {"invdiff": "invdiff"} | {
    f"invdiff.{name}": name for name in ("operators", "priors", "datasets")
}


of_the_checkout = pytest.mark.skipif(
    not (ROOT / "invdiff").exists(), reason="looks at the source tree; this run is of the wheel"
)


def settings() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def folders_with_code() -> set[str]:
    """The package each folder with Python files belongs to; links are seen at their target."""
    found = set()
    for package, folder in FOLDERS.items():
        for path in (ROOT / folder).rglob("*.py"):
            inside = path.parent.relative_to(ROOT / folder)
            if path.parent.resolve().is_relative_to(ROOT.resolve() / folder):
                found.add(".".join([package, *inside.parts]))
    return found


@of_the_checkout
def test_every_folder_is_shipped():
    listed = settings()["options"]["packages"].split()
    assert len(set(listed)) == len(listed)
    assert set(listed) == folders_with_code()


@of_the_checkout
def test_top_level_folders_are_mapped():
    lines = settings()["options"]["package_dir"].strip().splitlines()
    assert dict(line.split(" = ") for line in lines) == FOLDERS
    for name in ("operators", "priors", "datasets"):
        link = ROOT / "invdiff" / name
        assert link.is_symlink()
        assert link.readlink() == Path("..", name)


@of_the_checkout
def test_datasets_does_not_shadow_other_projects():
    assert not (ROOT / "datasets" / "__init__.py").exists()


def test_import_is_light():
    """Heavy parts are imported where they are used."""
    heavy = ["deepinv", "astra", "matplotlib", "skimage", "pydicom", "typer", "torchvision"]
    code = f"import sys, invdiff; print([name for name in {heavy} if name in sys.modules])"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("own", [None, "active"])
def test_threads_sleep_unless_told_otherwise(own):
    code = "import os, invdiff; print(os.environ['OMP_WAIT_POLICY'])"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    environment.pop("OMP_WAIT_POLICY", None)
    if own:
        environment["OMP_WAIT_POLICY"] = own
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == (own or "passive")


# Still to be given an __all__ by their authors.
WITHOUT = {
    "invdiff.datasets.crops",
    "invdiff.datasets.ct_phantoms",
    "invdiff.priors.preconditioning",
    "invdiff.priors.unet",
}


def modules() -> list[str]:
    names = ["invdiff"]
    for package in settings()["options"]["packages"].split():
        found = importlib.import_module(package)
        names += [f"{package}.{one.name}" for one in pkgutil.iter_modules(found.__path__)]
    return sorted(set(names) - {"invdiff.datasets"} - WITHOUT)


@pytest.mark.parametrize("name", modules())
def test_modules_say_what_is_public(name):
    module = importlib.import_module(name)
    assert module.__doc__
    if name == "invdiff.demos":  # only a folder: its modules are imported by their full names
        return
    assert all(hasattr(module, one) for one in module.__all__)
    assert len(set(module.__all__)) == len(module.__all__)


def test_version_is_the_shipped_one():
    version = settings()["metadata"]["version"]
    assert version.count(".") == 2
    assert all(hasattr(invdiff, name) for name in invdiff.__all__)
