"""Diagonal Gaussians: draws, KL divergences and likelihoods in nats (Kingma & Welling 2014, appendix B).

Convention. `mean` and `logvar` have one shape `(N, ...)`, one floating dtype and one device, any strides. Results of
draws have that dtype, computed in float32 and rounded once; sums run over all but the first dimension and are float32
whatever the input, except that float64 inputs are computed in float64 and give float64. Any log-variance is allowed,
infinities included: a result is exact where it is finite, infinite where it is not, and NaN only where an input is, or
where an infinite mean meets noise that is infinite the other way. Values are not checked. Gradients of any order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.distributions import Distribution, Independent, Normal, register_kl

from lapcore import backends
from lapcore.ops import _check
from lapcore.ops._eager import PLAIN
from lapcore.ops._registered import Registered, by_recomputation, save_all
from lapcore.ops.random import seed_tensor, signed64
from lapcore.reference import gaussian as reference

__all__ = ["DiagonalGaussian", "gaussian_kl", "gaussian_nll", "reparameterize", "reparameterize_kl"]

Seeds = int | Tensor | None
Generators = torch.Generator | list[torch.Generator] | tuple[torch.Generator, ...]


def reparameterize(mean: Tensor, logvar: Tensor, seeds: Seeds = None, *, stream: int = 0) -> Tensor:
    """z = mean + exp(logvar/2) * noise, with noise = `lapcore.random.normal(mean.shape, seeds, stream=stream)`.

    Args:
        mean, logvar: `(N, ...)`, see the module's convention.
        seeds: an int, an int64 tensor `(N,)` of one seed for each row, or None: one is drawn from torch's default CPU
            generator, so `torch.manual_seed` reproduces a run.
        stream: numbers independent noises of one seed.

    Returns:
        z, contiguous, of the inputs' shape and dtype. Backward: dmean = dz, dlogvar = dz * noise * exp(logvar/2) / 2,
        with the noise drawn again from the seeds, never stored.

    Raises:
        TypeError, ValueError: if a shape, dtype or device differs from these, or seeds are none of these.

    Determinism: row i depends on its own inputs and seed alone; with seeds=None, on torch's generator too.
    Source: Kingma and Welling, Auto-Encoding Variational Bayes, 2014, section 2.4.
    """
    _check_all(mean=mean, logvar=logvar)
    z: Tensor = _draw(mean, logvar, _seeds(seeds, mean), signed64("stream", stream))
    return z


def gaussian_kl(
    mean: Tensor, logvar: Tensor, prior_mean: Tensor | None = None, prior_logvar: Tensor | None = None
) -> Tensor:
    """KL(q||p) = 1/2 sum [ lp - lq + (exp(lq) + (mq - mp)^2) / exp(lp) - 1 ] in nats, `(N,)`, never below 0.

    q = N(mean, exp(logvar)), p = N(prior_mean, exp(prior_logvar)); None stands for 0, so no prior is the standard
    normal. Equal infinities are equal: between two point masses it is 0 if they are the same and inf otherwise. A row
    whose incoming gradient is 0 gets gradient 0, even where the divergence is inf.

    Shapes, dtypes: all `(N, ...)` of one shape and dtype -> `(N,)`, float32, or float64 for float64. Errors: as `reparameterize`.
    Determinism: row i depends on its own inputs; the sum is a tree, whose error grows with the logarithm of the row's length.
    Source: Kingma and Welling 2014, appendix B.
    """
    _check_all(mean=mean, logvar=logvar, prior_mean=prior_mean, prior_logvar=prior_logvar)
    kl: Tensor = _kl(mean, logvar, prior_mean, prior_logvar)
    return kl


def reparameterize_kl(
    mean: Tensor,
    logvar: Tensor,
    prior_mean: Tensor | None = None,
    prior_logvar: Tensor | None = None,
    seeds: Seeds = None,
    *,
    stream: int = 0,
) -> tuple[Tensor, Tensor]:
    """`reparameterize` and `gaussian_kl` in one op: (z, kl), of the inputs' shape and of `(N,)`.

    Formulas, shapes, dtypes, gradients, errors, determinism and sources are those of the two.

    Errors: TypeError, ValueError as they raise. Source: Kingma and Welling 2014.
    """
    _check_all(mean=mean, logvar=logvar, prior_mean=prior_mean, prior_logvar=prior_logvar)
    noise = _seeds(seeds, mean), signed64("stream", stream)
    z, kl = _draw_and_kl(mean, logvar, prior_mean, prior_logvar, *noise)
    return z, kl


def gaussian_nll(x: Tensor, mean: Tensor, logvar: Tensor) -> Tensor:
    """-log N(x; mean, exp(logvar)) = 1/2 sum [ ln 2 pi + logvar + (x - mean)^2 / exp(logvar) ] in nats, `(N,)`.

    It may be negative, being that of a density; -inf where a point mass is hit.

    Shapes, dtypes: x, mean, logvar `(N, ...)` of one shape and dtype -> `(N,)`, float32, or float64 for float64.
    Errors: as `gaussian_kl`. Determinism: as `gaussian_kl`.
    Source: the density of the normal distribution.
    """
    _check_all(mean=mean, logvar=logvar, x=x)
    nll: Tensor = _nll(x, mean, logvar)
    return nll


class DiagonalGaussian(Distribution):
    """N(mean, diag exp(logvar)), a batch of N. It stands in for diffusers' `DiagonalGaussianDistribution`.

    Known to `torch.distributions.kl_divergence`, against itself and against `Independent(Normal(...))`. `sample` and
    `mode` have diffusers' signatures, not those of `torch.distributions`.

    Args:
        mean, logvar: `(N, ...)`, see the module's convention.
        deterministic: a point mass as diffusers has it, with std, var, `kl` and `nll` 0; `sample` gives the mean.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012
    has_rsample = False

    def __init__(self, mean: Tensor, logvar: Tensor, *, deterministic: bool = False) -> None:
        _check_all(mean=mean, logvar=logvar)
        super().__init__(mean.shape[:1], mean.shape[1:], validate_args=False)
        self._mean, self.logvar, self.deterministic = mean, logvar, deterministic

    @classmethod
    def from_moments(cls, moments: Tensor, *, deterministic: bool = False) -> DiagonalGaussian:
        """Splits `(N, 2C, ...)` into mean and logvar, the latter clamped to [-30, 20] as diffusers does."""
        _check_all(moments=moments)
        if moments.ndim < 2 or moments.shape[1] % 2:
            raise ValueError(f"moments: expected (N, 2C, ...), got {tuple(moments.shape)}")
        mean, logvar = moments.chunk(2, dim=1)
        return cls(mean, logvar.clamp(-30, 20), deterministic=deterministic)

    @property
    def mean(self) -> Tensor:
        return self._mean

    @property
    def std(self) -> Tensor:
        return torch.zeros_like(self.logvar) if self.deterministic else torch.exp(self.logvar / 2)

    @property
    def var(self) -> Tensor:
        return torch.zeros_like(self.logvar) if self.deterministic else torch.exp(self.logvar)

    stddev = std
    variance = var

    def sample(  # type: ignore[override]
        self,
        seeds: Seeds | Generators = None,
        *,
        generator: Generators | None = None,
        stream: int = 0,
    ) -> Tensor:
        """`reparameterize`, with its gradient. A generator, or one for each row, may give the seeds, even in their
        place."""
        if isinstance(seeds, torch.Generator | list | tuple):
            seeds, generator = None, seeds
        if generator is not None:
            if seeds is not None:
                raise ValueError("seeds, generator: expected one of them, got both")
            seeds = _drawn(generator, self.mean.device)
        if self.deterministic:
            return self.mean
        return reparameterize(self.mean, self.logvar, seeds, stream=stream)

    def mode(self) -> Tensor:  # type: ignore[override]
        return self.mean

    def kl(self, other: DiagonalGaussian | None = None) -> Tensor:
        """KL(self || other), `(N,)`; other None is the standard normal."""
        if self.deterministic:
            return self._zero()
        if other is None:
            return gaussian_kl(self.mean, self.logvar)
        return gaussian_kl(self.mean, self.logvar, other.mean, other.logvar)

    def nll(self, x: Tensor) -> Tensor:
        """-log density at x, `(N,)`."""
        return self._zero() if self.deterministic else gaussian_nll(x, self.mean, self.logvar)

    def log_prob(self, value: Tensor) -> Tensor:
        """The log density, `(N,)`."""
        return -self.nll(value)

    def _zero(self) -> Tensor:
        return self.mean.new_zeros(len(self.mean), dtype=_sum_dtype(self.mean))

    def __repr__(self) -> str:
        return f"DiagonalGaussian(shape={tuple(self.mean.shape)}, dtype={self.mean.dtype}, device={self.mean.device})"


