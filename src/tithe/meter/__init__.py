"""Measuring: what one block of code spends (``Meter``), and how two ways of doing a thing compare (``paired``)."""

from tithe.meter.comparison import Comparison, paired
from tithe.meter.meter import Meter

__all__ = ["Comparison", "Meter", "paired"]
