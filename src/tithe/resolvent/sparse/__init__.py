"""Sparse inference: linear layers that read only the weights of the inputs that matter, for a few samples at a time.

>>> import torch
>>> from tithe.resolvent.sparse import restore, sparsify
>>> model = torch.nn.Sequential(torch.nn.Linear(8, 64), torch.nn.ReLU(), torch.nn.Linear(64, 2))
>>> report = sparsify(model, torch.rand(64, 8), keep=0.5)
>>> [layer.name for layer in report.layers]
['0', '2']
>>> restore(model)[2]
Linear(in_features=64, out_features=2, bias=True)
"""

from tithe.resolvent.sparse.convert import restore, sparsify
from tithe.resolvent.sparse.layers import SparseLinear, pruned
from tithe.resolvent.sparse.report import LayerReport, SparsityReport

__all__ = ["LayerReport", "SparseLinear", "SparsityReport", "pruned", "restore", "sparsify"]