def _diagonal(p: DiagonalGaussian | Independent[Any]) -> DiagonalGaussian:
    if isinstance(p, DiagonalGaussian):
        return p
    if not isinstance(p.base_dist, Normal) or len(p.batch_shape) != 1:
        raise NotImplementedError(f"expected Independent(Normal) with one batch dimension, got {p}")
    return DiagonalGaussian(p.base_dist.loc, 2 * p.base_dist.scale.log())


def _kl_divergence(p: DiagonalGaussian | Independent[Any], q: DiagonalGaussian | Independent[Any]) -> Tensor:
    return _diagonal(p).kl(_diagonal(q))


for _p, _q in (
    (DiagonalGaussian, DiagonalGaussian),
    (DiagonalGaussian, Independent),
    (Independent, DiagonalGaussian),
):
    register_kl(_p, _q)(_kl_divergence)  # type: ignore[no-untyped-call]


def _check_all(**tensors: Tensor | None) -> None:
    """The first tensor has rows, and every other agrees with it; a prior may be None."""
    if _agree(tensors):
        return
    (like, first), *others = tensors.items()
    _check.tensor(like, first)
    assert first is not None
    _check.dtype(like, first)
    if first.ndim == 0:
        raise ValueError(f"{like}: expected shape (N, ...), got ()")
    for name, x in others:
        if x is None and name.startswith("prior"):
            continue
        _check.tensor(name, x)
        assert x is not None
        if x.shape != first.shape:
            raise ValueError(f"{name}: expected the shape {tuple(first.shape)} of {like}, got {tuple(x.shape)}")
        if x.dtype != first.dtype:
            raise TypeError(f"{name}: expected the dtype {first.dtype} of {like}, got {x.dtype}")
        if x.device != first.device:
            raise ValueError(f"{name}: expected the device {first.device} of {like}, got {x.device}")
    _check.no_tangent(*tensors.values())


