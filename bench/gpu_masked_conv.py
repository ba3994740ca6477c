"""What bench.gpu runs of masked convolutions: goal G5, and small calls to be watched.

python -m lapcore.bench.gpu_masked_conv measure --json FILE
python -m lapcore.bench.gpu_masked_conv exercise
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

import lapcore

from .gpu_steps import Called, Listed, main
from .harness import Build, Case, Peers, Work, by_backend, times

CHANNELS = (64, 128, 256)
BATCH, SIDE = 256, 32
PLANES = {"forward": 2, "forward+backward": 5}
"""Read and written: x and y; and again x, y's gradient and x's."""
# Batch, inputs, outputs, height, width; kernel; what else the call is told.
EXERCISED: tuple[tuple[tuple[int, ...], tuple[int, int], dict[str, Any]], ...] = (
    ((2, 3, 66, 9, 7), (7, 7), {"mask": "A", "color_groups": 3}),
    ((1, 40, 140, 8, 8), (3, 3), {"mask": "B", "color_groups": 3, "gated_layout": True}),
    ((3, 64, 64, 16, 16), (3, 3), {"mask": "B", "activation": "relu"}),
    ((2, 17, 24, 5, 9), (2, 3), {"mask": "rows", "stride": 2, "activation": "gated"}),
    ((1, 1, 1, 1, 1), (1, 1), {"mask": "A"}),
    ((2, 5, 6, 3, 33), (1, 3), {"mask": "above", "condition": True}),
)
TOLERANCES = {torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 5e-2, torch.float64: 1e-12}


def case(
    found: Peers,
    channels: int,
    direction: str,
    device: str = "cuda",
    batch: int = BATCH,
    side: int = SIDE,
    dtype: torch.dtype = torch.bfloat16,
) -> Case:
    """3 x 3, mask B, as many channels out as in. cuDNN convolves with the weight times its mask, as networks do at every step, from
    images as ours get them, and from ones that lie as it likes them best."""
    backward = direction != "forward"
    x, grad = (torch.randn(batch, channels, side, side, device=device).to(dtype) for _ in range(2))
    weight, bias = (
        torch.randn(*s, device=device).to(dtype) / channels**0.5 for s in ((channels, channels, 3, 3), (channels,))
    )
    mask = lapcore.mask_of("B", 3, channels, channels, device=device).to(dtype)
    last = x.to(memory_format=torch.channels_last)
    given = [t.requires_grad_(backward) for t in (x, weight, bias)]

    def finish(y: Tensor, x: Tensor) -> object:
        return (y, *torch.autograd.grad(y, (x, *given[1:]), grad)) if backward else y

    def cudnn(x: Tensor) -> Work:
        x = x.detach().requires_grad_(backward)
        return lambda: finish(F.conv2d(x, weight * mask, bias, padding=1), x)

    peers = {"torch eager: as they are": cudnn(x), "torch eager: channels last": cudnn(last)}
    ours = by_backend(lambda: finish(lapcore.masked_conv2d(x, weight, bias, mask="B"), x), "masked_conv2d", x)
    return Case(
        "masked_conv2d",
        PLANES[direction] * x.nbytes,
        ours,
        found.only_wanted(peers),
        (times("G5", "torch eager", 1.5),),
        tolerance=3e-2,
    )


def cases(found: Peers) -> dict[str, Build]:
    return {
        f"masked_conv2d {BATCH}x{channels}x{SIDE}x{SIDE} bfloat16 {direction}": partial(
            case, found, channels, direction
        )
        for channels in CHANNELS
        for direction in PLANES
    }


def called(device: str) -> Iterator[Called]:
    """Linear, which has gradients, and, without them, with the fused activation; gates and concatenated ELUs of the result."""
    for (n, inputs, outputs, height, width), kernel, told in EXERCISED:
        for dtype, tolerance in TOLERANCES.items():
            generator = torch.Generator().manual_seed(inputs + outputs)
            call = dict(told)
            stride = call.get("stride", 1)
            shapes = [(n, inputs, height, width), (outputs, inputs, *kernel), (outputs,)]
            shapes.append((n, outputs, *((-(-s // stride) for s in (height, width)) if "condition" in call else ())))
            x, weight, bias, condition = given = [
                (torch.randint(-128, 129, shape, generator=generator) / 128).to(device, dtype).requires_grad_()
                for shape in shapes
            ]
            call["condition"] = condition
            fused = partial(lapcore.masked_conv2d, x, weight, bias, **call)
            with torch.no_grad():
                results = [fused()]
            call["gated_layout"] = call.get("gated_layout", False) or call.pop("activation", None) == "gated"
            y = lapcore.masked_conv2d(x, weight, bias, **call)
            elu = lapcore.concat_elu(y)
            gated = [lapcore.gated_activation(elu, first=first) for first in ("tanh", "identity")]
            gradients = torch.autograd.grad([r.float().sum() for r in (y, elu, *gated)], given)
            results += [r.detach() for r in (y, elu, *gated)]
            name = f"{str(dtype).removeprefix('torch.')} {told['mask']} {n}x{inputs}x{height}x{width} to {outputs}"
            yield Called(name, tolerance, results, [gradient.float() for gradient in gradients])


def listed(found: Peers, _: str) -> Listed:
    torch.backends.cudnn.benchmark = True  # cuDNN takes the fastest of its ways
    return [("masked_conv", name, build) for name, build in cases(found).items()]


if __name__ == "__main__":
    sys.exit(main("masked_conv", "masked_conv2d", called, listed))
