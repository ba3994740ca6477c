"""Measures of a trained model."""

from __future__ import annotations

from lapcore.metrics.bpd import evaluate_bpd, independent_bpd
from lapcore.metrics.distribution import frechet_distance, kernel_distance, prdc
from lapcore.metrics.elbo import evaluate_elbo
from lapcore.metrics.features import FeatureNetwork, feature_network, features
from lapcore.metrics.parzen import (
    choose_sigma,
    evaluate_multiscale_parzen,
    evaluate_parzen,
    haar_merge,
    haar_split,
    halving_levels,
    multiscale_parzen,
    parzen,
)
from lapcore.metrics.rmse import celeba_crop, evaluate_rmse, rmse, to_uint8_truncated
from lapcore.metrics.samples import check_distances, draw_samples, evaluate_samples, low_pass
from lapcore.metrics.sliced_wasserstein import sliced_wasserstein

__all__ = [
    "FeatureNetwork",
    "celeba_crop",
    "check_distances",
    "choose_sigma",
    "draw_samples",
    "evaluate_bpd",
    "evaluate_elbo",
    "evaluate_multiscale_parzen",
    "evaluate_parzen",
    "evaluate_rmse",
    "evaluate_samples",
    "feature_network",
    "features",
    "frechet_distance",
    "haar_merge",
    "haar_split",
    "halving_levels",
    "independent_bpd",
    "kernel_distance",
    "low_pass",
    "multiscale_parzen",
    "parzen",
    "prdc",
    "rmse",
    "sliced_wasserstein",
    "to_uint8_truncated",
]
