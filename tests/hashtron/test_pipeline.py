"""The pipeline: the order of the layers, what fails, what is refused, and what an interruption leaves."""

import itertools
import warnings
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tithe.errors import CorruptFileError, InvalidDTypeError, InvalidStateError, InvalidValueError
from tithe.hashtron import Hashtron, Layer, Network, Pipeline, SumCache, Topology, fit_network
from tithe.hashtron.backward.policies import Constant, policy
from tithe.hashtron.combiners import Full, MajorityPool
from tithe.hashtron.counts import Parity, Sum
from tithe.hashtron.layer_votes import tally_layer
from tithe.hashtron.pipeline.journal import JOURNAL
from tithe.hashtron.trainee import Trainee
from tithe.hashtron.votes import tally
from tithe.ledger import Ledger
from tithe.locks import locked

WIDE = Topology((Layer(15, combiner=MajorityPool(5, 1, 3, capwidth=5)), Layer(1)))
DEEP = Topology((
    Layer(24, combiner=Full(24, 4, 4)), Layer(6, combiner=MajorityPool(3, 1, 2, capwidth=3)), Layer(1),
))  # fmt: skip
FINALS = Topology((Layer(12, combiner=MajorityPool(6, 1, 2, capwidth=6)), Layer(3)))
NARROW = Topology((Layer(12, 64, Full(12, 6, 6)), Layer(2, 64)))  # its last neurons cannot count
ARGMAX = Topology((Layer(12, combiner=Sum((3, 4))),), answer="argmax")


def problem(topology, samples=300, seed=0):
    """Samples whose targets depend on one part of what each neuron reads."""
    rng = np.random.default_rng(seed)
    hidden = rng.integers(0, 8, samples)
    noise = rng.integers(0, 4, (samples, topology.layers[0].neurons))
    X = (hidden[:, None] * 4 + noise).astype(np.uint32)
    classes = 8 if topology.layers[-1].combiner is None and topology.layers[-1].neurons == 3 else 2
    classes = 3 if topology is ARGMAX else classes
    return X, hidden % classes, Network.random(topology, rng)


def without_seconds(steps):
    """Steps as they are the same on every machine."""
    return [replace(step, seconds=0.0) for step in steps]


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        yield


@pytest.mark.parametrize("topology", [WIDE, DEEP, FINALS, ARGMAX], ids=["wide", "deep", "finals", "argmax"])
@pytest.mark.parametrize("name", ["none", "law"])
def test_backward_begins_with_the_final_layer_and_takes_every_neuron_once_a_sweep(topology, name):
    X, y, start = problem(topology)
    run = Pipeline(policy=name, sweeps=2).fit(start, X, y, seed=3)
    last = len(topology.layers) - 1
    for sweep in range(2):
        steps = [step for step in run.steps if step.sweep == sweep]
        assert steps[0].layer == last
        assert [step.number for step in run.steps] == list(range(len(run.steps)))
        rises = [b for a, b in itertools.pairwise(steps) if b.layer > a.layer]
        assert all(step.kind == "forward" or step.why == "rebalance" for step in rises)
        ends = Counter(step.place for step in steps if step.kind in ("trained", "skipped") and step.why != "rebalance")
        assert ends == Counter((layer, p) for layer, spec in enumerate(topology.layers) for p in range(spec.neurons))
    assert run.steps[-1].train == (run.network.predict(X) == y).mean()
    assert run.steps[-1].train > max(np.bincount(y)) / len(y)


def test_forward_takes_every_neuron_once_a_sweep_in_an_order_of_its_own():
    X, y, start = problem(WIDE)
    run = Pipeline("forward", sweeps=2).fit(start, X, y, seed=3)
    assert [step.premodulo for step in run.steps if not step.final] == [(1 << 32) - 1] * 30
    orders = [[step.place for step in run.steps if step.sweep == sweep] for sweep in range(2)]
    assert sorted(orders[0]) == sorted(orders[1]) == [(0, p) for p in range(15)] + [(1, 0)]
    assert orders[0] != orders[1]
    other = Pipeline("forward").fit(start, X, y, seed=4)
    assert [step.place for step in other.steps] != orders[0]


@pytest.mark.parametrize("direction", ["backward", "forward"])
def test_a_run_is_the_same_for_the_same_arguments(direction):
    X, y, start = problem(WIDE)
    runs = [Pipeline(direction, final="majority").fit(start, X, y, seed=seed) for seed in (0, 0, 1)]
    assert without_seconds(runs[0].steps) == without_seconds(runs[1].steps)
    assert runs[0].network.neurons == runs[1].network.neurons != runs[2].network.neurons


