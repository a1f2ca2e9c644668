"""Estimators: small immutable classes, each one way to multiply, that compose.

``Centred(Truncated(0.5, Reduced("int8")))`` takes the means out and multiplies half of the slices in int8.
"""

from tithe.product.estimators.anchored import Anchored
from tithe.product.estimators.anchors import STRATEGIES
from tithe.product.estimators.centred import Centred
from tithe.product.estimators.exact import Exact
from tithe.product.estimators.fourier import Fourier
from tithe.product.estimators.interpolated import SIDES, Interpolated
from tithe.product.estimators.low_rank import Factored, LowRank
from tithe.product.estimators.mean_field import MeanField
from tithe.product.estimators.names import METHODS, from_name
from tithe.product.estimators.protocol import Approximation, Estimator, Look, Work, flops
from tithe.product.estimators.reduced import KINDS, SCALED, Reduced
from tithe.product.estimators.sampled import Sampled
from tithe.product.estimators.sketched import Sketched
from tithe.product.estimators.trajectory import Trajectory
from tithe.product.estimators.truncated import Truncated

__all__ = [
    "KINDS",
    "METHODS",
    "SCALED",
    "SIDES",
    "STRATEGIES",
    "Anchored",
    "Approximation",
    "Centred",
    "Estimator",
    "Exact",
    "Factored",
    "Fourier",
    "Interpolated",
    "Look",
    "LowRank",
    "MeanField",
    "Reduced",
    "Sampled",
    "Sketched",
    "Trajectory",
    "Truncated",
    "Work",
    "flops",
    "from_name",
]
