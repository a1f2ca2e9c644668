"""Templates are plain data that a pipeline takes, survive a file, and are refused with what is known."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tithe.errors import CorruptFileError, InvalidDTypeError, InvalidValueError
from tithe.hashtron import Layer, Network, Pipeline, SumCache, Topology
from tithe.hashtron.backward.dampers import ExponentialSmoothing
from tithe.hashtron.backward.law import CapacityLaw
from tithe.hashtron.backward.policies import Constant
from tithe.hashtron.backward.retention import Retention
from tithe.hashtron.combiners import MajorityPool
from tithe.hashtron.fitting import fit_network
from tithe.hashtron.pipeline.templates import TEMPLATES, Template, load_template, save_template, template

TOPOLOGY = Topology((Layer(9, combiner=MajorityPool(3, 1, 3, capwidth=3)), Layer(1)))
X, Y = np.arange(60), np.arange(60) // 3 % 2


def start() -> Network:
    return Network.random(TOPOLOGY, np.random.default_rng(0))


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_template_is_one_that_a_pipeline_trains_with(name: str) -> None:
    pipeline = Pipeline(**template(name))
    cache = SumCache()
    run = pipeline.fit(start(), X, Y, seed=0, cache=cache)
    assert (run.network.predict(X) == Y).mean() > 0.6
    cache.prune(TEMPLATES[name].retention)
    with pytest.raises(dataclasses.FrozenInstanceError):
        TEMPLATES[name].settings = {}  # type: ignore[misc]


def test_settings_reach_the_policy() -> None:
    assert Pipeline(**template("careful")).policy == CapacityLaw(damper=ExponentialSmoothing(0.5), most_change=2)
    assert (
        Pipeline(**template("forward")).policy == Constant()
        and Pipeline(**template("backward")).policy == CapacityLaw()
    )
    assert template("careful", tau=0.5)["tau"] == 0.5 and TEMPLATES["careful"].settings["tau"] == 0.7


# --- rollback


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_soft_goes_forward_and_medium_writes_sums_that_it_does_not_read() -> None:
    fits: dict[Any, Any] = {}
    for rollback in (None, "soft", "medium"):
        cache = SumCache()
        pipeline = Pipeline(**template("backward", rollback=rollback))
        fits[rollback] = pipeline.fit(start(), X, Y, seed=3, cache=cache)
        first, records = len(fits[rollback].steps), cache.records()
        assert len(records) == sum(step.kind == "trained" for step in fits[rollback].steps) > 0
        again = pipeline.fit(start(), X, Y, seed=3, cache=cache)
        if rollback == "medium":
            assert again.network.neurons == fits[rollback].network.neurons and len(again.steps) == first
            hidden = records[~records["final"]]
            assert set(hidden["premodulo"].tolist()) == {(1 << 32) - 1} and {step.why for step in again.steps} <= {
                "final", "order", "random", "rebalance", "no votes",
            }  # fmt: skip
    assert next(step.layer for step in fits["medium"].steps) == 1
    forward = Pipeline(**template("forward")).fit(start(), X, Y, seed=3)
    assert fits["soft"].network.neurons == forward.network.neurons != fits[None].network.neurons
    assert [step.place for step in fits["soft"].steps] == [step.place for step in forward.steps]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_hard_is_the_reference_and_touches_no_cache() -> None:
    cache = SumCache()
    run = Pipeline(**template("reference")).fit(start(), X, Y, seed=3, cache=cache)
    assert run.network.neurons == fit_network(start(), X, Y, seed=3).network.neurons and not len(cache)


# --- files


SETTINGS = st.fixed_dictionaries(
    {},
    optional={
        "direction": st.sampled_from(["backward", "forward"]),
        "policy": st.one_of(
            st.sampled_from(["none", "law", "law_n"]),
            st.fixed_dictionaries({"name": st.just("constant"), "premodulo": st.integers(1, 2**32 - 1)}),
            st.fixed_dictionaries(
                {"name": st.just("law"), "damper": st.just({"name": "percent", "percent": 20.5})},
                optional={"most_change": st.integers(2, 99)},
            ),
        ),
        "sweeps": st.integers(1, 9),
        "balanced": st.booleans(),
        "tau": st.floats(0.01, 1.0),
        "timeout": st.floats(1e-3, 1e9),
        "rollback": st.sampled_from(["soft", "medium", "hard"]),
    },
)
KEPT = st.builds(
    Retention,
    last=st.none() | st.integers(0, 99),
    seconds=st.none() | st.floats(0, 1e9),
    bytes=st.none() | st.integers(0, 10**9),
)


@settings(max_examples=40)
@given(SETTINGS, KEPT, st.sampled_from([".toml", ".json"]))
def test_a_template_survives_its_file(
    tmp_path_factory: pytest.TempPathFactory, given_settings: dict[str, Any], kept: Retention, ending: str
) -> None:
    path = tmp_path_factory.getbasetemp() / f"mine{ending}"
    assert load_template(save_template(Template(given_settings, kept), path)) == Template(given_settings, kept)
    assert template(str(path)) == given_settings


def test_none_is_left_out_of_toml(tmp_path: Path) -> None:
    path = save_template(Template({"timeout": None, "sweeps": 2}), tmp_path / "mine.toml")
    assert load_template(path).settings == {"sweeps": 2}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('directoin = "forward"', "no setting 'directoin'; it has direction, policy"),
        ('direction = "sideways"', "sideways"),
        ('policy = "lore"', "no policy 'lore'; use one of none, constant, law"),
        ('[policy]\nname = "law"\nmost_chnage = 3', "no option most_chnage; it has damper, most_change"),
        ("sweeps = 0", "sweeps"),
        ('sweeps = "two"', "sweeps"),
        ('timeout = "soon"', "timeout|cannot be"),
        ("tau = 1.5", "tau"),
        ('rollback = "harder"', "rollback"),
        ("[retention]\nlats = 3", "last, seconds, bytes"),
        ("retention = 3", "last, seconds, bytes"),
        ("[retention]\nlast = -3", "last"),
    ],
)
def test_what_cannot_be_is_refused_with_the_file_and_what_is_known(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(InvalidValueError, match=f"(?s)mine.toml.*({told})"):
        load_template(path)


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    for name, text in (("a.toml", "= 3"), ("a.json", "{"), ("b.json", "[1]")):
        (tmp_path / name).write_text(text)
        with pytest.raises(CorruptFileError, match=name):
            load_template(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        load_template(tmp_path / "none.toml")
    with pytest.raises(InvalidValueError, match="no template 'slow'; use one of backward"):
        template("slow")
    with pytest.raises(InvalidValueError, match=r"use \.toml or \.json"):
        save_template(TEMPLATES["fast"], tmp_path / "mine.yaml")
    with pytest.raises(InvalidValueError, match="by its name"):
        save_template(Template({"policy": CapacityLaw()}), tmp_path / "mine.toml")
    with pytest.raises(InvalidValueError, match="a mapping"):
        Template(3)  # type: ignore[arg-type]
    with pytest.raises((InvalidValueError, InvalidDTypeError)):
        template("fast", tries=1.5)
