"""The φ-resolvent 1/(1 + φ·|k|²) where signals have an order: along images, along kernels, along time.

>>> import torch
>>> from tithe.resolvent import coherence
>>> coherence(torch.ones(28, 28), dims=(0, 1))
tensor(1.)
"""

from tithe.resolvent.coherence import coherence, fractal_dimension, white_noise_coherence
from tithe.resolvent.gradient_filter import GradientFilter
from tithe.resolvent.operator import apply, response, wavenumbers
from tithe.resolvent.regularizer import Penalties, Regularizer
from tithe.resolvent.trajectory import TrajectoryFilter

__all__ = [
    "GradientFilter",
    "Penalties",
    "Regularizer",
    "TrajectoryFilter",
    "apply",
    "coherence",
    "fractal_dimension",
    "response",
    "wavenumbers",
    "white_noise_coherence",
]