def _agree(tensors: dict[str, Tensor | None]) -> bool:
    """A quick yes, without reasons, for the usual call."""
    first = next(iter(tensors.values()))
    if type(first) not in PLAIN or forward_ad._current_level >= 0:
        return False
    assert first is not None
    shape, dtype, device, layout = first.shape, first.dtype, first.device, first.layout
    for name, x in tensors.items():
        if x is None:
            if not name.startswith("prior"):
                return False
        elif not (
            type(x) in PLAIN and x.shape == shape and x.dtype == dtype and x.device == device and x.layout is layout
        ):
            return False
    return len(shape) > 0 and dtype in _check.FLOATS and layout is torch.strided


def _seeds(seeds: Seeds, mean: Tensor) -> Tensor:
    if seeds is None:
        return torch.randint(2**63 - 1, (1,), device="cpu")
    return seed_tensor(seeds, mean.shape, mean.device)


def _drawn(generator: Generators, device: torch.device) -> int | Tensor:
    if isinstance(generator, torch.Generator):
        return int(torch.randint(2**63 - 1, (), generator=generator, device=generator.device))
    return torch.tensor([_drawn(one, device) for one in generator], dtype=torch.int64, device=device)


def _sum_dtype(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _save_noise(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, logvar, seeds, ctx.stream = inputs
    ctx.save_for_backward(logvar, seeds)


def _save_moments(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.stream = inputs[-1]
    ctx.save_for_backward(*inputs[:-1])


def _save_tensors(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _reparameterize_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    if not ctx.needs_input_grad[1]:
        return grad, None, None, None
    return grad, _draw_gradient(grad, *ctx.saved_tensors, ctx.stream), None, None


def _kl_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    moments = ctx.saved_tensors
    return _where_given(_kl_gradient(grad, *moments), moments)


def _reparameterize_kl_backward(ctx: Any, grad_z: Tensor, grad_kl: Tensor) -> tuple[Tensor | None, ...]:
    *moments, seeds = ctx.saved_tensors
    found = _draw_and_kl_gradient(grad_z, grad_kl, *moments, seeds, ctx.stream)
    return *_where_given(found, moments), None, None


def _nll_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
    return tuple(_nll_gradient(grad, *ctx.saved_tensors))


def _where_given(gradients: Sequence[Tensor], tensors: Sequence[Tensor | None]) -> tuple[Tensor | None, ...]:
    if len(gradients) == 2:  # no prior
        return gradients[0], gradients[1], None, None
    found = iter(gradients)
    return tuple(None if x is None else next(found) for x in tensors)


def _like(x: Tensor) -> Tensor:
    return torch.empty(x.shape, dtype=x.dtype, device=x.device)


def _rows(x: Tensor) -> Tensor:
    return torch.empty(x.shape[:1], dtype=_sum_dtype(x), device=x.device)


def _run(name: str) -> Callable[..., Any]:
    def run(x: Tensor, *others: Any) -> Any:
        return getattr(backends.select("gaussian", [x]), name)(x, *others)

    return run


def _gradient(name: str, schema: str, fake: Callable[..., Any]) -> Registered:
    """The gradient of an operation in one pass. It is opaque to torch.compile, so a graph cannot keep the noise it
    should redraw."""
    own = by_recomputation(getattr(reference, name))
    return Registered(name, schema, _run(name), fake, save_all, own)


_MOMENTS = "Tensor mean, Tensor logvar"
_PRIOR = "Tensor? prior_mean, Tensor? prior_logvar"
_NOISE = "Tensor seeds, SymInt stream"

_draw_gradient = _gradient(
    "reparameterize_backward",
    f"(Tensor grad, Tensor logvar, {_NOISE}) -> Tensor",
    lambda grad, logvar, *_: _like(logvar),
)
_kl_gradient = _gradient(
    "gaussian_kl_backward",
    f"(Tensor grad, {_MOMENTS}, {_PRIOR}) -> Tensor[]",
    lambda grad, *moments: [_like(x) for x in moments if x is not None],
)
_draw_and_kl_gradient = _gradient(
    "reparameterize_kl_backward",
    f"(Tensor grad_z, Tensor grad_kl, {_MOMENTS}, {_PRIOR}, {_NOISE}) -> Tensor[]",
    lambda grad_z, grad_kl, *rest: [_like(x) for x in rest[:4] if x is not None],
)
_nll_gradient = _gradient(
    "gaussian_nll_backward",
    f"(Tensor grad, Tensor x, {_MOMENTS}) -> Tensor[]",
    lambda grad, *tensors: [_like(x) for x in tensors],
)

_draw = Registered(
    "reparameterize",
    f"({_MOMENTS}, {_NOISE}) -> Tensor",
    _run("reparameterize"),
    lambda mean, *_: _like(mean),
    _save_noise,
    _reparameterize_backward,
)
_kl = Registered(
    "gaussian_kl",
    f"({_MOMENTS}, {_PRIOR}) -> Tensor",
    _run("gaussian_kl"),
    lambda mean, *_: _rows(mean),
    _save_tensors,
    _kl_backward,
)
_draw_and_kl = Registered(
    "reparameterize_kl",
    f"({_MOMENTS}, {_PRIOR}, {_NOISE}) -> (Tensor, Tensor)",
    _run("reparameterize_kl"),
    lambda mean, *_: (_like(mean), _rows(mean)),
    _save_moments,
    _reparameterize_kl_backward,
)
_nll = Registered(
    "gaussian_nll",
    f"(Tensor x, {_MOMENTS}) -> Tensor",
    _run("gaussian_nll"),
    lambda x, *_: _rows(x),
    _save_tensors,
    _nll_backward,
)