def test_steps_say_what_the_tally_said():
    X, y, start = problem(WIDE)
    run = Pipeline(final="majority").fit(start, X, y, seed=0, held_out=(X[:50], y[:50]))
    network, prior = start, max(np.bincount(y)) / len(y)
    for step in run.steps:
        index = step.position + 15 * step.layer
        votes = tally(network, network.trace(X), y, index, balanced=True)
        total = votes.total if step.final else votes.weighed
        assert (total, votes.pivotal, votes.samples) == (step.total, step.pivotal, step.samples)
        network = network.replace(index, step.neuron)
        trace = network.trace(X)
        assert step.outputs == 2 * int(trace.bits[step.layer][step.position].sum()) - len(X)
        assert step.train == (trace.answers == y).mean()
        assert step.eval == (network.predict(X[:50]) == y[:50]).mean()
        assert step.prior == pytest.approx(prior, abs=0.2)
        if not step.final:
            most = min((1 << 32) - 1, int((step.pivotal / (abs(step.total) + 1)) ** 2 + 1e-9))
            assert step.premodulo == max(1, most) or step.number > 15
    assert run.network.neurons == network.neurons


class StopError(Exception):
    """Stands for whatever ends a process."""


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    stops=st.lists(st.integers(0, 40), min_size=1, max_size=4),
    topology=st.sampled_from([WIDE, DEEP, ARGMAX]),
    options=st.sampled_from([{}, {"policy": "none"}, {"policy": {"name": "shuffled", "seed": 1}}, {"pairs": True},
                             {"direction": "forward"}, {"rollback": "medium"}]),
)  # fmt: skip
def test_an_interrupted_run_goes_on_and_ends_as_if_it_had_not_been(tmp_path_factory, stops, topology, options):
    X, y, start = problem(topology)
    pipeline = Pipeline(**options)
    with SumCache() as cache:
        wanted = pipeline.fit(start, X, y, seed=2, cache=cache)
        rows = cache.records()
    folder, seen = tmp_path_factory.mktemp("run"), []

    def stopping_at(number):
        def progress(step):
            seen.append(step.number)
            if step.number >= number:
                raise StopError

        return progress

    for number in [*sorted(stops), 10_000]:
        try:
            with SumCache(folder / "sums") as cache:
                run = pipeline.fit(
                    start, X, y, seed=2, cache=cache, folder=folder / "run", progress=stopping_at(number)
                )
                kept = cache.records()
        except StopError:
            continue
    assert seen == list(range(len(wanted.steps))), "nothing that was finished is trained again"
    assert without_seconds(run.steps) == without_seconds(wanted.steps)
    assert run.network.neurons == wanted.network.neurons
    fields = ["layer", "position", "run", "votes", "outputs", "pivotal", "premodulo", "train", "data", "final"]
    assert kept[fields].tolist() == rows[fields].tolist()
    again = pipeline.fit(start, X, y, seed=2, folder=folder / "run", progress=stopping_at(-1))
    assert again.steps == run.steps


def test_a_folder_is_for_one_run_and_one_process(tmp_path):
    X, y, start = problem(WIDE)
    Pipeline().fit(start, X, y, seed=0, folder=tmp_path)
    with pytest.raises(InvalidStateError, match="seed 0, this one has 1"):
        Pipeline().fit(start, X, y, seed=1, folder=tmp_path)
    with pytest.raises(InvalidStateError, match="policy"):
        Pipeline(policy="none").fit(start, X, y, seed=0, folder=tmp_path)
    with pytest.raises(InvalidStateError, match="data"):
        Pipeline().fit(start, X, 1 - y, seed=0, folder=tmp_path)
    with pytest.raises(InvalidStateError, match="network"):
        Pipeline().fit(start.replace(0, Hashtron()), X, y, seed=0, folder=tmp_path)
    with locked(tmp_path), pytest.raises(InvalidStateError, match="somebody else"):
        Pipeline().fit(start, X, y, seed=0, folder=tmp_path)


def test_a_journal_of_something_else_is_refused(tmp_path):
    X, y, start = problem(WIDE)
    with Ledger(tmp_path / JOURNAL) as ledger:
        ledger.append("run", "hashtron", "step", {"step": {}})
    with pytest.raises(CorruptFileError, match="no journal"):
        Pipeline().fit(start, X, y, seed=0, folder=tmp_path)
    other = tmp_path / "other"
    with pytest.raises(StopError):
        Pipeline().fit(start, X, y, seed=0, folder=other, progress=_stop)
    with Ledger(other / JOURNAL) as ledger:
        ledger.append("run", "hashtron", "step", {"step": {"number": 1}})
    with pytest.raises(CorruptFileError, match=r"goes on|no step"):
        Pipeline().fit(start, X, y, seed=0, folder=other)


def _stop(step):
    raise StopError


