from collections.abc import Callable
from typing import Any

import pytest

from tithe.audit import Axis, Claim, Column, Evidence, Finding, Plot, Series, Table


def _evidence(run: Any) -> Evidence:
    table = Table(
        "Errors",
        [{"n": 64, "error": 0.04, "low": 0.03, "high": 0.05}, {"n": 128, "error": None, "low": None, "high": None}],
        [Column("n", "n", ","), Column("error", "error", ".2%", "low", "high")],
    )
    plot = Plot(
        "Error against size",
        Axis("n", log=True, spec=","),
        Axis("error", log=True, spec="g%"),
        [
            Series("measured", [64, 128], [0.04, 0.03], [0.03, 0.02], [0.05, 0.04]),
            Series("plain", [64, 128], [0.2, 0.1], role="baseline"),
            Series("closed form", [64, 128], [0.04, 0.03], role="theory"),
            Series("the source", [64], [0.05], role="claimed"),
        ],
    )
    return Evidence({"errors": table}, [plot], {"exponent": -0.5}, ["A note."])


@pytest.fixture
def fake() -> Callable[..., Claim]:
    """Makes claims that measure nothing much and end as they are told to."""

    def make(id: str = "X1", verdict: str = "holds", **given: Any) -> Claim:
        condition = "it is Monday" if verdict == "holds if" else ""
        finding = Finding(verdict, f"{id} ends so.", "4%", "Because.", condition)  # type: ignore[arg-type]
        defaults = {
            "title": f"Claim {id}", "says": "It says.", "claimed": "5%", "baseline": "the plain way", "budget": 1.0,
            "measure": _evidence, "judge": lambda evidence: finding,
        }  # fmt: skip
        return Claim(id=id, **{**defaults, **given})

    return make
