"""Measures of a trained model."""

from __future__ import annotations

from lapcore.metrics.rmse import celeba_crop, evaluate_rmse, rmse, to_uint8_truncated

__all__ = ["celeba_crop", "evaluate_rmse", "rmse", "to_uint8_truncated"]
