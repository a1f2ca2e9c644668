"""Worker processes import the functions of these tests by name, so the folder of ``tests`` must be on their path."""

import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def _importable():
    sys.path.insert(0, str(Path(__file__).parents[2]))
    yield
    sys.path.remove(str(Path(__file__).parents[2]))
