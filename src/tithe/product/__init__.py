"""Approximate products with a checked error bound. ``tithe.matmul`` is the front door."""

from tithe.product.certificate import certify
from tithe.product.conversion import ConversionReport, convert, load_converted, restore, save_converted
from tithe.product.estimators import (
    KINDS,
    METHODS,
    Anchored,
    Centred,
    Estimator,
    Exact,
    Fourier,
    Interpolated,
    LowRank,
    MeanField,
    Reduced,
    Sampled,
    Sketched,
    Trajectory,
    Truncated,
)
from tithe.product.matmul import matmul
from tithe.product.plan import Plan, plan

__all__ = [
    "KINDS",
    "METHODS",
    "Anchored",
    "Centred",
    "ConversionReport",
    "Estimator",
    "Exact",
    "Fourier",
    "Interpolated",
    "LowRank",
    "MeanField",
    "Plan",
    "Reduced",
    "Sampled",
    "Sketched",
    "Trajectory",
    "Truncated",
    "certify",
    "convert",
    "load_converted",
    "matmul",
    "plan",
    "restore",
    "save_converted",
]
