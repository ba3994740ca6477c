"""Thin modules over torch and lapcore's ops, shared by the models."""

from __future__ import annotations

from lapcore.nn.codebook import Quantized, VectorQuantizer
from lapcore.nn.masked import ConcatELU, Embed, GatedActivation, GatedMaskedConv2d, MaskedConv2d, Ones

__all__ = [
    "ConcatELU",
    "Embed",
    "GatedActivation",
    "GatedMaskedConv2d",
    "MaskedConv2d",
    "Ones",
    "Quantized",
    "VectorQuantizer",
]
