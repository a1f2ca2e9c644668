"""The measurement of T11: homogeneity and loss over the descent, task after task, without and with renewal."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tithe.audit.claim import Run
from tithe.audit.claims.t11_homogeneity import MEASURES
from tithe.audit.evidence import Axis, Column, Evidence, Plot, Row, Series, Table
from tithe.audit.renewal import FIRST_SEED, NAMES, PROTOCOLS, TASKS
from tithe.audit.renewal import run as race
from tithe.audit.statistics import interval
from tithe.parallel import threads
from tithe.tether.homogeneity import model_homogeneity
from tithe.tether.renormalizer import Renewal
from tithe.tether.trials import loss_on

__all__ = ["measure"]

ARMS = {"without renewal": "plain", "with renewal": "renormalise"}
_LOOKS = 5  # in a task, beside that at its start
_SPARSE = 6  # one renewal in so many is looked at
_SAMPLES = 200  # that are compared with each other
Alike = dict[str, float]


@dataclass
class Course:
    """One run: at each look the tasks behind it, the loss, and the measures of homogeneity; what renewals changed."""

    steps: int
    tasks: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    measures: list[Alike] = field(default_factory=list)
    changes: list[Alike] = field(default_factory=list)
    _now: tuple[nn.Module, Tensor] | None = None
    _before: Alike | None = None
    _renewals: int = 0

    def watch(self, task: int, done: int, model: nn.Module, x: Tensor, y: Tensor) -> None:
        """Look at the start of a task and so many times until its end, always on the task's own images."""
        self._now = model, x
        if done in {round(self.steps * part / _LOOKS) for part in range(_LOOKS + 1)}:
            self.tasks.append(task + done / self.steps)
            self.losses.append(loss_on(model, cross_entropy, [(x, y)]))
            self.measures.append(_measures(model, x))

    def before(self, step: int, reason: str) -> None:
        """Look just before a renewal."""
        if self._renewals % _SPARSE == 0 and self._now is not None:
            self._before = _measures(*self._now)

    def after(self, renewal: Renewal) -> None:
        """Look just after it."""
        if self._before is not None and self._now is not None:
            after = _measures(*self._now)
            self.changes.append({name: after[name] - self._before[name] for name in MEASURES})
        self._before = None
        self._renewals += 1


def measure(run: Run) -> Evidence:
    """Descents over tasks without and with renewal, on the same seeds.

    A quick run's size was chosen on parts of a full run, as the smallest whose seeds are not too few to tell.
    """
    protocols = run.pick(quick=("permuted",), full=("labels", "permuted"))
    count = run.pick(quick=4, full=TASKS)
    seeds = [FIRST_SEED + seed for seed in run.seeds(run.pick(quick=4, full=6))]
    rows: list[Row] = []
    runs: list[Row] = []
    plots: list[Plot] = []
    jobs = [(protocol, seed, arm) for protocol in protocols for seed in seeds for arm in ARMS]
    courses: dict[tuple[str, str], list[Course]] = {}
    with threads(1):
        for number, (protocol, seed, arm) in enumerate(jobs):
            run.progress(number / len(jobs), f"{count} tasks of {NAMES[protocol]} {arm}")
            courses.setdefault((protocol, arm), []).append(course(protocol, ARMS[arm], seed, count))
    for protocol in protocols:
        found = {arm: courses[protocol, arm] for arm in ARMS}
        rows += [_answers(NAMES[protocol], name, *found.values()) for name in MEASURES]
        runs += [_run(NAMES[protocol], arm, them) for arm, them in found.items()]
        plots += _plots(NAMES[protocol], found)
    where = f"MNIST at 14×14, a perceptron 196→100→100→10, {count} tasks, {len(seeds)} seeds"
    tables = {
        "answers": Table(f"{where}; larger is more alike, for ranks less rank", rows, _answer_columns()),
        "runs": Table(f"{where}; at the ends of tasks", runs, _run_columns()),
    }
    notes = [
        f"Measures are means over both hidden layers, and over {_SAMPLES} images of the task as each layer behind one "
        "reads them. Correlations are Spearman's. That two things drift together does not tell which brings the other "
        "about; renewal changes both.",
    ]
    if run.mode == "quick":
        notes.append(f"Quick mode: permuted inputs alone, {count} of {TASKS} tasks.")
    return Evidence(tables, plots, {}, notes)


def course(protocol: str, arm: str, seed: int, count: int) -> Course:
    """Homogeneity and loss over one run."""
    found = Course(PROTOCOLS[protocol].steps)
    settings: dict[str, Any] = {} if arm == "plain" else {"before": found.before, "after": found.after}
    race(protocol, arm, seed, settings, count, found.watch)
    return found