def test_a_final_neuron_that_always_says_the_same_is_replaced_where_it_can_be():
    X, y, start = problem(WIDE)
    rare = (np.arange(len(y)) < 3).astype(int)
    run = Pipeline(balanced=False).fit(start, X, rare, seed=0)
    assert [(step.kind, step.why) for step in run.steps[:2]] == [("trained", "final"), ("trained", "rebalance")]
    assert "majority" in run.warnings[0]
    assert any(step.kind == "trained" and step.layer == 0 for step in run.steps)
    X, y, start = problem(NARROW, 5000)
    with pytest.warns(RuntimeWarning, match="cannot be rebalanced"):
        run = Pipeline(balanced=False).fit(start, X, np.zeros(len(y), int), seed=0)


def test_several_last_neurons_stand_like_stairs():
    X, y, start = problem(FINALS)
    run = Pipeline(final="majority").fit(start, X, 7 * (y > 3), seed=0)
    keys = np.array([(1 << count) - 1 for count in range(7)])
    least = [int(neuron.forward(keys).argmax()) for neuron in run.network.neurons[-3:]]
    assert [later - least[0] for later in least] == [0, 1, 2]
    wider = [step.pivotal for step in run.steps if not step.final]
    one = Topology((FINALS.layers[0], Layer(1)))
    alone = Pipeline(final="majority").fit(Network(one, start.neurons[:13]), X, (y > 3).astype(int), seed=0)
    assert sum(wider) > 1.5 * sum(step.pivotal for step in alone.steps if not step.final), "a margin lets more vote"
    fixed = fit_network(start, X, 7 * (y > 3), seed=0, final="majority")
    assert [int(neuron.forward(keys).argmax()) for neuron in fixed.network.neurons[-3:]] == [3, 4, 5]
    assert len(fixed.steps) == 12


def test_a_stuck_layer_is_skipped_after_three_tries_and_the_run_goes_forward():
    X, y, start = problem(DEEP)
    run = Pipeline(final="majority").fit(start, X, y, seed=0, loss=lambda answers, y: np.zeros(len(y), np.int64))
    tried = Counter(step.place for step in run.steps if step.why == "no votes")
    assert set(tried.values()) == {3}
    assert len(tried) == 30
    assert [step.kind for step in run.steps if step.place == (1, 2)] == ["kept", "kept", "skipped"]
    moves = [(step.kind, step.why, step.layer) for step in run.steps if step.why in ("stuck", "rebalance")]
    assert moves[-2:] == [("forward", "stuck", 2), ("trained", "rebalance", 2)]
    assert sum(kind == "forward" for kind, _, _ in moves) == 2
    assert run.network.neurons[:-1] == start.neurons[:-1]


def test_what_takes_too_long_is_left_as_it_is_and_a_replay_does_the_same(tmp_path):
    X, y, start = problem(WIDE)
    slow = Pipeline(final="majority", neuron_timeout=1e-9)
    run = slow.fit(start, X, y, seed=0, folder=tmp_path / "a")
    assert {step.why for step in run.steps if not step.final} == {"timeout"}
    assert run.network.neurons[:-1] == start.neurons[:-1]
    assert slow.fit(start, X, y, seed=0, folder=tmp_path / "a").steps == run.steps
    short = Pipeline(timeout=1e-9)
    run = short.fit(start, X, y, seed=0, folder=tmp_path / "b")
    assert (run.stopped, len(run.steps)) == ("timeout", 1)
    assert short.fit(start, X, y, seed=0, folder=tmp_path / "b").steps == run.steps


def test_a_neuron_that_does_harm_is_not_taken():
    X, y, start = problem(WIDE)
    held = problem(WIDE, 200, seed=9)[:2]
    run = Pipeline(final="majority", accept="not worse", policy="none", sweeps=2).fit(
        start, X, y, seed=0, held_out=held
    )
    measured = [step.eval for step in run.steps if not step.final]
    assert any(step.why == "worse" for step in run.steps)
    sweeps = [[step.eval for step in run.steps if step.sweep == sweep] for sweep in range(2)]
    assert all(after >= before for sweep in sweeps for before, after in itertools.pairwise(sweep))
    assert measured[-1] > measured[0]
    with pytest.raises(InvalidValueError, match="give held_out"):
        Pipeline(accept="not worse").fit(start, X, y, seed=0)


def test_a_second_run_knows_the_sums_of_the_first_on_the_same_data(tmp_path):
    X, y, start = problem(WIDE)
    damped = Pipeline(final="majority", policy={"name": "law", "damper": {"name": "moving_average", "window": 3}})
    with SumCache(tmp_path) as cache:
        first = damped.fit(start, X, y, seed=0, cache=cache)
        second = damped.fit(first.network, X, y, seed=1, cache=cache)
        assert set(cache.records()["run"].tolist()) == {1, 2}
        alone = damped.fit(first.network, X, y, seed=1)
        other = damped.fit(first.network, X, 1 - y, seed=1, cache=cache)
        unknown = damped.fit(first.network, X, 1 - y, seed=1)
    assert [step.premodulo for step in second.steps] != [step.premodulo for step in alone.steps]
    assert without_seconds(other.steps) == without_seconds(unknown.steps)


