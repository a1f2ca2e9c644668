"""The source's scenario on real digits: one network under tethers meets the tether of another, again and again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from tithe.errors import InvalidValueError
from tithe.ledger import Ledger
from tithe.tether import pictures
from tithe.tether.compatibility import compatibility
from tithe.tether.generations import Generations
from tithe.tether.merging import merge, repel
from tithe.tether.parametrization import attach, tethers
from tithe.tether.policy import Plateau
from tithe.tether.text_files import read_numbers, write_numbers

__all__ = ["Meeting", "demo"]

RUN = "demo"
WIDTH, BATCH, RATE, EVERY = 64, 32, 0.003, 10
SOURCE_THRESHOLD = 50.0  # of Σ T∘T′; entries from 0 to 1 always pass it
THRESHOLD = 0.1  # of the centred cosine
MOST_MERGES = 5  # an epoch, as in the source


@dataclass(frozen=True)
class Meeting:
    """The network was on a plateau, and compared its tether with the other one.

    Attributes:
        step: of training.
        loss: then.
        dot: Σ T∘T′, the source's measure.
        centred: the cosine of both without their means.
        done: ``"merge"``, ``"drift"`` or, where the epoch has had its merges, ``"nothing"``.
    """

    step: int
    loss: float
    dot: float
    centred: float
    done: Literal["merge", "drift", "nothing"]


def demo(
    folder: Path, *, epochs: int = 10, seed: int = 0, tell: Callable[[int, int], None] = lambda step, of: None
) -> list[Meeting]:
    """Train on the digits and leave text files, ledger, bookmarks and pictures in a folder.

    Args:
        folder: gets ``data_input.txt``, ``labels_input.txt`` and ``tether_other_model.txt`` (made where they are
            missing; put your own there), ``runs.db``, ``generations/``, ``final_tethers.txt`` and pictures.
        epochs: over the data.
        seed: of weights, tethers and batches.
        tell: is given the steps taken and those to take.

    Returns:
        Every meeting of the tethers. Raises ``CorruptFileError`` for a malformed text file. Source: MISSION T4, T8, T9.
    """
    if epochs < 1:
        raise InvalidValueError(f"epochs is {epochs}; use at least 1")
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    digits = load_digits()
    x = read_numbers(folder / "data_input.txt", (-1, 64), default=torch.from_numpy(digits.data / 16).float())
    y = read_numbers(
        folder / "labels_input.txt", (len(x),), default=lambda: torch.from_numpy(digits.target), dtype=torch.int64
    )
    other = read_numbers(
        folder / "tether_other_model.txt", (WIDTH, WIDTH), default=torch.rand(WIDTH, WIDTH, generator=generator)
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = (nn.Linear(64, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 10))
        model = nn.Sequential(*layers)
    attach(model, init="uniform", generator=generator)
    with Ledger(folder / "runs.db") as ledger:
        run = f"{RUN} {1 + len({event.run for event in ledger.read(kind='loss')})}"
        meetings = _train(model, x, y, other, epochs, generator, ledger, run, Generations(folder / "generations"), tell)
        _draw(ledger, run, folder)
    write_numbers(folder / "final_tethers.txt", tethers(model)["2.weight"])
    return meetings


def _train(
    model: nn.Sequential, x: Tensor, y: Tensor, other: Tensor, epochs: int, generator: torch.Generator,
    ledger: Ledger, run: str, generations: Generations, tell: Callable[[int, int], None],
) -> list[Meeting]:  # fmt: skip
    optimizer, plateau = torch.optim.Adam(model.parameters(), lr=RATE), Plateau(loss=0.02)
    generations.mark("start", {"0": model.state_dict()}, step=0)
    meetings: list[Meeting] = []
    recent: list[float] = []
    means: list[float] = []
    watched: dict[str, int] = {}
    step, batches = 0, -(-len(x) // BATCH)
    for epoch in range(epochs):
        merges = 0
        order = torch.randperm(len(x), generator=generator)
        for rows in (order[start : start + BATCH] for start in range(0, len(x), BATCH)):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x[rows]), y[rows])
            torch.autograd.backward(loss)
            watched = watched or _steepest(model)
            optimizer.step()
            step += 1
            recent.append(float(loss.detach()))
            tell(step, epochs * batches)
            if step % EVERY:
                continue
            _tell_point(ledger, run, model, watched, step, epoch, recent[-1])
            means.append(sum(recent) / len(recent))
            recent = []
            ledger.append(run, "tether", "loss", {"step": step, "losses": [means[-1]], "members": ["0"]})
            if plateau.reached(means, change=1.0):
                meeting = _meet(model, other, step, means[-1], merges < MOST_MERGES)
                merges += meeting.done == "merge"
                meetings.append(meeting)
                if meeting.done != "nothing":
                    number = generations.mark(meeting.done, {"0": model.state_dict()}, step=step).number
                    event = {"step": step, "members": [0], "before": [means[-1]], "after": [], "generation": number}
                    ledger.append(run, "tether", meeting.done, event)
    return meetings


@torch.no_grad()
def _meet(model: nn.Module, other: Tensor, step: int, loss: float, may_merge: bool) -> Meeting:
    """Compare the hidden layer's tether with the other one; merge if they go together, drift apart if not."""
    own = tethers(model)["2.weight"]
    dot, centred = compatibility(own, other, "dot"), compatibility(own, other, "centred")
    done: Literal["merge", "drift", "nothing"] = "drift"
    if centred >= THRESHOLD:
        done = "merge" if may_merge else "nothing"
    if done == "merge":
        merge([{"t": own}, {"t": other.clone()}])
    elif done == "drift":
        repel({"t": own}, [{"t": other}], share=0.05, most_distance=1.0)
    return Meeting(step, loss, dot, centred, done)


def _steepest(model: nn.Module) -> dict[str, int]:
    """In each of the first two layers the weight that is about to move most, for the picture of the path."""
    weights = [(name, p) for name, p in model.named_parameters() if p.ndim > 1][:2]
    return {name: int(p.grad.abs().argmax()) for name, p in weights if p.grad is not None}


def _tell_point(
    ledger: Ledger, run: str, model: nn.Module, watched: dict[str, int], step: int, epoch: int, loss: float
) -> None:
    weights = {n: p.detach() for n, p in model.named_parameters() if p.ndim > 1}
    a, b = (float(weights[name].flatten()[place]) for name, place in watched.items())
    names = []
    for name, place in watched.items():
        row, column = divmod(place, weights[name].shape[1])
        names.append(f"weight [{row}, {column}] of layer {name.partition('.')[0]}")
    point = {"step": step, "epoch": epoch, "loss": loss, "a": a, "b": b, "member": "0", "names": names}
    layers = {n.partition(".")[0]: {"mean": float(w.mean()), "std": float(w.std())} for n, w in weights.items()}
    ledger.append(run, "tether", "point", point)
    ledger.append(run, "tether", "layers", {"step": step, "member": "0", "layers": layers})


def _draw(ledger: Ledger, run: str, folder: Path) -> None:
    try:
        for picture in (pictures.scatter, pictures.descent, pictures.layer_statistics):
            picture(ledger, run).savefig(folder / f"{picture.__name__.replace('_', '-')}.png", dpi=120)
    except ImportError:  # no matplotlib: the ledger has all that they would show
        return
