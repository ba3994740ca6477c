"""Masked convolutions and their activations: what is refused, and how it is said."""

from __future__ import annotations

import pytest
import torch

import lapcore
from tests.ops.masked_conv_checks import draw

BAD = [
    ("x", TypeError, lambda x, w: (x.numpy(), w), {}),
    ("x", TypeError, lambda x, w: (x.int(), w), {}),
    ("x", ValueError, lambda x, w: (x[0], w), {}),
    ("x", ValueError, lambda x, w: (x[:, :, :0], w), {}),
    ("x", ValueError, lambda x, w: (x, w), {"color_groups": 5}),
    ("weight", TypeError, lambda x, w: (x, 1.0), {}),
    ("weight", ValueError, lambda x, w: (x, w[0]), {}),
    ("weight", ValueError, lambda x, w: (x, w[:, :2]), {}),
    ("weight", ValueError, lambda x, w: (x, w[:, :, :0]), {}),
    ("weight", ValueError, lambda x, w: (x, w.double()), {}),
    ("weight", ValueError, lambda x, w: (x, w.to("meta")), {}),
    ("weight", ValueError, lambda x, w: (x, w[:5]), {"activation": "gated"}),
    ("weight", ValueError, lambda x, w: (x, w[:5]), {"gated_layout": True}),
    ("weight", ValueError, lambda x, w: (x, w[:2]), {"color_groups": 3}),
    ("weight", ValueError, lambda x, w: (x, w[:4]), {"color_groups": 3, "activation": "gated"}),
    ("bias", TypeError, lambda x, w: (x, w, [0.0] * 6), {}),
    ("bias", ValueError, lambda x, w: (x, w, torch.zeros(5)), {}),
    ("bias", ValueError, lambda x, w: (x, w, torch.zeros(6).half()), {}),
    ("condition", TypeError, lambda x, w: (x, w), {"condition": 1}),
    ("condition", ValueError, lambda x, w: (x, w), {"condition": torch.zeros(2, 5)}),
    ("condition", ValueError, lambda x, w: (x, w), {"condition": torch.zeros(2, 6, 5, 6), "stride": 2}),
    ("condition", ValueError, lambda x, w: (x, w), {"condition": torch.zeros(2, 6).double()}),
    ("mask", ValueError, lambda x, w: (x, w), {"mask": "C"}),
    ("color_groups", TypeError, lambda x, w: (x, w), {"color_groups": 1.0}),
    ("color_groups", ValueError, lambda x, w: (x, w), {"color_groups": 0}),
    ("stride", ValueError, lambda x, w: (x, w), {"stride": 3}),
    ("stride", ValueError, lambda x, w: (x, w), {"stride": True}),
    ("activation", ValueError, lambda x, w: (x, w), {"activation": "tanh"}),
    ("gated_layout", TypeError, lambda x, w: (x, w), {"gated_layout": 1}),
]


@pytest.mark.parametrize(("name", "error", "change", "call"), BAD)
def test_refusals(name: str, error: type[Exception], change, call: dict[str, object]) -> None:
    with pytest.raises(error, match=f"^{name}: expected"):
        lapcore.masked_conv2d(*change(draw(2, 4, 5, 6), draw(6, 4, 3, 3)), **{"mask": "B", **call})


@pytest.mark.parametrize(
    ("error", "call"),
    [
        (TypeError, lambda: lapcore.concat_elu([1.0])),
        (TypeError, lambda: lapcore.concat_elu(torch.ones(2, 2, dtype=torch.int32))),
        (ValueError, lambda: lapcore.concat_elu(torch.ones(2))),
        (TypeError, lambda: lapcore.gated_activation(torch.ones(2, 2, dtype=torch.bool))),
        (ValueError, lambda: lapcore.gated_activation(torch.ones(4))),
        (ValueError, lambda: lapcore.gated_activation(torch.ones(2, 3))),
    ],
)
def test_refusals_of_activations(error: type[Exception], call) -> None:
    with pytest.raises(error, match=r"^x: expected"):
        call()
    with pytest.raises(ValueError, match=r"^first: expected"):
        lapcore.gated_activation(torch.ones(2, 2), first="relu")


@pytest.mark.parametrize(
    ("name", "error", "arguments", "gated"),
    [
        ("mask", ValueError, ("a", 3, 3, 3), False),
        ("kernel_size", ValueError, ("A", 0, 3, 3), False),
        ("kernel_size", ValueError, ("A", (3,), 3, 3), False),
        ("kernel_size", TypeError, ("A", (3, 1.5), 3, 3), False),
        ("in_channels", ValueError, ("A", 3, 2, 3, 3), False),
        ("out_channels", ValueError, ("A", 3, 3, 2, 3), False),
        ("out_channels", ValueError, ("A", 3, 3, 5), True),
        ("out_channels", ValueError, ("A", 3, 3, 4, 3), True),
        ("color_groups", ValueError, ("A", 3, 3, 3, 0), False),
    ],
)
def test_refusals_of_masks(name: str, error: type[Exception], arguments: tuple[object, ...], gated: bool) -> None:
    with pytest.raises(error, match=f"^{name}: expected"):
        lapcore.mask_of(*arguments, gated_layout=gated)


def test_forward_mode_is_refused() -> None:
    with pytest.raises(RuntimeError, match="forward-mode"):
        torch.func.jvp(lapcore.concat_elu, (torch.ones(2, 2),), (torch.ones(2, 2),))
