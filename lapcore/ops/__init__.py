"""The public operations, one file per family, and the registry of all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lapcore.ops import (
    gaussian,
    laplacian_loss,
    likelihood,
    masked_conv,
    parzen,
    pixelcnn_sampler,
    pyramid,
    random,
    vector_quantize,
)


@dataclass(frozen=True)
class Op:
    """One public operation: its name, its family (the file it lives in) and the torch.library operations it runs on."""

    name: str
    family: str
    public: Callable[..., Any]
    registered: tuple[str, ...]


def _with_adjoint(name: str) -> tuple[str, ...]:
    return (f"lapcore::{name}", f"lapcore::{name}_adjoint")


def _with_gradient(name: str) -> tuple[str, ...]:
    return (f"lapcore::{name}", f"lapcore::{name}_backward")


OPS = {
    op.name: op
    for op in (
        Op("pyr_down", "pyramid", pyramid.pyr_down, _with_adjoint("pyr_down")),
        Op("pyr_up", "pyramid", pyramid.pyr_up, _with_adjoint("pyr_up")),
        Op("gaussian_pyramid", "pyramid", pyramid.gaussian_pyramid, _with_adjoint("gaussian_pyramid")),
        Op("laplacian_pyramid", "pyramid", pyramid.laplacian_pyramid, _with_adjoint("laplacian_pyramid")),
        Op("collapse", "pyramid", pyramid.collapse, _with_adjoint("collapse")),
        Op("blend", "pyramid", pyramid.blend, ()),
        Op("laplacian_loss", "pyramid", laplacian_loss.laplacian_loss, ("lapcore::laplacian_loss",)),
        Op("random.bits", "random", random.bits, ("lapcore::random_bits",)),
        Op("random.uniform", "random", random.uniform, ("lapcore::random_uniform",)),
        Op("random.normal", "random", random.normal, ("lapcore::random_normal",)),
        Op("reparameterize", "gaussian", gaussian.reparameterize, _with_gradient("reparameterize")),
        Op("gaussian_kl", "gaussian", gaussian.gaussian_kl, _with_gradient("gaussian_kl")),
        Op("reparameterize_kl", "gaussian", gaussian.reparameterize_kl, _with_gradient("reparameterize_kl")),
        Op("gaussian_nll", "gaussian", gaussian.gaussian_nll, _with_gradient("gaussian_nll")),
        Op("vector_quantize", "vector_quantize", vector_quantize.vector_quantize, ("lapcore::vector_quantize",)),
        Op("parzen_log_likelihood", "parzen", parzen.parzen_log_likelihood, _with_gradient("parzen_log_likelihood")),
        Op("masked_conv2d", "masked_conv", masked_conv.masked_conv2d, _with_gradient("masked_conv2d")),
        Op("gated_activation", "masked_conv", masked_conv.gated_activation, _with_gradient("gated_activation")),
        Op("concat_elu", "masked_conv", masked_conv.concat_elu, _with_gradient("concat_elu")),
        Op(
            "discretized_logistic_mixture_nll",
            "likelihood",
            likelihood.discretized_logistic_mixture_nll,
            _with_gradient("discretized_logistic_mixture_nll"),
        ),
        Op(
            "sample_discretized_logistic_mixture",
            "likelihood",
            likelihood.sample_discretized_logistic_mixture,
            ("lapcore::sample_discretized_logistic_mixture",),
        ),
        Op("categorical", "pixelcnn_sampler", pixelcnn_sampler.categorical, ("lapcore::categorical",)),
    )
}
FAMILY_OF = {**{op.name: op.family for op in OPS.values()}, "sample_program": "pixelcnn_sampler"}
"""By public function; a program is no tensor, so that sample_program is no operation of torch.library."""
