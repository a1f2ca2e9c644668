"""Existing models come into the pipeline with the sums of all their neurons, whole or not at all."""

import hashlib
import json
import shutil
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tithe
from tithe.errors import CorruptFileError, InvalidStateError, InvalidValueError, ModelFileError
from tithe.hashtron import Layer, Network, Pipeline, SumCache, Topology, fit_network, load, save, tally, tally_layer
from tithe.hashtron.combiners import MajorityPool
from tithe.hashtron.pipeline import migration
from tithe.hashtron.pipeline.migration import CACHE, MODEL, migrate
from tithe.hashtron.topology import TOPOLOGIES

VECTORS = Path(__file__).parent / "vectors"
ROOTS = np.arange(256), np.sqrt(np.arange(256)).astype(int)
TOPOLOGY = Topology((Layer(15, combiner=MajorityPool(5, 1, 3, capwidth=5)), Layer(1)))


def odd_digits() -> tuple[np.ndarray, np.ndarray]:
    digits = tithe.data.load("digits")
    random = np.random.default_rng(0)
    pixels = np.stack([random.permutation(64)[:10] for _ in range(15)])
    return ((digits.train_x.reshape(-1, 64) > 7)[:, pixels] << np.arange(10)).sum(2), digits.train_y % 2


def content(folder: Path) -> dict[str, str]:
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    """A model of the reference, alone in its folder."""
    (tmp_path / "old").mkdir()
    return Path(shutil.copy(VECTORS / "squareroot_medium.json.t.zlib", tmp_path / "old"))


def test_a_model_of_the_reference_comes_with_the_sums_of_all_its_neurons(reference: Path, tmp_path: Path) -> None:
    before = content(reference.parent)
    done = migrate(reference, tmp_path / "new", topology="squareroot", samples=ROOTS)
    assert content(reference.parent) == before
    old, new = load(reference, "squareroot"), load(tmp_path / "new" / MODEL)
    assert new.neurons == old.neurons and new.topology == old.topology
    assert (new.predict(ROOTS[0]) == old.predict(ROOTS[0])).all()
    assert done.records == 455 and done.compared == 256 and done.model == tmp_path / "new" / MODEL
    assert done.accuracy == pytest.approx((old.predict(ROOTS[0]) == ROOTS[1]).mean())
    assert [layer.neurons for layer in done.margins] == [375, 75, 5]
    trace, layer_votes = old.trace(ROOTS[0]), tally_layer(old, *ROOTS, 1, balanced=True)
    with SumCache(done.cache) as cache:
        rows = cache.records()
        assert len(cache) == 455 and cache.recovered == ""
    assert rows["votes"][rows["layer"] == 1].tolist() == [layer_votes.of(position).weighed for position in range(75)]
    assert rows["pivotal"][rows["layer"] == 1].tolist() == layer_votes.pivotal.tolist()
    for index in (0, 200, 374, 375, 449, 450, 454):
        votes, (layer, position) = tally(old, trace, ROOTS[1], index, balanced=True), old.topology.place(index)
        (row,) = rows[(rows["layer"] == layer) & (rows["position"] == position)]
        assert (row["votes"], row["pivotal"], row["samples"]) == (
            votes.total if layer == 2 else votes.weighed,
            votes.pivotal,
            256,
        )
        assert row["outputs"] == 2 * trace.bits[layer][position].sum(dtype=int) - 256
        assert row["final"] == (layer == 2) and row["run"] == 0 and np.isnan(row["eval"])


def test_a_pipeline_goes_on_from_it_and_reads_its_sums(tmp_path: Path) -> None:
    X, y = odd_digits()
    trained = fit_network(Network.random(TOPOLOGY, np.random.default_rng(1)), X, y, seed=0, premodulo=10**6).network
    old = save(trained, tmp_path / "model.json.t.zlib")
    done = migrate(old, tmp_path / "new", samples=(X, y))
    assert done.network.topology == TOPOLOGY
    with SumCache(done.cache) as cache:
        assert set(cache.records()["premodulo"].tolist()) == {10**6}
        run = Pipeline(final="majority").fit(load(done.model), X, y, seed=0, cache=cache)
        first = next(step for step in run.steps if not step.final and step.kind == "trained")
        assert first.premodulo == 10**5  # at most ten times less than before
        assert set(cache.records()["run"].tolist()) == {0, 1}
    alone = Pipeline(final="majority").fit(load(done.model), X, y, seed=0)
    assert next(step for step in alone.steps if not step.final and step.kind == "trained").premodulo < 1000
    assert (run.network.predict(X) == y).mean() > 0.7


