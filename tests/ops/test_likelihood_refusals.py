"""What the functions on mixtures refuse, by name."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tests.ops.likelihood_checks import (
    Tensor,
    nll,
    sample,
)

PARAMS, IMAGE = torch.zeros(2, 20, 3, 4), torch.zeros(2, 3, 3, 4)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nll(1, IMAGE), TypeError, "params: expected a torch.Tensor, got int"),
        (lambda: nll(PARAMS, None), TypeError, "x: expected a torch.Tensor"),
        (lambda: nll(PARAMS.int(), IMAGE), TypeError, "params: expected dtype float16"),
        (lambda: nll(PARAMS, IMAGE.double()), TypeError, "x: expected dtype float32 beside params, got float64"),
        (lambda: nll(PARAMS.half(), IMAGE.bfloat16()), TypeError, "x: expected dtype float16 or float32 beside params"),
        (lambda: nll(PARAMS[0], IMAGE), ValueError, r"params: expected shape \(N, P, H, W\), got \(20, 3, 4\)"),
        (lambda: nll(PARAMS, IMAGE[:, :2]), ValueError, r"x: expected shape \(N, 3, H, W\) or \(N, 1, H, W\)"),
        (lambda: nll(PARAMS, IMAGE[:1]), ValueError, r"x: expected shape \(2, 3 or 1, 3, 4\) like params"),
        (lambda: nll(PARAMS, IMAGE[..., :3]), ValueError, r"x: expected shape \(2, 3 or 1, 3, 4\) like params"),
        (lambda: nll(PARAMS[:, :19], IMAGE), ValueError, "params: expected P = 10 K channels"),
        (lambda: nll(PARAMS, IMAGE[:, :1]), ValueError, "params: expected P = 3 K channels"),
        (lambda: nll(PARAMS[:, :0], IMAGE), ValueError, "params: expected P = 10 K channels, K >= 1"),
        (lambda: nll(PARAMS, IMAGE, "fast"), ValueError, "mode: expected one of 'exact', 'official', got 'fast'"),
        (lambda: nll(PARAMS, IMAGE.to("meta")), ValueError, "x: expected the device cpu of params"),
        (lambda: sample(PARAMS, 1.5), TypeError, "seeds: expected an int"),
        (lambda: sample(PARAMS, torch.tensor([1])), ValueError, "seeds: expected"),
        (lambda: sample(PARAMS, 1, channels=2), ValueError, "channels: expected 3 or 1, got 2"),
        (lambda: sample(PARAMS, 1, channels=1), ValueError, "params: expected P = 3 K channels"),
        (lambda: sample(PARAMS, 1, snap=1), TypeError, "snap: expected a bool"),
        (lambda: sample(PARAMS, 1, stream=2**64), ValueError, "stream: expected an int"),
        (lambda: sample(PARAMS.int(), 1), TypeError, "params: expected dtype"),
    ],
)
def test_refusals(call: Callable[[], Tensor], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
