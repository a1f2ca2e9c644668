"""The same network trained twice from the same seed: as usual, and with a front end and averaged weights.

Run ``python examples/train_less.py``; it takes less than a minute on one core. With ``--quick`` it runs for seconds on
digits of 8×8 points, and shows where it does not pay: they are learnt in 50 steps, too few for averages over 100.
"""

from __future__ import annotations

import argparse
import contextlib

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tithe.data import load
from tithe.errors import DataUnavailableError
from tithe.resolvent import FrontEnd, TrajectoryFilter


def images(name: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images (n, height, width), each pixel standardised, and their classes, for training and for tests."""
    train_x, train_y, test_x, test_y = (torch.from_numpy(array) for array in load(name))
    mean, spread = train_x.float().mean(0), train_x.float().std(0).clamp(min=0.05 * float(train_x.max()))
    return (train_x - mean) / spread, train_y, (test_x - mean) / spread, test_y


def steps_to(target: float, data: tuple[Tensor, Tensor, Tensor, Tensor], keep: float | None, seed: int) -> int:
    """Optimiser steps until the accuracy on test images reaches the target; ``keep`` is the front end's, or none."""
    train_x, train_y, test_x, test_y = data
    front = nn.Flatten() if keep is None else FrontEnd.fit(train_x, keep=keep)
    train_x, test_x = front(train_x), front(test_x)  # once, not at every step
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(train_x.shape[1], 256), nn.ReLU(), nn.Linear(256, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    filtered = None if keep is None else TrajectoryFilter(model, tau=100, optimizer=optimizer)
    batches = torch.Generator().manual_seed(seed)
    for step in range(1, 5001):
        batch = torch.randint(len(train_x), (64,), generator=batches)
        optimizer.zero_grad()
        cross_entropy(model(train_x[batch]), train_y[batch]).backward()
        optimizer.step()
        if step % 25 == 0:
            with torch.no_grad(), filtered.swapped_in() if filtered else contextlib.nullcontext():
                if float((model(test_x).argmax(1) == test_y).float().mean()) >= target:
                    return step
    raise SystemExit(f"{target:.1%} was not reached in {step} steps")


def main() -> None:
    """Print both counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small images, seconds")
    name, target, keep, data = "digits", 0.93, 0.4, images("digits")
    if not parser.parse_args().quick:
        try:
            data = images("fashion-mnist")
            name, target, keep = "fashion-mnist", 0.87, 0.2
        except DataUnavailableError as error:
            print(f"{error}; digits instead")
    for seed in range(2):
        plain, less = (steps_to(target, data, kept, seed) for kept in (None, keep))
        print(f"{name}, seed {seed}: {target:.0%} after {plain} steps as usual, after {less} with Tithe")


if __name__ == "__main__":
    main()
