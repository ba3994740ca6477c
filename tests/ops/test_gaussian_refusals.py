"""What the Gaussian functions refuse, by name."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

import lapcore

GOOD = torch.zeros(3, 4)
BAD = {
    "another shape": torch.zeros(3, 5),
    "a broadcastable shape": torch.zeros(1, 4),
    "integers": torch.zeros(3, 4, dtype=torch.int64),
    "complex": torch.zeros(3, 4, dtype=torch.complex64),
    "another dtype": torch.zeros(3, 4, dtype=torch.float64),
    "another device": torch.zeros(3, 4, device="meta"),
    "an array": np.zeros((3, 4), dtype=np.float32),
    "a list": [[0.0] * 4] * 3,
    "nothing": None,
}
FUNCTIONS = {
    "reparameterize": (lapcore.reparameterize, ("mean", "logvar")),
    "gaussian_kl": (lapcore.gaussian_kl, ("mean", "logvar", "prior_mean", "prior_logvar")),
    "reparameterize_kl": (lapcore.reparameterize_kl, ("mean", "logvar", "prior_mean", "prior_logvar")),
    "gaussian_nll": (lapcore.gaussian_nll, ("x", "mean", "logvar")),
    "DiagonalGaussian": (lapcore.DiagonalGaussian, ("mean", "logvar")),
}


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("bad", BAD)
def test_bad_tensors_are_named(function: str, bad: str) -> None:
    call, names = FUNCTIONS[function]
    for name in names:
        if bad == "nothing" and name.startswith("prior"):
            continue
        arguments = {other: GOOD for other in names}
        with pytest.raises((ValueError, TypeError), match=r"mean|logvar|\bx\b"):
            call(**{**arguments, name: BAD[bad]})


@pytest.mark.parametrize("function", FUNCTIONS)
def test_scalars_have_no_rows(function: str) -> None:
    call, names = FUNCTIONS[function]
    with pytest.raises((ValueError, TypeError), match=names[0]):
        call(**dict.fromkeys(names, torch.tensor(1.0)))


@pytest.mark.parametrize("call", [lapcore.reparameterize, lapcore.reparameterize_kl])
@pytest.mark.parametrize("seeds", [1.5, "1", torch.zeros(4, dtype=torch.int64), torch.zeros(3)])
def test_bad_seeds_are_named(call: Callable[..., object], seeds: object) -> None:
    with pytest.raises((ValueError, TypeError), match="seeds"):
        call(GOOD, GOOD, seeds=seeds)
