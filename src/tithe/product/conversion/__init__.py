"""Models that compute for less: each layer in the cheapest way that is certified for its weight and activations."""

from tithe.product.conversion.convert import convert, restore
from tithe.product.conversion.files import load_converted, save_converted
from tithe.product.conversion.layers import ConvertedConv2d, ConvertedLinear
from tithe.product.conversion.report import ConversionReport, LayerReport

__all__ = [
    "ConversionReport",
    "ConvertedConv2d",
    "ConvertedLinear",
    "LayerReport",
    "convert",
    "load_converted",
    "restore",
    "save_converted",
]
