"""L2: tasks whose data are less coherent than 0.3 are put back."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from tithe.audit.claim import Claim, Finding, Run
from tithe.audit.evidence import Column, Evidence, Row, Table
from tithe.audit.formatting import show

__all__ = ["BOTH_AXES", "CLAIM", "NOISE", "OURS", "STRUCTURED", "WRITTEN", "judge"]

WRITTEN, ONE_AXIS, BOTH_AXES = "as written", "share of power along one axis", "share of power along both axes"
_SCALED = f"{WRITTEN}, pixels in hundredths"
OURS = "Lattice"
STRUCTURED, NOISE = "images", "white noise"
_APART = 0.95  # of images above the threshold, of noise below it: it separates
_PUT_BACK = 0.95  # of the pairs of a task above and one below, those that begin in this order


def judge(found: Evidence) -> Finding:
    """Whether the threshold puts the right tasks back, and loses none.

    The rule was written before anything was measured. A score separates where 95 % of the images pass the threshold
    and 95 % of white noise does not. The claim holds where the sketch's own score does and its filter loses no task.
    It holds under a condition where a power-weighted score separates, ``Lattice`` loses no task, and in 95 % of the
    pairs begins the one above the threshold before the one below. It reads the tables ``scores`` (score, data, passes)
    and ``fates`` (order, lost, put_back).
    """
    if not found.rows("scores") or not found.rows("fates", order=OURS):
        return Finding("unmeasured", "Nothing was measured.")
    lost = {row["order"]: row["lost"] for row in found.rows("fates")}
    ours = found.rows("fates", order=OURS)[0]
    apart = [score for score in (ONE_AXIS, BOTH_AXES) if _separates(found, score)]
    reason = "\n".join([*(_sentence(found, score) for score in dict.fromkeys(r["score"] for r in found.rows("scores"))),
                        *map(_fate, found.rows("fates")), *found.facts.get("closed form", [])])  # fmt: skip
    measured = (
        f"lost for ever by the sketch: {show(lost[WRITTEN], '.0%')} of the tasks, or {show(lost[BOTH_AXES], '.0%')} "
    )
    measured += f"if scores are shares of power along both axes; by Lattice: {show(ours['lost'], '.0%')}"
    if _separates(found, WRITTEN) and lost[WRITTEN] == 0:
        return Finding("holds", "The threshold separates, and nothing is lost.", measured, reason)
    if apart and ours["lost"] == 0 and ours["put_back"] >= _PUT_BACK:
        return Finding(
            "holds if", "The sketch drops tasks for ever, by how large their numbers are; Lattice runs them later.",
            measured, reason, condition=f"the score is the {' or the '.join(apart)}, and tasks below it run last.",
        )  # fmt: skip
    return Finding("fails", "Tasks are lost, or the threshold separates nothing.", measured, reason)


def _separates(found: Evidence, score: str) -> bool:
    passes = {row["data"]: row["passes"] for row in found.rows("scores", score=score)}
    return bool(passes[STRUCTURED] >= _APART and passes[NOISE] <= 1 - _APART)


def _sentence(found: Evidence, score: str) -> str:
    parts = [f"{show(row['passes'], '.0%')} of {row['data']}" for row in found.rows("scores", score=score)]
    return f"Score {score}: {', '.join(parts)} pass."


def _fate(row: Row) -> str:
    back = "" if row["put_back"] is None else f", and begins the better in {show(row['put_back'], '.0%')} of the pairs"
    return f"{row['order']}: loses {show(row['lost'], '.0%')} of the tasks{back}."


def _measure(run: Run) -> Evidence:
    import numpy as np
    import torch

    from tithe.audit.lattice_work import images
    from tithe.resolvent import coherence, white_noise_coherence
    from tithe.resolvent.measures import SOURCE_THRESHOLD

    name, x, _ = images()
    count, rng = run.pick(quick=200, full=5000), np.random.default_rng(run.seed)
    kinds = _kinds(x[rng.choice(len(x), count, replace=count > len(x))], rng)
    data = np.concatenate(list(kinds.values()))
    run.progress(0.2, f"scores {len(data)} pieces of data")
    tensor = torch.from_numpy(data)
    scores = {
        WRITTEN: _as_written(data), _SCALED: _as_written(100 * data),
        ONE_AXIS: coherence(tensor, 2).mean(1).double().numpy(), BOTH_AXES: coherence(tensor, (1, 2)).double().numpy(),
    }  # fmt: skip
    rows: list[Row] = []
    for score, values in scores.items():
        for kind, part in zip(kinds, np.split(values, len(kinds)), strict=True):
            rows.append({"score": score, "data": kind, "mean": float(part.mean()),
                         "passes": float((part > SOURCE_THRESHOLD).mean())})  # fmt: skip
    run.progress(0.6, f"runs {len(data)} tasks")
    fates: list[Row] = [
        {"order": score, "lost": float((values <= SOURCE_THRESHOLD).mean()), "put_back": None}
        for score, values in scores.items()
    ]
    fates.append(_fates_in_lattice(data, scores[BOTH_AXES], run.seeds(run.pick(quick=2, full=20))))
    shape = data.shape[1:]
    closed = [
        f"Of white noise the resolvent leaves {show(white_noise_coherence(shape[-1:]), '.2f')} of the power along one "
        f"axis of {shape[-1]}, {show(white_noise_coherence(shape), '.2f')} along both: {SOURCE_THRESHOLD} lies between."
    ]
    columns = (
        Column("score", "score"), Column("data", "data"), Column("mean", "mean", ".3g"),
        Column("passes", f"above {SOURCE_THRESHOLD}", ".0%"),
    )  # fmt: skip
    table = Table(f"Scores of {count} each of four kinds of data, images of {name} in [0, 1]", rows, columns)
    fate_columns = (
        Column("order", "order"), Column("lost", "never run", ".0%"), Column("put_back", "the better first", ".0%"),
    )  # fmt: skip
    fates_table = Table(f"What becomes of {len(data)} tasks, one on each", fates, fate_columns)
    note = "How many tasks a threshold drops depends on the data: here a quarter of them is of each kind."
    return Evidence({"scores": table, "fates": fates_table}, facts={"closed form": closed}, notes=[note])


def _kinds(x: Any, rng: Any) -> dict[str, Any]:
    """Images, the same with noise, their edges (each pixel less the mean of its neighbours), and noise alone."""
    import numpy as np

    noise = rng.standard_normal(x.shape).astype(np.float32)
    around = sum(np.roll(x, step, axis) for step in (1, -1) for axis in (1, 2)) / 4
    return {STRUCTURED: x, "noisy images": x + noise[::-1] / 2, "edges of images": x - around, NOISE: noise}


def _as_written(data: Any) -> Any:
    """The source's score: the mean of resolvent times power over all waves of the last axis, divided by nothing."""
    import numpy as np

    from tithe.golden import PHI

    power = np.abs(np.fft.fft(data)) ** 2
    return (power / (1 + PHI * np.fft.fftfreq(data.shape[-1]) ** 2)).mean((1, 2))


