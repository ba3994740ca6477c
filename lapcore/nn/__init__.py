"""Thin modules over torch and lapcore's ops, shared by the models."""

from __future__ import annotations

from lapcore.nn.codebook import Quantized, VectorQuantizer

__all__ = ["Quantized", "VectorQuantizer"]
