"""Who is compared: the candidates of each, how one is fitted, and what it has to keep.

All that choose have five candidates for every task; the most usual setting comes first and wins a tie. On images one
of the five learns from deformed copies (``copies``, which ``measure`` adds); the hashtron deforms its images itself.
"""

from __future__ import annotations

import importlib.metadata
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler

from benchmarks.hashtron import sizes
from benchmarks.hashtron.tasks import Samples, Task, categorical
from benchmarks.hashtron.tsetlin import fit_green, fit_pytsetlin, green_candidates, missing, pytsetlin_candidates
from benchmarks.hashtron.wisard import fit_wisard
from tithe.hashtron.designs import PRESETS

Settings = dict[str, Any]
Fit = Callable[[Task, Samples, Settings, int, int], "Fitted"]
_STEPS = 300  # of the solver of logistic regression


@dataclass(frozen=True)
class Fitted:
    """A model, whoever made it.

    Attributes:
        predict: from X to targets.
        bytes: what it has to keep to predict.
    """

    predict: Callable[[NDArray[Any]], NDArray[Any]]
    bytes: int


@dataclass(frozen=True)
class Rival:
    """One who is compared.

    Attributes:
        name: as the command line and the files have it.
        title: as the tables have it.
        candidates: settings for a task, the most usual first; one alone means that nothing is chosen.
        fit: (task, samples, settings, seed, threads) to a model.
        quantities: whether it predicts quantities, too.
        once: whether one run is enough where the test part is official: it is costly, or nothing in it is random.
        package: whose version is noted.
        missing: what to do where it is not installed.
        limit: what the tables say about a limit that was set.
    """

    name: str
    title: str
    candidates: Callable[[Task], list[Settings]]
    fit: Fit
    quantities: bool = True
    once: bool = False
    package: str = "scikit-learn"
    missing: Callable[[], str | None] = lambda: None
    limit: Callable[[Task], str] = lambda task: ""

    @property
    def version(self) -> str:
        """Of the package."""
        return f"{self.package} {importlib.metadata.version(self.package)}"


def _fit_hashtron(task: Task, train: Samples, settings: Settings, seed: int, threads: int) -> Fitted:
    from tithe.hashtron import HashtronClassifier, HashtronRegressor  # with torch, which the others can do without

    estimator = HashtronRegressor if task.quantity else HashtronClassifier
    model = estimator(random_state=seed, n_jobs=threads, **settings).fit(train.X, train.y)
    return Fitted(model.predict, model.model_bytes_)


def _hashtron_candidates(task: Task) -> list[Settings]:
    if task.name == "fashion-mnist":
        ways: list[Settings] = [{}, {"preset": "tiny"}, {"preset": 400}, {"preset": "best"}, {}]
        return [way | {"augment": "mirror"} for way in ways[:4]] + [{"augment": "shift"}]
    if task.images:
        return [{}, {"preset": "tiny"}, {"preset": 400}, {"preset": "best"}, {"epochs": 30}]
    sure: Settings = {"temperature": 1.5}
    return [{}, {"preset": "tiny"}, {"preset": "best"}, sure, {"preset": "best"} | sure]


def _fit_linear(task: Task, train: Samples, settings: Settings, seed: int, threads: int) -> Fitted:
    named, X = categorical(train.X), train.X
    numbers = [] if task.images else [c for c in range(X.shape[1]) if c not in named]
    head = FunctionTransformer(_grey) if task.images else ColumnTransformer([
        ("numbers", StandardScaler(), numbers),
        ("names", OneHotEncoder(handle_unknown="ignore"), named),
    ])  # fmt: skip
    model = make_pipeline(head, Ridge(**settings) if task.quantity else LogisticRegression(max_iter=_STEPS, **settings))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the limit of steps is in the table
        model.fit(X, train.y)
    size = sizes.of_linear(model[-1].coef_, model[-1].intercept_, len(numbers)) + _names_bytes(X, named)
    return Fitted(model.predict, size)


