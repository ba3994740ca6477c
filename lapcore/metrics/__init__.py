"""Measures of a trained model."""

from __future__ import annotations

from lapcore.metrics.bpd import evaluate_bpd, independent_bpd
from lapcore.metrics.parzen import (
    choose_sigma,
    evaluate_parzen,
    haar_merge,
    haar_split,
    multiscale_parzen,
    parzen,
)
from lapcore.metrics.rmse import celeba_crop, evaluate_rmse, rmse, to_uint8_truncated

__all__ = [
    "celeba_crop",
    "choose_sigma",
    "evaluate_bpd",
    "evaluate_parzen",
    "evaluate_rmse",
    "haar_merge",
    "haar_split",
    "independent_bpd",
    "multiscale_parzen",
    "parzen",
    "rmse",
    "to_uint8_truncated",
]
