"""Training by votes learns real tasks well above the prior, and is reproducible from its seed."""

from pathlib import Path

import numpy as np
import pytest

import tithe
from tithe.errors import InvalidDTypeError, InvalidValueError
from tithe.hashtron import Layer, Network, Topology, fit_network, save
from tithe.hashtron.combiners import MajorityPool
from tithe.hashtron.counts import Sum
from tithe.hashtron.fitting import Step
from tithe.hashtron.topology import TOPOLOGIES

COMMITTEE = Topology((Layer(25, 0, MajorityPool(1, 1, 25)),))
FIVE = Topology((Layer(25, 0, MajorityPool(5, 1, 5, capwidth=5)), Layer(1)))


def odd_digits() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Is a handwritten digit odd? Each hashtron of the first layer reads ten random pixels."""
    digits = tithe.data.load("digits")
    rng = np.random.default_rng(0)
    pixels = np.stack([rng.permutation(64)[:10] for _ in range(25)])
    train, test = (
        ((x.reshape(-1, 64) > 7)[:, pixels] << np.arange(10)).sum(2) for x in (digits.train_x, digits.test_x)
    )
    return train, digits.train_y % 2, test, digits.test_y % 2


def start(topology: Topology) -> Network:
    return Network.random(topology, np.random.default_rng(1))


@pytest.mark.parametrize("topology", [COMMITTEE, FIVE], ids=["committee", "five"])
@pytest.mark.parametrize("premodulo", [None, (1 << 32) - 1, 64])
def test_learns_odd_digits(topology: Topology, premodulo: int | None, tmp_path: Path) -> None:
    X, y, X_test, y_test = odd_digits()
    options = {"seed": 3, "rounds": 2, "premodulo": premodulo, "final": "majority" if topology is FIVE else "votes"}
    fit = fit_network(start(topology), X, y, **options)
    assert (fit.network.predict(X) == y).mean() > 0.9
    assert (fit.network.predict(X_test) == y_test).mean() > 0.8  # the prior is 0.5
    again = fit_network(start(topology), X, y, **options)
    assert again.steps == fit.steps
    first, second = (save(found.network, tmp_path / name) for found, name in ((fit, "a"), (again, "b")))
    assert first.read_bytes() == second.read_bytes()
    other = fit_network(start(topology), X, y, **{**options, "seed": 4})
    assert other.network.neurons != fit.network.neurons


def test_learns_square_roots_by_heart() -> None:
    X = np.arange(256)
    fit = fit_network(start(TOPOLOGIES["squareroot"]), X, np.sqrt(X).astype(int), seed=0)
    assert (fit.network.predict(X) == np.sqrt(X).astype(int)).mean() > 0.9
    assert len(fit.steps) == 455 and {step.index for step in fit.steps} == set(range(455))


def test_steps_say_what_happened() -> None:
    X, y, _, _ = odd_digits()
    seen: list[Step] = []
    fit = fit_network(
        start(COMMITTEE), X[:300], y[:300], seed=0, progress=seen.append, premodulo=lambda votes: votes.pivotal
    )
    assert tuple(seen) == fit.steps
    for step in seen:
        assert step.samples == 300 and abs(step.total) <= step.pivotal <= 300 and step.accepted
        assert step.premodulo == step.pivotal
        assert fit.network.neurons[step.index].program[0][1] == step.pivotal
    trace = fit.network.trace(X[:300])
    last = seen[-1]
    assert last.answered_true == trace.bits[0][last.index].sum()


def test_validation_never_rises() -> None:
    X, y, X_held, y_held = odd_digits()
    before = start(COMMITTEE)
    wrong = [(before.predict(X_held) != y_held).sum()]
    network = before
    for seed in range(3):
        fit = fit_network(network, X[:200], y[:200], seed=seed, validation=(X_held, y_held))
        network = fit.network
        wrong.append((network.predict(X_held) != y_held).sum())
        assert any(not step.accepted for step in fit.steps)
    assert wrong == sorted(wrong, reverse=True) and wrong[-1] < wrong[0]


def test_a_hashtron_without_votes_stays() -> None:
    network = start(COMMITTEE)
    fit = fit_network(network, np.arange(9), np.zeros(9, int), seed=0, loss=lambda answers, y: answers * 0)
    assert fit.network.neurons == network.neurons
    assert not any(step.accepted or step.pivotal for step in fit.steps)


def test_refuses() -> None:
    network, X = start(COMMITTEE), np.arange(9)
    with pytest.raises(InvalidDTypeError, match="float64"):
        fit_network(network, X, X / 2, seed=0)
    with pytest.raises(InvalidValueError, match="non-negative"):
        fit_network(network, X, -X, seed=0)
    with pytest.raises(InvalidValueError, match="at least one"):
        fit_network(network, X[:0], X[:0], seed=0)
    with pytest.raises(InvalidValueError, match="targets for 9 samples"):
        fit_network(network, X, X[:4] % 2, seed=0)
    with pytest.raises(InvalidValueError, match="MajorityPool of one block"):
        fit_network(start(TOPOLOGIES["squareroot"]), X, X, seed=0, final="majority")
    with pytest.raises(InvalidValueError, match="MajorityPool of one block"):
        fit_network(network, X, X, seed=0, final="majority")
    for option, value in (
        ("final", "majorty"), ("rounds", 0), ("rounds", -1), ("rounds", 1.5), ("premodulo", 0), ("premodulo", -5),
        ("premodulo", 1 << 32), ("premodulo", 0.5), ("premodulo", "law"), ("premodulo", lambda votes: 0),
    ):  # fmt: skip
        with pytest.raises(InvalidValueError, match=f"{option} is"):
            fit_network(network, X, X % 2, seed=0, **{option: value})


@pytest.mark.parametrize(
    ("topology", "most"),
    [
        (Topology((Layer(2),)), 3),
        (COMMITTEE, 1),
        (Topology((Layer(12, 0, Sum((4, 3))),)), 4),
        (Topology((Layer(12, 0, Sum((4, 3))),), answer="argmax"), 2),
    ],
)
def test_targets_that_it_cannot_answer(topology: Topology, most: int) -> None:
    X = np.arange(12)
    fit_network(start(topology), X, np.minimum(X, most), seed=0)
    for y, validation in ((np.minimum(X, most + 1), None), (X * 0, (X, np.minimum(X, most + 1)))):
        with pytest.raises(InvalidValueError, match=f"y goes up to {most + 1}; this network answers with 0 to {most}$"):
            fit_network(start(topology), X, y, seed=0, validation=validation)


def test_targets_that_only_the_loss_understands() -> None:
    def loss(answers: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (100 * answers - y) ** 2

    X = np.arange(50)
    fit = fit_network(start(COMMITTEE), X, 100 * (X % 2), seed=0, loss=loss)
    assert (fit.network.predict(X) == X % 2).mean() > 0.9
    with pytest.raises(InvalidValueError, match="y goes up to 100"):
        fit_network(start(Topology((Layer(1),))), X, 100 * (X % 2), seed=0, loss=loss)
