"""Approximate products with a checked error bound. ``tithe.matmul`` is the front door."""

from tithe.product.certificate import certify
from tithe.product.estimators import (
    KINDS,
    METHODS,
    Centred,
    Estimator,
    Exact,
    MeanField,
    Reduced,
    Sampled,
    Truncated,
)
from tithe.product.matmul import matmul

__all__ = [
    "KINDS",
    "METHODS",
    "Centred",
    "Estimator",
    "Exact",
    "MeanField",
    "Reduced",
    "Sampled",
    "Truncated",
    "certify",
    "matmul",
]
