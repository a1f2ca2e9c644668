"""Approximate products with a checked error bound. ``tithe.matmul`` is the front door."""

from tithe.product.certificate import certify
from tithe.product.estimators import (
    KINDS,
    METHODS,
    Anchored,
    Centred,
    Estimator,
    Exact,
    Fourier,
    LowRank,
    MeanField,
    Reduced,
    Sampled,
    Sketched,
    Trajectory,
    Truncated,
)
from tithe.product.matmul import matmul

__all__ = [
    "KINDS",
    "METHODS",
    "Anchored",
    "Centred",
    "Estimator",
    "Exact",
    "Fourier",
    "LowRank",
    "MeanField",
    "Reduced",
    "Sampled",
    "Sketched",
    "Trajectory",
    "Truncated",
    "certify",
    "matmul",
]
