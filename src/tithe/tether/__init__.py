"""Tethered populations: models that merge where they agree and stay apart where they do not.

>>> import torch
>>> from tithe.tether import attach, detach
>>> model = torch.nn.Linear(3, 2)
>>> tethers = attach(model, init="uniform")  # from now on it computes with W ∘ T
>>> type(detach(model))  # and now W is what W ∘ T was
<class 'torch.nn.modules.linear.Linear'>
"""

from tithe.tether.advertising import Advertisement, advertise, put_rows, read_advertisement, rows_of
from tithe.tether.alignment import align
from tithe.tether.averaging import average
from tithe.tether.compatibility import compatibility, matched, null_distribution
from tithe.tether.generations import Generations
from tithe.tether.growth import grow
from tithe.tether.homogeneity import homogeneity, model_homogeneity
from tithe.tether.nodes import importance, tether_nodes
from tithe.tether.parametrization import Tether, attach, detach, tethers
from tithe.tether.peer import Peer
from tithe.tether.policy import MergePolicy, Plateau
from tithe.tether.population import Population
from tithe.tether.renormalizer import Renormalizer
from tithe.tether.text_files import read_numbers, write_numbers
from tithe.tether.within import LayerTethers, connect

__all__ = [
    "Advertisement",
    "Generations",
    "LayerTethers",
    "MergePolicy",
    "Peer",
    "Plateau",
    "Population",
    "Renormalizer",
    "Tether",
    "advertise",
    "align",
    "attach",
    "average",
    "compatibility",
    "connect",
    "detach",
    "grow",
    "homogeneity",
    "importance",
    "matched",
    "model_homogeneity",
    "null_distribution",
    "put_rows",
    "read_advertisement",
    "read_numbers",
    "rows_of",
    "tether_nodes",
    "tethers",
    "write_numbers",
]
