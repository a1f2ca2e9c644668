"""``tithe tether``: populations of models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from tithe.cli.console import OUT, print_rows, remark, steps

__all__ = ["tether"]

tether = App(name="tether", help="Populations of models that merge where they agree.")


@tether.command
def demo(*, out: Path = Path("tether-demo"), epochs: int = 10, seed: int = 0) -> None:
    """Train a network under tethers on the digits, let it meet another tether, and draw what happened.

    Parameters
    ----------
    out
        The folder for text files (put your own data_input.txt, labels_input.txt and tether_other_model.txt there),
        bookmarks, the ledger and pictures.
    epochs
        Over the data.
    seed
        Of all that is random.
    """
    from tithe.tether.demo import SOURCE_THRESHOLD, THRESHOLD
    from tithe.tether.demo import demo as run

    with steps("trains") as tell:
        meetings = run(out, epochs=epochs, seed=seed, tell=tell)
    done = {what: sum(meeting.done == what for meeting in meetings) for what in ("merge", "drift", "nothing")}
    passed = sum(meeting.dot > SOURCE_THRESHOLD for meeting in meetings)
    print_rows(["", ""], [
        ["plateaus at which tethers met", str(len(meetings))],
        [f"passed by the source's test, Σ T∘T′ > {SOURCE_THRESHOLD:g}", str(passed)],
        [f"passed by the centred cosine ≥ {THRESHOLD:g}", str(sum(m.centred >= THRESHOLD for m in meetings))],
        ["merged, drifted apart, left alone", ", ".join(map(str, done.values()))],
    ])  # fmt: skip
    OUT.print(f"\nFiles and pictures: {out}", soft_wrap=True, markup=False)


@tether.command
def train(
    config: Path,
    *,
    out: Path = Path("tether-run"),
    fresh: Annotated[bool, Parameter(name="--fresh", negative=())] = False,
) -> None:
    """Train a population on your own data, each member also alone for comparison.

    Where it is interrupted, the same command goes on, to the same result as without.

    Parameters
    ----------
    config
        A TOML file: a table [[member]] with name, inputs and labels for each member, and optionally [model],
        [training] and [policy]; docs/tether.md has an example.
    out
        The folder for models (safetensors), bookmarks, the ledger, pictures and outcome.json.
    fresh
        Begin anew, even if a run in that folder was interrupted, or is finished.
    """
    from tithe.tether.config import read_config
    from tithe.tether.runs import train_run
    from tithe.tether.samples import read_member

    found = read_config(config)
    data = [read_member(member, found.features) for member in found.members]
    try:
        with steps("trains") as tell:
            outcomes = train_run(
                found, data, out, lambda step: tell(step, 2 * found.training.steps), fresh=fresh, note=remark
            )
    except KeyboardInterrupt:
        remark("interrupted; the same command goes on from the last checkpoint")
        raise
    print_rows(
        ["member", "merges with", "held-out accuracy", "alone"],
        [[o.name, ", ".join(set(o.group) - {o.name}) or "nobody", f"{o.accuracy:.1%}", f"{o.alone:.1%}"]
         for o in outcomes],
    )  # fmt: skip
    OUT.print(f"\nModels and pictures: {out}", soft_wrap=True, markup=False)
