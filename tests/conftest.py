"""What every test shares: a cache of its own, one thread, and the device to run on."""

import os
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))  # helpers.py, for tests in folders


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", help="where the samplers' contract runs")


def pytest_configure(config: pytest.Config) -> None:
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.config.getoption("--device"))


@pytest.fixture(scope="session", autouse=True)
def session_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nothing that a test builds reaches the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    before = os.environ.get("INVDIFF_CACHE")
    os.environ["INVDIFF_CACHE"] = str(folder)
    yield folder
    if before is None:
        del os.environ["INVDIFF_CACHE"]
    else:
        os.environ["INVDIFF_CACHE"] = before
