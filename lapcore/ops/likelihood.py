"""Mixtures of discretised logistics, the likelihood of PixelCNN++ (Salimans et al. 2017).

Convention. Images are `(N, C, H, W)`, C = 3 (RGB) or 1 (grey), in [-1, 1]; the 8-bit value i is i / 127.5 - 1. `params` is
`(N, P, H, W)`, K components for every pixel, in the channel order of the official code (openai/pixel-cnn, and the PyTorch
ports of it):

| channels of params                                | RGB, P = 10 K       | grey, P = 3 K |
| ------------------------------------------------- | ------------------- | ------------- |
| logits of the components                          | 0 .. K - 1          | 0 .. K - 1    |
| of image channel c: means                         | K (1 + 3 c) + k     | K + k         |
| of image channel c: log-scales                    | K (2 + 3 c) + k     | 2 K + k       |
| coefficients c_0, c_1, c_2 (before the tanh)      | K (3 + 3 c) + k     | none          |

Log-scales below -7 count as -7, and get no gradient there. Given component k, the means are m_R, m_G + tanh(c_0) x_R and
m_B + tanh(c_1) x_R + tanh(c_2) x_G. Any finite parameters are allowed, of whatever size: there is never a NaN. Values are not
checked.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from lapcore import backends
from lapcore.ops import _check
from lapcore.ops._registered import Registered, by_recomputation, save_all, saved
from lapcore.ops.random import seed_tensor, signed64
from lapcore.reference import likelihood as reference
from lapcore.reference.likelihood import computed, groups

__all__ = ["discretized_logistic_mixture_nll", "sample_discretized_logistic_mixture"]

MODES = ("exact", "official")


def discretized_logistic_mixture_nll(params: Tensor, x: Tensor, *, mode: str = "exact") -> Tensor:
    """-log p(x) in nats of every image, under a mixture of discretised logistics for every pixel, `(N,)`.

    Formula: -sum over pixels of logsumexp_k [ log_softmax(logits)_k + sum_c log p_kc ], where p is the logistic's mass of the
        bin [x - 1/255, x + 1/255], a = exp(-log_s) (x - m + 1/255), b = exp(-log_s) (x - m - 1/255), and the first and the
        last bin reach to infinity: log p = log sigmoid(a) for x < -0.999, log sigmoid(-b) for x > 0.999, and else
        log(sigmoid(a) - sigmoid(b)).
    Units: nats; bits per dimension are nll / (ln 2 * C * H * W).

    Args:
        params: `(N, P, H, W)`, P = 10 K for RGB and 3 K for grey, in the official channel order (see the module's convention).
        x: `(N, C, H, W)`, C = 3 or 1, in [-1, 1] on the 8-bit grid; of the dtype of params, or float32 beside 16-bit params,
            as bfloat16 does not hold the grid.
        mode: "exact"; or "official": a bin of mass up to 1e-5 gets its middle's density times its width, as in the official
            code, which is off by up to 2.1 nats there, for comparing with published figures.

    Dtypes: float16, bfloat16, float32, float64 -> float32, or float64 for float64. Computed in that; pixels are summed in
        float64.
    Gradients: by formula, at params and at x. That at x is of the formula as it stands, inside a bin's case; computed again
        from params and x, nothing of the size of K images is kept. Of any order, the second and higher ones in plain PyTorch.
    Errors: TypeError, ValueError naming the argument.
    Determinism: image i depends on its own inputs alone; on one backend the same bits for every batch, stride and number of
        threads.
    Source: Salimans, Karpathy, Chen and Kingma, PixelCNN++, ICLR 2017, section 2.1, and its code.
    """
    _check.choice("mode", mode, MODES)
    _check_params(params)
    _check.image("x", x, _check.FLOATS)
    if x.dim() != 4 or x.shape[1] not in (1, 3):
        raise ValueError(f"x: expected shape (N, 3, H, W) or (N, 1, H, W), got {tuple(x.shape)}")
    if x.shape[0] != params.shape[0] or x.shape[2:] != params.shape[2:]:
        n, _, h, w = params.shape
        raise ValueError(f"x: expected shape ({n}, 3 or 1, {h}, {w}) like params, got {tuple(x.shape)}")
    if x.dtype not in (params.dtype, computed(params.dtype)):
        expected = " or ".join(map(_check.dtype_name, dict.fromkeys((params.dtype, computed(params.dtype)))))
        raise TypeError(f"x: expected dtype {expected} beside params, got {_check.dtype_name(x.dtype)}")
    if x.device != params.device:
        raise ValueError(f"x: expected the device {params.device} of params, got {x.device}")
    _check_size(params, x.shape[1])
    _check.no_tangent(params, x)
    nll: Tensor = _nll(params, x, mode)
    return nll


def sample_discretized_logistic_mixture(
    params: Tensor, seeds: int | Tensor, *, channels: int = 3, snap: bool = True, stream: int = 0
) -> Tensor:
    """Draws an image from a mixture of logistics for every pixel, `(N, C, H, W)` in [-1, 1].

    Formula: k = argmax_k (logits_k - ln(-ln u_k)), the lowest k of equal ones, then channel by channel
        x_c = m_c + exp(log_s_c) (ln u_{K+c} - ln(1 - u_{K+c})), with the means moved by the channels drawn before (see the
        module's convention), clipped to [-1, 1]. With `snap` it is put on the 8-bit grid, round((x + 1) 127.5) / 127.5 - 1
        (ties to even), before the next channel sees it.
    Noise: u = `lapcore.random.uniform((N, K + C, H, W), seeds, stream=stream)`: with one seed for each image the pixel (y, x)
        of image i takes the elements (j H + y) W + x, j = 0 .. K + C - 1, of the stream of seeds[i]; so it can be drawn for
        one pixel alone.

    Args:
        params: `(N, P, H, W)`, P = 10 K for RGB and 3 K for grey, in the official channel order.
        seeds: an int, one stream for the whole batch, or an int64 tensor `(N,)` of one seed for each image, as for
            `lapcore.random`.
        channels: 3 (RGB) or 1 (grey); params alone do not tell.
        snap: whether to put the image on the 8-bit grid.
        stream: numbers independent noises of one seed.

    Dtypes: float16, bfloat16, float32, float64 -> float32, or float64 for float64 (bfloat16 does not hold the grid). Computed
        in that.
    Not differentiable: the result is detached.
    Errors: TypeError, ValueError naming the argument.
    Determinism: image i depends on params[i] and seeds[i] alone. The noise is the same to the bit on every backend; the cpu
        and cuda backends do the same operations in the same order.
    Source: Salimans et al., PixelCNN++, ICLR 2017, and its code; Gumbel-max: Gumbel 1954.
    """
    _check_params(params)
    if isinstance(channels, bool) or channels not in (1, 3):
        raise ValueError(f"channels: expected 3 or 1, got {channels!r}")
    if not isinstance(snap, bool):
        raise TypeError(f"snap: expected a bool, got {type(snap).__name__}")
    _check_size(params, channels)
    seed = seed_tensor(seeds, params.shape, params.device)
    drawn: Tensor = _drawn(params.detach(), channels, seed, signed64("stream", stream), snap)
    return drawn


def _check_params(params: Tensor) -> None:
    _check.image("params", params, _check.FLOATS)
    if params.dim() != 4:
        raise ValueError(f"params: expected shape (N, P, H, W), got {tuple(params.shape)}")


def _check_size(params: Tensor, channels: int) -> None:
    each = 1 + channels * groups(channels)
    if params.shape[1] == 0 or params.shape[1] % each:
        raise ValueError(
            f"params: expected P = {each} K channels, K >= 1, for images of {channels} channels, "
            f"got shape {tuple(params.shape)}"
        )


def _nll_of(params: Tensor, x: Tensor, mode: str) -> Tensor:
    room = backends.select("likelihood", [params])
    nll: Tensor = room.discretized_logistic_mixture_nll(params, x.to(computed(params.dtype)), mode)
    return nll


def _gradients_of(grad: Tensor, params: Tensor, x: Tensor, mode: str, with_x: bool, room: Any = None) -> list[Tensor]:
    room = room or backends.select("likelihood", [params])
    wide = x.to(computed(params.dtype))
    d_params, *d_x = room.discretized_logistic_mixture_nll_backward(grad, params, wide, mode, with_x)
    return [d_params, *(d.to(x.dtype) for d in d_x)]


def _drawn_of(params: Tensor, channels: int, seeds: Tensor, stream: int, snap: bool) -> Tensor:
    room = backends.select("likelihood", [params])
    drawn: Tensor = room.sample_discretized_logistic_mixture(params.detach(), channels, seeds, stream, snap)
    return drawn


def _nll_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    params, x, mode = saved(ctx)
    d_params, *d_x = _gradients(grad, params, x, mode, ctx.needs_input_grad[1])
    return d_params, *(d_x or [None]), None


def _like(x: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.empty(x.shape, dtype=dtype, device=x.device)


_nll = Registered(
    "discretized_logistic_mixture_nll",
    "(Tensor params, Tensor x, str mode) -> Tensor",
    _nll_of,
    lambda params, *_: _like(params[:, 0, 0, 0], computed(params.dtype)),
    save_all,
    _nll_backward,
)
_gradients = Registered(
    "discretized_logistic_mixture_nll_backward",
    "(Tensor grad, Tensor params, Tensor x, str mode, bool with_x) -> Tensor[]",
    _gradients_of,
    lambda grad, params, x, mode, with_x: [_like(t, t.dtype) for t in ((params, x) if with_x else (params,))],
    save_all,
    by_recomputation(partial(_gradients_of, room=reference)),
)
_drawn = Registered(
    "sample_discretized_logistic_mixture",
    "(Tensor params, SymInt channels, Tensor seeds, SymInt stream, bool snap) -> Tensor",
    _drawn_of,
    lambda params, channels, *_: _like(params[:, :1].expand(-1, channels, -1, -1), computed(params.dtype)),
    lambda ctx, inputs, output: ctx.mark_non_differentiable(output),
    lambda ctx, grad: (None,) * 5,
)
