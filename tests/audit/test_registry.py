import sys

import pytest

from tithe.audit import Claim, discover, select
from tithe.errors import InvalidValueError, UnknownClaimError

CLAIM = """
from tithe.audit import Claim, Evidence, Finding
CLAIM = Claim(
    id="{id}", title="", says="", claimed="", baseline="", budget=1.0,
    measure=lambda run: Evidence(), judge=lambda found: Finding("holds", ""),
)
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    def make(**files: str) -> str:
        home = tmp_path / "somewhere"
        home.mkdir()
        for name, text in {"__init__": "", **files}.items():
            (home / f"{name}.py").write_text(text)
        monkeypatch.syspath_prepend(tmp_path)
        return "somewhere"

    yield make
    for name in [name for name in sys.modules if name.split(".")[0] == "somewhere"]:
        del sys.modules[name]


def test_the_claims_of_tithe_are_complete():
    claims = discover()
    assert len({claim.id for claim in claims}) == len(claims)
    assert list(claims) == sorted(claims, key=lambda claim: claim.order)
    assert {"M2", "M4"} <= {claim.id for claim in claims}
    for claim in claims:
        assert all((claim.title, claim.says, claim.claimed, claim.baseline)), claim.id


def test_a_quick_audit_fits_its_budget():
    assert sum(claim.budget for claim in discover()) < 480  # eight minutes, with all systems in


def test_claims_are_found_by_file_and_sorted(package):
    name = package(
        m10_b=CLAIM.format(id="M10"), m2_a=CLAIM.format(id="M2"), l4_c=CLAIM.format(id="L4"), _shared="raise ValueError"
    )
    assert [claim.id for claim in discover(name)] == ["L4", "M2", "M10"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"m2_a": "CLAIM = 2"}, "defines no claim"),
        ({"m2_a": ""}, "defines no claim"),
        ({"m3_a": CLAIM.format(id="M2")}, "name the file m2_<what>"),
        ({"m2_a": CLAIM.format(id="M2"), "m2_b": CLAIM.format(id="M2")}, "two claims are called M2"),
    ],
)
def test_what_a_claim_file_must_be(package, files, message):
    with pytest.raises(InvalidValueError, match=message):
        discover(package(**files))


def test_select_takes_ids_in_either_case_and_keeps_the_order(fake):
    claims: list[Claim] = [fake("M2"), fake("M4"), fake("M10")]
    assert [claim.id for claim in select(claims, ["m10", "M2", "m2"])] == ["M2", "M10"]
    assert len(select(claims, [])) == 3


def test_select_names_the_known_ids(fake):
    with pytest.raises(UnknownClaimError, match="unknown claim M3, Q9; the claims are M2, M4"):
        select([fake("M2"), fake("M4")], ["q9", "M3", "M2"])