def test_without_samples_the_cache_is_empty(reference: Path, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()  # an empty folder is as good as none
    done = migrate(reference, tmp_path / "new", topology="squareroot")
    assert (done.records, done.accuracy, done.margins, done.compared) == (0, None, (), 4096)
    with SumCache(tmp_path / "new" / CACHE) as cache:
        assert len(cache) == 0


def lzw(text: bytes) -> bytes:
    """As Go's ``compress/lzw`` could write it: lowest bits first, cleared before a code needs more than nine bits."""
    codes = [code for at in range(0, len(text), 200) for code in (256, *text[at : at + 200])]
    packed = int(sum(code << 9 * place for place, code in enumerate([*codes, 257])))
    return packed.to_bytes(-(-9 * (len(codes) + 1) // 8), "little")


def test_a_model_in_the_older_compression_can_be_moved(reference: Path, tmp_path: Path) -> None:
    old = tmp_path / "old.json.t.lzw"
    old.write_bytes(lzw(zlib.decompress(reference.read_bytes())))
    done = migrate(old, tmp_path / "new", topology="squareroot")
    assert load(done.model).neurons == load(reference, "squareroot").neurons


def test_a_single_neuron_can_be_moved(tmp_path: Path) -> None:
    done = migrate(VECTORS / "isalnum.json.t.zlib", tmp_path / "new", samples=(np.arange(128), np.arange(128) % 2))
    assert done.records == 1
    with SumCache(done.cache) as cache:
        (row,) = cache.records()
    assert row["final"] and row["pivotal"] == 128 and row["votes"] == 0


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"topology": None}, ModelFileError),
        ({"topology": "cuberoot"}, InvalidValueError),
        ({"samples": ([1, 2], [0, 1, 2])}, InvalidValueError),
        ({"samples": ([1, 2], [0, 99])}, InvalidValueError),
    ],
)
def test_what_fails_leaves_nothing_behind(
    reference: Path, tmp_path: Path, arguments: dict[str, Any], error: type[Exception]
) -> None:
    before = content(tmp_path)
    with pytest.raises(error):
        migrate(reference, tmp_path / "new", **{"topology": "squareroot", **arguments})
    assert content(tmp_path) == before and [path.name for path in tmp_path.iterdir()] == ["old"]


def test_an_interruption_leaves_nothing_behind(
    reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(migration, "_compare", interrupted)
    with pytest.raises(KeyboardInterrupt):
        migrate(reference, tmp_path / "new", topology="squareroot")
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def test_a_model_that_was_written_wrong_is_noticed(
    reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Network.random(TOPOLOGIES["squareroot"], np.random.default_rng(0))
    monkeypatch.setattr(migration, "save", lambda network, path: save(other, path))
    with pytest.raises(CorruptFileError, match="answers differ"):
        migrate(reference, tmp_path / "new", topology="squareroot", samples=ROOTS)
    assert not (tmp_path / "new").exists()


def test_a_folder_in_use_is_left_alone(reference: Path, tmp_path: Path) -> None:
    taken = tmp_path / "new"
    taken.mkdir()
    (taken / "mine.txt").write_text("mine")
    with pytest.raises(InvalidStateError, match="not empty"):
        migrate(reference, taken, topology="squareroot")
    with pytest.raises(InvalidValueError, match="is a file"):
        migrate(reference, taken / "mine.txt", topology="squareroot")
    with pytest.raises(InvalidStateError, match="not empty"):
        migrate(reference, reference.parent, topology="squareroot")
    assert (taken / "mine.txt").read_text() == "mine"


def test_a_topology_beside_the_model_is_taken(reference: Path, tmp_path: Path) -> None:
    text = TOPOLOGIES["squareroot"].to_json()
    reference.with_name(reference.name + ".topology.json").write_text(text)
    done = migrate(reference, tmp_path / "new")
    assert done.network.topology == TOPOLOGIES["squareroot"]
    beside = json.loads(done.model.with_name(MODEL + ".topology.json").read_text())
    assert beside["sha256"] == hashlib.sha256(done.model.read_bytes()).hexdigest()
