"""Estimators: small immutable classes, each one way to multiply, that compose.

``Centred(Truncated(0.5, Reduced("int8")))`` takes the means out and multiplies half of the slices in int8.
"""

from tithe.product.estimators.centred import Centred
from tithe.product.estimators.exact import Exact
from tithe.product.estimators.mean_field import MeanField
from tithe.product.estimators.names import METHODS, from_name
from tithe.product.estimators.protocol import Approximation, Estimator, Look, Work, flops
from tithe.product.estimators.reduced import KINDS, SCALED, Reduced
from tithe.product.estimators.sampled import Sampled
from tithe.product.estimators.truncated import Truncated

__all__ = [
    "KINDS",
    "METHODS",
    "SCALED",
    "Approximation",
    "Centred",
    "Estimator",
    "Exact",
    "Look",
    "MeanField",
    "Reduced",
    "Sampled",
    "Truncated",
    "Work",
    "flops",
    "from_name",
]
