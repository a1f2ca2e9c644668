import sys
from pathlib import Path
from types import ModuleType

import pytest

from tithe.hashtron import filters, stages
from tithe.hashtron.kernels import compiled, plain

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(params=[compiled, plain], ids=["compiled", "plain"])
def loops(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Both kernels in turn, used by everything."""
    for module in (filters, stages):
        monkeypatch.setattr(module, "kernels", lambda: request.param)
    return request.param
