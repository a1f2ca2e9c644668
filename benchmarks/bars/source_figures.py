"""Bars at the figures of the source's applications: a recommender and a digit classifier at a ratio."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from benchmarks.bars.bar import Reading, bar
from tithe import data
from tithe.audit.claim import Run
from tithe.audit.claims._m4_network import Network, Split, low_rank, plain, train
from tithe.audit.claims.m3_recommender import CLAIM, CLAIMED
from tithe.audit.claims.m4_mnist_mlp import LOST, RATIO
from tithe.audit.formatting import show
from tithe.audit.statistics import interval
from tithe.errors import DataUnavailableError

_LEAST, _SEEDS, _EPOCHS = 0.963, 5, 3
_RIDGE = 1e-3  # of the mean square of a hidden unit


@bar("movielens")
def movielens() -> Iterator[Reading]:
    """RMSE of ALS on MovieLens 100K, normal matrices applied and never formed, beside exact ones, over ten splits."""
    try:
        rows = CLAIM.measure(Run(mode="full")).rows("methods")
    except DataUnavailableError as missing:
        yield Reading("MovieLens 100K", str(missing).partition(". ")[0], "as in the source", None)
        return
    for ratio, most in CLAIMED.items():
        within = [row for row in rows if row["role"] == "structured" and row["share"] <= ratio]
        row = max(within, key=lambda row: float(row["share"]))  # all that the ratio pays for
        figure = (
            f"{show(row['worse'], '.4%')} [{show(row['low'], '.4%')}, {show(row['high'], '.4%')}] by {row['method']}, "
            f"{row['share']:.1%} of the multiply–adds, {row['time']:.2g} times as long"
        )
        yield Reading(f"RMSE at ratio {ratio:g} worse by", figure, f"≤ {most:.2%}", row["high"] <= most)


@bar("mlp-ratio")
def mlp_ratio() -> Iterator[Reading]:
    """MNIST 784→512→256→10 with all weights made cheaper from training images alone, beside the exact product."""
    try:
        loaded = data.load("mnist")
    except DataUnavailableError as missing:
        yield Reading("MNIST", str(missing).partition(". ")[0], "as in the source", None)
        return
    images = (torch.from_numpy(x).flatten(1).float() / 255 for x in (loaded.train_x, loaded.test_x))
    labels = (torch.from_numpy(y) for y in (loaded.train_y, loaded.test_y))
    (train_x, test_x), (train_y, test_y) = images, labels
    split = Split("MNIST", train_x, train_y, test_x, test_y)
    networks = [train(split, seed, _EPOCHS) for seed in range(_SEEDS)]
    exact = [_accuracy(lambda x, n=n: plain(n, x), split) for n in networks]
    whole = sum(weight.numel() for weight, _ in networks[0])
    for what, make in (
        ("each of its layers", _each_within),
        ("all layers together, the last one exact", lambda network, split: low_rank(network, split, RATIO)),
    ):
        made = [make(network, split) for network in networks]
        found = [_accuracy(classify, split) for classify, _ in made]
        lost = interval([100 * (a - b) for a, b in zip(exact, found, strict=True)])
        mean = sum(found) / _SEEDS
        figure = (
            f"{sum(exact) / _SEEDS:.2%} → {mean:.2%}, {show(lost.mean, '.3f')} points lost "
            f"[{show(lost.low, '.3f')}, {show(lost.high, '.3f')}], {made[0][1]:.1%} of {whole:,} multiply–adds an image"
        )
        target = f"≥ {_LEAST:.1%}, ≤ {LOST:g} points lost (mean of {_SEEDS} seeds)"
        yield Reading(f"MNIST MLP, {what} within {RATIO:g}", figure, target, mean >= _LEAST and lost.mean <= LOST)


def _accuracy(classify: Callable[[Tensor], Tensor], split: Split) -> float:
    return float((classify(split.test_x).argmax(1) == split.test_y).double().mean())


def _each_within(network: Network, split: Split) -> tuple[Callable[[Tensor], Tensor], float]:
    """Low-rank weights but for the last layer, whose outputs read few hidden units each; and the share of all of it."""
    width, classes = network[-1][0].shape[1], len(network[-1][0])
    rest = sum(weight.numel() for weight, _ in network[:-1])
    headless = [*network[:-1], (torch.eye(width), torch.zeros(width))]
    hidden, share = low_rank(headless, split, (RATIO * rest + width**2) / (rest + width**2))
    count = int(RATIO * width)
    weights, bias = _few_inputs(hidden(split.train_x), plain(network, split.train_x), count)
    spent = share * (rest + width**2) - width**2 + count * classes
    return lambda x: torch.addmm(bias, hidden(x), weights), spent / (rest + width * classes)


def _few_inputs(x: Tensor, y: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Weights (in, out) and biases (out,) of least squares in which each output reads ``count`` inputs, its own.

    Inputs go one after the other, the one that the fit misses least first. Source: Hassibi and Stork 1993, Second order
    derivatives for network pruning: optimal brain surgeon.
    """
    centred = x - x.mean(0)
    moments, cross = (centred.T @ centred).double(), (centred.T @ (y - y.mean(0))).double()
    moments.diagonal().add_(_RIDGE * moments.diagonal().mean())
    whole = torch.linalg.inv(moments)
    fitted = whole @ cross
    for column in fitted.T:  # views: eliminated in place
        inverse, kept = whole.clone(), torch.ones(len(column), dtype=torch.bool)
        for _ in range(len(column) - count):
            missed = torch.where(kept, column.square() / inverse.diagonal(), torch.inf)
            gone = int(missed.argmin())
            kept[gone] = False
            step = inverse[:, gone] / inverse[gone, gone]
            column -= step * column[gone]
            inverse -= torch.outer(step, inverse[gone])
        column *= kept
    weights = fitted.float()
    return weights, y.mean(0) - x.mean(0) @ weights