def _measures(model: nn.Module, x: Tensor) -> Alike:
    found = model_homogeneity(model, x[:_SAMPLES])
    rows, samples = list(found.weights.values())[:-1], list(found.representations.values())  # without the outputs
    figures = (h for parts in (rows, samples) for h in zip(*parts, strict=True))
    return {name: statistics.mean(values) for name, values in zip(MEASURES, figures, strict=True)}


def _alike(name: str, values: Alike) -> float:
    """Larger for what is more alike."""
    return -values[name] if "rank" in name else values[name]


def _answers(data: str, name: str, without: list[Course], renewed: list[Course]) -> Row:
    row: dict[str, Any] = {"data": data, "measure": name}
    row["first"] = statistics.mean(one.measures[0][name] for one in without)
    row["last"] = statistics.mean(one.measures[-1][name] for one in without)
    row["last_renewed"] = statistics.mean(one.measures[-1][name] for one in renewed)
    figures = {
        "grown": [_alike(name, one.measures[-1]) - _alike(name, one.measures[0]) for one in without],
        "descent": [_within(one, name) for one in without],
        "remains": [_over(one, name) for one in without],
        "renewal": [statistics.mean(_alike(name, change) for change in one.changes) for one in renewed],
        "apart": [
            _alike(name, b.measures[-1]) - _alike(name, a.measures[-1]) for a, b in zip(without, renewed, strict=True)
        ],
    }
    for question, values in figures.items():
        row[question], row[f"{question}_low"], row[f"{question}_high"] = interval(values)
    return row


def _within(one: Course, name: str) -> float:
    """The mean over tasks of the correlation between homogeneity and loss in a task."""
    size = _LOOKS + 1
    return statistics.mean(
        _correlation([_alike(name, values) for values in one.measures[at : at + size]], one.losses[at : at + size])
        for at in range(0, len(one.losses), size)
    )


def _over(one: Course, name: str) -> float:
    """The correlation over tasks between homogeneity and loss at their ends."""
    ends = slice(_LOOKS, None, _LOOKS + 1)
    return _correlation([_alike(name, values) for values in one.measures[ends]], one.losses[ends])


def _correlation(x: list[float], y: list[float]) -> float:
    from scipy.stats import spearmanr  # slow to import

    return float(spearmanr(x, y).statistic)


def _run(data: str, arm: str, courses: list[Course]) -> Row:
    first, last = (statistics.mean(one.losses[at] for one in courses) for at in (_LOOKS, -1))
    over = {name: statistics.mean(_over(one, name) for one in courses) for name in MEASURES}
    return {"data": data, "arm": arm, "first": first, "last": last, **over}


def _plots(data: str, found: dict[str, list[Course]]) -> list[Plot]:
    def curve(arm: str, of: list[list[float]]) -> Series:
        means = [statistics.mean(values) for values in zip(*of, strict=True)]
        role: Any = "baseline" if ARMS[arm] == "plain" else "measured"
        return Series(arm, found[arm][0].tasks, means, role=role)

    time, ends = Axis("tasks"), slice(_LOOKS, None, _LOOKS + 1)
    losses = [curve(arm, [one.losses for one in them]) for arm, them in found.items()]
    plots = [Plot(f"Loss on the task at hand, {data}", time, Axis("cross-entropy", log=True), losses)]
    for name in MEASURES:
        curves = [curve(arm, [[m[name] for m in one.measures] for one in them]) for arm, them in found.items()]
        label = f"effective {name}" if "rank" in name else f"mean pairwise |cosine| {name.removeprefix('cosine ')}"
        plots.append(Plot(f"{name.capitalize()}, {data}", time, Axis(label), curves))
        if name == "rank of samples":
            left = [Series(a.name, a.y[ends], b.y[ends], role=a.role) for a, b in zip(curves, losses, strict=True)]
    return [*plots, Plot(f"Loss left at the ends of tasks, {data}", Axis("effective rank of samples"),
                         Axis("cross-entropy"), left)]  # fmt: skip


def _answer_columns() -> tuple[Column, ...]:
    def asked(question: str, label: str, spec: str) -> Column:
        return Column(question, label, spec, low=f"{question}_low", high=f"{question}_high")

    return (
        Column("data", "data"), Column("measure", "measure"), Column("first", "first weights", ".3g"),
        Column("last", "last, without renewal", ".3g"), Column("last_renewed", "last, with renewal", ".3g"),
        asked("grown", "grown", "+.3f"), asked("descent", "correlation with the loss within tasks", "+.2f"),
        asked("remains", "correlation with the loss left at their ends", "+.2f"),
        asked("renewal", "change at a renewal", "+.4f"), asked("apart", "renewed less not, at the end", "+.3f"),
    )  # fmt: skip


def _run_columns() -> tuple[Column, ...]:
    return (
        Column("data", "data"), Column("arm", "arm"), Column("first", "loss, first task", ".3f"),
        Column("last", "loss, last task", ".3f"),
        *(Column(name, f"{name}: correlation with the loss", "+.2f") for name in MEASURES),
    )  # fmt: skip
