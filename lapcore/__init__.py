"""lapcore: fused kernels and readable models for multi-scale images.

Pyramids:   pyr_down, pyr_up, gaussian_pyramid, laplacian_pyramid, collapse, blend, laplacian_loss, PyramidPlan
            lapcore.compat: drop-ins for cv2, kornia, RIFE, RobustVideoMatting, LPTN and pyrtools (imported when first used)
Noise:      random.bits, random.uniform, random.normal: functions of seeds and position alone
Gaussians:  reparameterize, gaussian_kl, reparameterize_kl, gaussian_nll, DiagonalGaussian
Masked:     masked_conv2d, mask_of, gated_activation, concat_elu
Codebooks:  vector_quantize
Densities:  parzen_log_likelihood
Mixtures:   discretized_logistic_mixture_nll, sample_discretized_logistic_mixture
Pixels:     categorical, sample_program
Models:     lapcore.models (imported when first used)
Backends:   backend, explain
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any

from torch import Tensor

from lapcore import backends as _backends
from lapcore import errors
from lapcore.backends import backend
from lapcore.ops import FAMILY_OF as _FAMILY_OF
from lapcore.ops import random
from lapcore.ops.gaussian import DiagonalGaussian, gaussian_kl, gaussian_nll, reparameterize, reparameterize_kl
from lapcore.ops.laplacian_loss import laplacian_loss
from lapcore.ops.likelihood import discretized_logistic_mixture_nll, sample_discretized_logistic_mixture
from lapcore.ops.masked_conv import concat_elu, gated_activation, mask_of, masked_conv2d
from lapcore.ops.parzen import parzen_log_likelihood
from lapcore.ops.pixelcnn_sampler import categorical, sample_program
from lapcore.ops.pyramid import blend, collapse, gaussian_pyramid, laplacian_pyramid, pyr_down, pyr_up
from lapcore.ops.pyramid_plan import PyramidPlan
from lapcore.ops.vector_quantize import vector_quantize

__version__ = "0.1.0"

__all__ = [
    "DiagonalGaussian",
    "PyramidPlan",
    "backend",
    "blend",
    "categorical",
    "collapse",
    "concat_elu",
    "discretized_logistic_mixture_nll",
    "errors",
    "explain",
    "gated_activation",
    "gaussian_kl",
    "gaussian_nll",
    "gaussian_pyramid",
    "laplacian_loss",
    "laplacian_pyramid",
    "mask_of",
    "masked_conv2d",
    "parzen_log_likelihood",
    "pyr_down",
    "pyr_up",
    "random",
    "reparameterize",
    "reparameterize_kl",
    "sample_discretized_logistic_mixture",
    "sample_program",
    "vector_quantize",
]

_LAZY = ("cli", "compat", "data", "metrics", "models", "nn", "sampling", "training")


def explain(op: str, *tensors: Any) -> dict[str, str | None]:
    """Which backends can run a call: each by name, with None if it can, or the reason why it cannot.

    op: the name of an operation, e.g. "laplacian_pyramid" or "random.normal". tensors: its arguments; the first tensor among
    them (or in a sequence among them) decides the device, without one it is the CPU. Nothing is computed.
    Errors: ValueError for an unknown op.
    """
    if op not in _FAMILY_OF:
        raise ValueError(f"op: expected one of {', '.join(_FAMILY_OF)}, got {op!r}")
    flat = [
        x for item in tensors for x in (item if isinstance(item, list | tuple) else (item,)) if isinstance(x, Tensor)
    ]
    return _backends.explain(_FAMILY_OF[op], flat[0].device.type if flat else "cpu")


def __getattr__(name: str) -> ModuleType:
    if name in _LAZY:
        return import_module(f"lapcore.{name}")
    raise AttributeError(f"module 'lapcore' has no attribute {name!r}")