def _fates_in_lattice(data: Any, scores: Any, seeds: Sequence[int]) -> Row:
    """Tasks on random ones of the data, in a Lattice: how many have no value, and the order in which they begin."""
    import numpy as np

    from tithe.audit.lattice_order import READY, begun_by_lattice
    from tithe.resolvent.measures import SOURCE_THRESHOLD

    lost, put_back = [], []
    for seed in seeds:
        chosen = np.random.default_rng(seed).choice(len(data), READY, replace=False)
        pieces, known = data[chosen], scores[chosen]
        begun, values = begun_by_lattice(known, range(READY), fn=partial(_spectrum, pieces))
        lost.append(sum(value is None for value in values) / READY)
        passes = known[begun] > SOURCE_THRESHOLD
        above = np.cumsum(passes)[~passes]  # for each task below, how many above began before
        put_back.append(float(above.mean() / passes.sum()))
    return {"order": OURS, "lost": float(np.mean(lost)), "put_back": float(np.mean(put_back))}


def _spectrum(pieces: Any, task: int) -> Any:
    import numpy as np

    return np.fft.rfft2(pieces[task])


CLAIM = Claim(
    id="L2",
    title="Tasks below 0.3 are put back",
    says="Tasks whose coherence is not above 0.3 are damped: the sketch leaves them out of the schedule it returns.",
    claimed="tasks under 0.3 are deprioritised",
    baseline="white noise, which a threshold on coherence should tell from images; every task run once",
    budget=1.0,
    measure=_measure,
    judge=judge,
)
