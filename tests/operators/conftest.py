"""Matrices that these tests build stay out of the user's cache."""

import pytest


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("INVDIFF_CACHE", str(tmp_path / "cache"))