def _linear_candidates(task: Task) -> list[Settings]:
    if task.quantity:
        return [{"alpha": alpha} for alpha in (1.0, 0.01, 0.1, 10.0, 100.0)]
    if task.images:
        return [{"C": 1.0}, {"C": 0.01}, {"C": 0.1}, {"C": 10.0}, {"C": 0.1, "copies": 2}]
    return [{"C": C} for C in (1.0, 0.01, 0.1, 10.0, 100.0)]


def _fit_forest(task: Task, train: Samples, settings: Settings, seed: int, threads: int) -> Fitted:
    named = categorical(train.X)
    kind = RandomForestRegressor if task.quantity else RandomForestClassifier
    head = _head(task, named, OneHotEncoder(handle_unknown="ignore", sparse_output=False, dtype=np.float32))
    model = make_pipeline(head, kind(**settings, random_state=seed, n_jobs=threads)).fit(train.X, train.y)
    outputs = 1 if task.quantity else len(model[-1].classes_)
    size = sizes.of_forest((tree.tree_ for tree in model[-1].estimators_), outputs) + _names_bytes(train.X, named)
    return Fitted(model.predict, size)


def _forest_candidates(task: Task) -> list[Settings]:
    small = {"n_estimators": 30, "max_leaf_nodes": 256}
    if task.images:
        usual: Settings = {"n_estimators": 100}
        return [usual, {"n_estimators": 300}, usual | {"max_features": 0.1}, small, usual | {"copies": 2}]
    usual = {"n_estimators": 300}
    share = {"max_features": 1 / 3 if task.quantity else 0.3}
    return [usual, usual | {"min_samples_leaf": 2}, usual | {"min_samples_leaf": 5}, usual | share, small]


def _fit_boosting(task: Task, train: Samples, settings: Settings, seed: int, threads: int) -> Fitted:
    named = categorical(train.X)
    unknown = {"handle_unknown": "use_encoded_value", "unknown_value": np.nan}
    kind = HistGradientBoostingRegressor if task.quantity else HistGradientBoostingClassifier
    boosting = kind(**settings, categorical_features=list(range(len(named))) or None, random_state=seed)
    model = make_pipeline(_head(task, named, OrdinalEncoder(**unknown)), boosting).fit(train.X, train.y)
    counts = [len(set(train.X[:, c])) for c in named]
    columns = counts + [0] * (int(np.prod(train.X.shape[1:])) - len(named))
    trees = (tree.nodes for step in model[-1]._predictors for tree in step)
    return Fitted(model.predict, sizes.of_boosting(trees, columns) + _names_bytes(train.X, named))


def _boosting_candidates(task: Task) -> list[Settings]:
    usual: Settings = {"learning_rate": 0.1, "max_iter": 100}
    fast: Settings = {"learning_rate": 0.3, "max_iter": 30, "max_leaf_nodes": 15}
    # Without regularisation it diverges now and then: on 60,000 clothes, and where some phonemes are rare.
    if task.images:  # pixels need no 255 bins, which would cost hours
        half: Settings = {"learning_rate": 0.2, "max_iter": 60}
        ways = [usual, usual | {"max_leaf_nodes": 15}, usual | {"l2_regularization": 10.0}, half, half | {"copies": 1}]
        return [{"max_bins": 32, "l2_regularization": 1.0} | way for way in ways]
    if task.name == "phonemes":
        ways = [usual, usual | {"max_leaf_nodes": 15}, {"learning_rate": 0.05, "max_iter": 200}]
        return [
            *(way | {"l2_regularization": 3.0} for way in ways),
            *(usual | {"l2_regularization": x} for x in (1.0, 10.0)),
        ]
    slow: Settings = {"learning_rate": 0.05, "max_iter": 400}
    return [usual, usual | {"max_iter": 300}, slow | {"max_leaf_nodes": 15}, usual | {"l2_regularization": 10.0}, fast]


