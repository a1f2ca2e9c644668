"""The φ-resolvent 1/(1 + φ·|k|²) where signals have an order: along images, along kernels, along time.

>>> import torch
>>> from tithe.resolvent import coherence
>>> coherence(torch.ones(28, 28), dims=(0, 1))
tensor(1.)
"""

from tithe.resolvent.batching import CoherenceBatchSampler, dataset_coherences
from tithe.resolvent.frontend import FrontEnd
from tithe.resolvent.golden_layout import GoldenLinear, csr_bytes
from tithe.resolvent.gradient_filter import GradientFilter
from tithe.resolvent.grid_frontend import GridFrontEnd, PatchFrontEnd
from tithe.resolvent.measures import coherence, fractal_dimension, white_noise_coherence
from tithe.resolvent.monitor import Monitor
from tithe.resolvent.operator import apply, response, wavenumbers
from tithe.resolvent.regularizer import Penalties, Regularizer
from tithe.resolvent.schedules import BandSchedule, QuarterSchedule, golden_phases
from tithe.resolvent.selection import Indexed, SelectiveSampler
from tithe.resolvent.sparse import SparsityReport, pruned, restore, sparsify
from tithe.resolvent.trajectory import TrajectoryFilter

__all__ = [
    "BandSchedule",
    "CoherenceBatchSampler",
    "FrontEnd",
    "GoldenLinear",
    "GradientFilter",
    "GridFrontEnd",
    "Indexed",
    "Monitor",
    "PatchFrontEnd",
    "Penalties",
    "QuarterSchedule",
    "Regularizer",
    "SelectiveSampler",
    "SparsityReport",
    "TrajectoryFilter",
    "apply",
    "coherence",
    "csr_bytes",
    "dataset_coherences",
    "fractal_dimension",
    "golden_phases",
    "pruned",
    "response",
    "restore",
    "sparsify",
    "wavenumbers",
    "white_noise_coherence",
]
