"""Networks of hashtrons: binary neurons made of a hash and a filter. Exact, small, and trained by counting votes.

>>> from tithe.hashtron import hash32
>>> hash32(12345, 678, 1000)
666
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

# Public name -> where it lives; nothing is imported before it is used, so numba loads only with what needs it.
_EXPORTS = {
    "CapacityLaw": "backward.law",
    "Filter": "filters",
    "Hashtron": "neuron",
    "HashtronClassifier": "classifier",
    "HashtronRegressor": "regressor",
    "Layer": "topology",
    "LayerVotes": "layer_votes",
    "Network": "network",
    "Pipeline": "pipeline.pipeline",
    "SumCache": "backward.sum_cache",
    "Topology": "topology",
    "Votes": "votes",
    "byte_features": "hashing",
    "fit_network": "fitting",
    "hash32": "hashing",
    "load": "model_files",
    "save": "model_files",
    "select": "backward.selection",
    "string_hash": "hashing",
    "tally": "votes",
    "tally_layer": "layer_votes",
}

__all__ = [
    "CapacityLaw",
    "Filter",
    "Hashtron",
    "HashtronClassifier",
    "HashtronRegressor",
    "Layer",
    "LayerVotes",
    "Network",
    "Pipeline",
    "SumCache",
    "Topology",
    "Votes",
    "byte_features",
    "fit_network",
    "hash32",
    "load",
    "save",
    "select",
    "string_hash",
    "tally",
    "tally_layer",
]


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        value = getattr(importlib.import_module(f"tithe.hashtron.{_EXPORTS[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(
        f"module 'tithe.hashtron' has no attribute {name!r}; its public names are {', '.join(__all__)}"
    )


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


if TYPE_CHECKING:
    from tithe.hashtron.backward.law import CapacityLaw
    from tithe.hashtron.backward.selection import select
    from tithe.hashtron.backward.sum_cache import SumCache
    from tithe.hashtron.classifier import HashtronClassifier
    from tithe.hashtron.filters import Filter
    from tithe.hashtron.fitting import fit_network
    from tithe.hashtron.hashing import byte_features, hash32, string_hash
    from tithe.hashtron.layer_votes import LayerVotes, tally_layer
    from tithe.hashtron.model_files import load, save
    from tithe.hashtron.network import Network
    from tithe.hashtron.neuron import Hashtron
    from tithe.hashtron.pipeline.pipeline import Pipeline
    from tithe.hashtron.regressor import HashtronRegressor
    from tithe.hashtron.topology import Layer, Topology
    from tithe.hashtron.votes import Votes, tally