def _head(task: Task, named: list[int], encoder: Any) -> Any:
    """Images flat; categories encoded and before the numbers."""
    if task.images:
        return FunctionTransformer(_flat)
    return ColumnTransformer([("names", encoder, named)], remainder="passthrough")


def _flat(X: NDArray[Any]) -> NDArray[Any]:
    return X.reshape(len(X), -1)


def _grey(X: NDArray[Any]) -> NDArray[np.float32]:
    return _flat(X).astype(np.float32) / 255


def _names_bytes(X: NDArray[Any], named: list[int]) -> int:
    return sum(sizes.of_names(set(X[:, c])) for c in named)


def _fit_wisard(task: Task, train: Samples, settings: Settings, seed: int, threads: int) -> Fitted:
    model = fit_wisard(train.X, train.y, budget=PRESETS["small"] * 1024, seed=seed, **settings)
    return Fitted(model.predict, model.bytes)


def _wisard_candidates(task: Task) -> list[Settings]:
    def way(width: int, log_cells: int, levels: int, **more: Any) -> Settings:
        return {"width": width, "log_cells": log_cells, "levels": levels} | more

    if task.name == "digits":
        return [way(16, 9, 4), way(6, 6, 4), way(10, 8, 4), way(20, 10, 4), way(20, 10, 4, copies=2)]
    if task.images:
        return [way(16, 8, 1), way(8, 8, 1), way(24, 10, 1), way(20, 9, 4), way(24, 10, 1, copies=2)]
    if task.name == "phonemes":
        return [*(way(width, width, 1, coded=True) for width in (6, 4, 5, 8)), way(6, 6, 1)]
    return [way(8, 8, 16), way(4, 4, 16), way(6, 6, 16), way(16, 10, 16), way(24, 11, 16)]


def _fit_green(task: Task, train: Samples, settings: Settings, seed: int, threads: int) -> Fitted:
    return Fitted(*fit_green(train.X, train.y, **settings, seed=seed, threads=threads))


def _fit_pytsetlin(task: Task, train: Samples, settings: Settings, seed: int, threads: int) -> Fitted:
    return Fitted(*fit_pytsetlin(train.X, train.y, **settings, seed=seed))


def _steps(task: Task) -> str:
    return "" if task.quantity else f"at most {_STEPS} steps of the solver"


def _green_epochs(task: Task) -> str:
    return "2 to 5 epochs, so that it takes minutes; its documentation has 10" if task.official else ""


def _pytsetlin_epochs(task: Task) -> str:
    if task.official:
        return "2 to 5 epochs, so that it takes minutes; its documentation has 250"
    return "10 epochs, so that it takes minutes" if task.name == "adult" else ""


_ALL = (
    Rival("hashtron-defaults", "hashtron, defaults", lambda task: [{}], _fit_hashtron, package="tithe"),
    Rival("hashtron", "hashtron, chosen", _hashtron_candidates, _fit_hashtron, package="tithe"),
    Rival("linear", "linear", _linear_candidates, _fit_linear, once=True, limit=_steps),
    Rival("forest", "random forest", _forest_candidates, _fit_forest),
    Rival("boosting", "histogram boosting", _boosting_candidates, _fit_boosting, once=True),
    Rival("wisard", "WiSARD, 64 KiB", _wisard_candidates, _fit_wisard, quantities=False, package="numpy"),
    Rival(
        "green-tsetlin", "green-tsetlin", green_candidates, _fit_green, quantities=False, once=True,
        package="green-tsetlin", missing=lambda: missing("green_tsetlin", "green-tsetlin"), limit=_green_epochs,
    ),
    Rival(
        "pytsetlin", "pyTsetlinMachine", pytsetlin_candidates, _fit_pytsetlin, quantities=False, once=True,
        package="pyTsetlinMachine", missing=lambda: missing("pyTsetlinMachine", "pyTsetlinMachine"),
        limit=_pytsetlin_epochs,
    ),
)  # fmt: skip
RIVALS = {rival.name: rival for rival in _ALL}
