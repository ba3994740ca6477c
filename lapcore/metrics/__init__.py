"""Measures of a trained model."""

from __future__ import annotations

from lapcore.metrics.bpd import evaluate_bpd, independent_bpd
from lapcore.metrics.distribution import frechet_distance, kernel_distance, prdc
from lapcore.metrics.features import FeatureNetwork, feature_network, features
from lapcore.metrics.parzen import (
    choose_sigma,
    evaluate_parzen,
    haar_merge,
    haar_split,
    multiscale_parzen,
    parzen,
)
from lapcore.metrics.rmse import celeba_crop, evaluate_rmse, rmse, to_uint8_truncated
from lapcore.metrics.sliced_wasserstein import sliced_wasserstein

__all__ = [
    "FeatureNetwork",
    "celeba_crop",
    "choose_sigma",
    "evaluate_bpd",
    "evaluate_parzen",
    "evaluate_rmse",
    "feature_network",
    "features",
    "frechet_distance",
    "haar_merge",
    "haar_split",
    "independent_bpd",
    "kernel_distance",
    "multiscale_parzen",
    "parzen",
    "prdc",
    "rmse",
    "sliced_wasserstein",
    "to_uint8_truncated",
]
