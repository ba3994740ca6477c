"""Random calls of the native kernels of masked convolutions, their activations and sampling: see tests/native/fuzz.py."""

from __future__ import annotations

import torch
from torch import nn

import lapcore
from lapcore.nn import ConcatELU, GatedActivation, MaskedConv2d, Ones
from lapcore.nn.tracing import program_of
from lapcore.ops.pixelcnn_sampler import Categorical, Mixture
from tests.autoregressive import naive
from tests.native.fuzz import FLOATS, Draw, Kind, main
from tests.ops.masked_conv_checks import ACTIVATIONS, MASKS, check, check_activation, check_gradients
from tests.oracle import pixelcnn_sampler as sampler_oracle
from tests.tolerance import ACCUMULATOR, assert_same_bits, to_numpy

Tensor = torch.Tensor


def size_of(draw: Draw, limit: int = 40) -> tuple[int, int]:
    return draw.choice(
        [(1, draw.randint(1, limit)), (draw.randint(1, limit), 1), (draw.randint(1, 9), draw.randint(1, 9))]
    )


def masked_conv(draw: Draw, checked: bool) -> None:
    """The call as a whole, and the gradients of its linear part."""
    groups, gated = draw.choice([1, 1, 2, 3]), draw.random() < 0.4
    inputs, outputs = (groups + draw.choice([draw.randint(0, 6), draw.randint(0, 40)]) for _ in range(2))
    outputs *= 1 + gated
    kernel = draw.choice([(1, 1), (3, 3), (draw.randint(1, 7), draw.randint(1, 7))])
    if checked and inputs * outputs * kernel[0] * kernel[1] > 4000:  # the oracle goes from weight to weight
        inputs, outputs = groups, groups * (1 + gated)
    n, size, dtype = draw.choice([0, 1, 2, 3, 30]), size_of(draw), draw.choice(FLOATS)
    x, weight = draw.memory((n, inputs, *size), dtype), draw.memory((outputs, inputs, *kernel), dtype)
    stride, mask = draw.choice([1, 1, 2]), draw.choice(MASKS)
    maps = (n, outputs, *(-(-side // stride) for side in size))
    bias, vectors, places = (draw.memory(shape, dtype) for shape in ((outputs,), (n, outputs), maps))
    activation = draw.choice(["none", "relu", *["gated"] * gated])
    call = {"mask": mask, "color_groups": groups, "stride": stride, "gated_layout": gated}
    epilogue = {"activation": activation, "condition": draw.choice([None, vectors, places])}
    bias = draw.choice([None, bias])
    if checked:
        check(x, weight, bias, **call, **epilogue)
        check_gradients(x, weight, mask, groups, gated, stride)
    else:
        leaves = [t.detach().requires_grad_() for t in (x, weight)]
        y = lapcore.masked_conv2d(*leaves, bias, **call, **epilogue)
        torch.autograd.grad(y, leaves, draw.memory(y.shape, dtype))
        lapcore.masked_conv2d(x, weight, bias, **call, **epilogue)


def activation(draw: Draw, checked: bool) -> None:
    """Of rows shorter and longer than a tile of 1152 and a chunk of 16 of them."""
    name, dtype = draw.choice(list(ACTIVATIONS)), draw.choice(FLOATS)
    length = draw.choice([draw.randint(1, 70), draw.randint(1, 1300), draw.randint(9000, 20000)])
    rows, channels = draw.choice([0, 1, 2, 17, 400]) if length < 70 else 2, draw.choice([1, 1, 2, 3])
    outputs = channels * (4 if name == "elu" else 1)
    x, grad = draw.rows((rows, 2 * channels, length), dtype), draw.rows((rows, outputs, length), dtype)
    if checked:
        check_activation(name, x, grad)
    else:
        leaf = x.detach().requires_grad_()
        torch.autograd.grad(ACTIVATIONS[name][0](leaf), leaf, grad)


def categorical(draw: Draw, checked: bool) -> None:
    dtype, rows = draw.choice(FLOATS), draw.choice([0, 1, 3, draw.randint(1, 70)])
    levels = draw.choice([1, 2, draw.randint(1, 40), 256, draw.randint(1, 300)])
    logits = draw.memory((rows, levels), dtype)
    u = lapcore.random.uniform((rows,), draw.randint(0, 2**62), dtype=draw.choice([torch.float32, torch.float64]))
    drawn = lapcore.categorical(logits, u)
    assert ((drawn >= 0) & (drawn < levels)).all()
    if checked and rows:
        excess = sampler_oracle.distance(to_numpy(logits), to_numpy(u), to_numpy(drawn))
        assert excess.max() <= (levels + 8) * torch.finfo(ACCUMULATOR[dtype]).eps / 2


class Network(nn.Module):
    """Two streams of random layers, the one a row ahead where there are no colour groups, and a head of `outputs` maps."""

    def __init__(self, draw: Draw, channels: int, groups: int, outputs: int) -> None:
        super().__init__()
        hidden, self.alone = groups * draw.choice([1, 2, 5, 9]), groups > 1
        of = {"mask": "B", "color_groups": groups}
        kernel = lambda: (draw.randint(1, 5), draw.choice([1, 3, 5]))  # noqa: E731
        self.ones = nn.Identity() if self.alone else Ones()
        into = channels + (not self.alone)
        self.first = MaskedConv2d(
            into, hidden, kernel(), mask="A", color_groups=groups, activation=draw.choice(["none", "relu"])
        )
        self.above = MaskedConv2d(into, hidden, kernel(), mask="above")
        self.across = MaskedConv2d(hidden, 2 * hidden, 1, mask="rows")
        self.gate = MaskedConv2d(hidden, 2 * hidden, kernel(), activation="gated", bias=draw.random() < 0.5, **of)
        self.elu, self.activation = ConcatELU(), GatedActivation("identity")
        self.inner = MaskedConv2d(hidden * (1 if self.alone else 2), hidden, kernel(), **of)
        self.head = MaskedConv2d(hidden, outputs, 1, **of)
        for parameter in self.parameters():
            parameter.data = 3 * torch.randn(parameter.shape, generator=draw.generator) / parameter[0].numel() ** 0.5

    def forward(self, image: Tensor, *conditions: Tensor) -> Tensor:
        x = self.ones(image)
        h = self.first(x)
        h = h + self.gate(h, *conditions)
        if self.alone:
            return self.head(torch.relu(h + self.inner(h)))
        return self.head(h + self.inner(self.elu(h)) + self.activation(self.across(self.above(x))))


def program(draw: Draw, checked: bool) -> None:
    """A network, drawn from pixel by pixel; compared with running it for every pixel."""
    channels = draw.choice([1, 3])
    mixtures = draw.random() < 0.3
    groups = channels if not mixtures and draw.random() < 0.5 else 1
    levels, components = draw.choice([2, 3, 17]), draw.randint(1, 4)
    outputs = components * (10 if channels == 3 else 3) if mixtures else channels * levels
    network = Network(draw, channels, groups, outputs)
    size = (draw.randint(1, 5), draw.randint(1, 5)) if checked else size_of(draw, 12)
    width = 2 * network.inner.out_channels
    conditions = draw.choice([[], [(width,)], [(width, *size)]])
    head = Mixture if mixtures else lambda src: Categorical(src, levels)
    made = program_of(network, size, channels, head, color_groups=groups, conditions=conditions)
    n = draw.choice([1, 2, 5]) if checked else draw.choice([1, 5, 13, 40])
    seeds = torch.tensor([draw.randint(-(2**63), 2**63 - 1) for _ in range(n)])
    added = [draw.memory((n, *shape), torch.float32) for shape in conditions]
    given = {}
    if draw.random() < 0.4:
        known = torch.rand(n, 1, *size, generator=draw.generator) < 0.5
        given = {"given": draw.memory((n, channels, *size), torch.float32), "known": known}
    drawn = lapcore.sample_program(made, seeds, added, **given)
    if checked:
        assert_same_bits(drawn, naive(network, made, seeds, *added, **given))


def kinds() -> list[Kind]:
    return [masked_conv, masked_conv, masked_conv, activation, categorical, program]


if __name__ == "__main__":
    with lapcore.backend("cpu"):
        main(kinds)
