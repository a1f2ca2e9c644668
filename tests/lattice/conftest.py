"""A Lattice of each kind; and worker processes import the functions of these tests by name."""

import sys
from pathlib import Path

import pytest

from tithe.lattice import Lattice

KINDS = ["inline", "threads", "processes"]


@pytest.fixture(scope="session", autouse=True)
def _importable():
    sys.path.insert(0, str(Path(__file__).parents[2]))
    yield
    sys.path.remove(str(Path(__file__).parents[2]))


@pytest.fixture(scope="module", params=KINDS)
def lattice(request):
    with Lattice(2, request.param, backoff=0.01) as made:
        yield made


@pytest.fixture
def threads():
    with Lattice(2, backoff=0.01) as made:
        yield made