def test_rollbacks():
    X, y, start = problem(WIDE)
    soft = Pipeline(rollback="soft").fit(start, X, y, seed=0)
    assert without_seconds(soft.steps) == without_seconds(Pipeline("forward").fit(start, X, y, seed=0).steps)
    medium = Pipeline(rollback="medium", sweeps=2)
    assert medium.policy == Constant()
    with SumCache() as cache:
        run = medium.fit(start, X, y, seed=0, cache=cache)
        assert len(cache) == sum(step.kind == "trained" for step in run.steps)
        assert {step.why for step in run.steps} == {"final", "random"}
        assert without_seconds(medium.fit(start, X, y, seed=0, cache=cache).steps) == without_seconds(run.steps)
        hard = Pipeline(rollback="hard", final="majority").fit(start, X, y, seed=0, cache=cache)
        assert len(cache) == 2 * len(run.steps)
    assert hard.network.neurons == fit_network(start, X, y, seed=0, final="majority").network.neurons
    assert "hard" in hard.warnings[0]


def test_the_partner_of_a_pair_comes_next():
    rng = np.random.default_rng(0)
    X = rng.integers(0, 1 << 16, (2000, 8)).astype(np.uint32)
    X[:, 1] = X[:, 0] ^ 1  # these two say the opposite, so a sample that wants another parity wants them to change over
    network = Network(Topology((Layer(8, combiner=Parity(8)), Layer(1))), [Hashtron()] * 9)
    run = Pipeline(pairs=True, probe=2000).fit(network, X, rng.integers(0, 2, 2000), seed=0)
    places = [step.position for step in run.steps if step.layer == 0]
    assert abs(places.index(0) - places.index(1)) == 1
    assert max((0, 1), key=places.index) in [step.position for step in run.steps if step.why == "pair"]


@pytest.mark.parametrize("topology", [WIDE, DEEP, ARGMAX])
def test_a_probe_of_all_samples_is_the_tally(topology):
    X, y, start = problem(topology)
    trainee = Trainee(start, X, y)
    for layer in range(len(topology.layers)):
        spec = topology.layers[layer]
        if spec.combiner is None:
            continue
        every = np.tile(np.arange(len(X)), (spec.neurons, 1))
        signs = trainee.probe(layer, np.arange(spec.neurons), every)
        first = sum(before.neurons for before in topology.layers[:layer])
        for position, found in enumerate(signs):
            votes = trainee.tally(first + position, balanced=False)
            assert (found.sum(dtype=int), np.count_nonzero(found)) == (votes.total, votes.pivotal)
        assert np.array_equal(signs, tally_layer(start, X, y, layer).signs.numpy())


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"direction": "sideways"}, "direction is 'sideways'"),
        ({"final": "none"}, "final is"),
        ({"sweeps": 0}, "sweeps is 0"),
        ({"tries": 0}, "tries is 0"),
        ({"tau": 0}, "tau is 0"),
        ({"timeout": 0}, "seconds above 0"),
        ({"neuron_timeout": -1}, "seconds above 0"),
        ({"probe": 0}, "probe is 0"),
        ({"rollback": "all"}, "rollback is"),
        ({"accept": "better"}, "accept is"),
        ({"policy": "lawless"}, "no policy 'lawless'"),
    ],
)
def test_refuses(options, match):
    with pytest.raises(InvalidValueError, match=match):
        Pipeline(**options)


def test_refuses_data_that_cannot_be():
    X, y, start = problem(WIDE)
    with pytest.raises(InvalidValueError, match="2 targets for 300"):
        Pipeline().fit(start, X, y[:2], seed=0)
    with pytest.raises(InvalidDTypeError, match="float64"):
        Pipeline().fit(start, X, y * 0.5, seed=0)
    with pytest.raises(InvalidValueError, match="a majority needs"):
        X, y, start = problem(ARGMAX)
        Pipeline(final="majority").fit(start, X, y, seed=0)
    with pytest.raises(InvalidValueError, match="seed is -1"):
        Pipeline().fit(start, X, y, seed=-1)


def test_a_policy_may_be_given_as_it_is():
    assert Pipeline(policy=policy("law_n")).policy == Pipeline(policy={"name": "law_n"}).policy
    assert Pipeline(policy={"name": "constant", "premodulo": 64}).policy == Constant(64)
