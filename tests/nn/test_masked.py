"""The layers of the PixelCNN family: their weights, what they see and what they do not, and the small modules."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import lapcore
from lapcore.nn import ConcatELU, Embed, GatedActivation, GatedMaskedConv2d, MaskedConv2d, Ones
from tests.oracle import masked_conv as oracle
from tests.tolerance import assert_close, assert_same_bits, to_numpy

Tensor = torch.Tensor

LAYERS = {
    "7x7 A": MaskedConv2d(3, 8, 7, mask="A", color_groups=3),
    "3x3 B": MaskedConv2d(7, 8, 3, mask="B", color_groups=3),
    "1x1 B": MaskedConv2d(4, 6, 1, mask="B", color_groups=2, bias=False),
    "2x3 A": MaskedConv2d(1, 4, (2, 3), mask="A"),
    "2x2 B": MaskedConv2d(4, 4, 2, mask="B", stride=2),
    "3x4 rows": MaskedConv2d(2, 4, (3, 4), mask="rows", stride=2),
    "3x3 above": MaskedConv2d(2, 4, 3, mask="above"),
    "1x3 B, gated layout": MaskedConv2d(3, 8, (1, 3), mask="B", color_groups=3, gated_layout=True),
}
layers = pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS.keys())


class Plain(nn.Conv2d):
    """A masked convolution as it is usually written."""

    def __init__(self, mask: str, *arguments: object, **keywords: object) -> None:
        super().__init__(*arguments, **keywords)
        o, c, height, width = self.weight.shape
        live = oracle.mask_of(mask, (height, width), c, o)
        self.register_buffer("live", torch.from_numpy(live).float(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        self.weight.data *= self.live
        return super().forward(x)


def image(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# MaskedConv2d --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mask", ["A", "B"])
@pytest.mark.parametrize("kernel", [3, 7])
def test_state_dicts_interchange_with_a_plain_masked_convolution(mask: str, kernel: int) -> None:
    ours = MaskedConv2d(4, 6, kernel, mask=mask)
    plain = Plain(mask, 4, 6, kernel, padding=kernel // 2)
    x = image(2, 4, 5, 6)
    assert list(ours.state_dict()) == list(nn.Conv2d(4, 6, kernel).state_dict())
    assert not torch.allclose(ours(x), plain(x), atol=0.01)
    ours.load_state_dict(plain.state_dict(), strict=True)
    torch.testing.assert_close(ours(x), plain(x))
    other = MaskedConv2d(4, 6, kernel, mask=mask)
    plain.load_state_dict(other.state_dict(), strict=True)
    torch.testing.assert_close(plain(x), other(x))


@layers
def test_to_conv2d(layer: MaskedConv2d) -> None:
    plain = layer.to_conv2d()
    assert type(plain) is nn.Conv2d
    for size in ((5, 6), (4, 7), (1, 1)):
        x = image(2, layer.in_channels, *size)
        torch.testing.assert_close(plain(x), layer(x))
    height, width = layer.kernel_size
    kept = to_numpy(plain.weight)[:, :, :height, :width]
    assert np.array_equal(kept != 0, layer.live().numpy())
    assert np.count_nonzero(to_numpy(plain.weight)) == int(layer.live().sum())
    assert plain.weight.data_ptr() != layer.weight.data_ptr() and plain.weight.requires_grad


@layers
def test_live_is_the_mask(layer: MaskedConv2d) -> None:
    want = oracle.mask_of(
        layer.mask, layer.kernel_size, layer.in_channels, layer.out_channels, layer.color_groups, layer.gated_layout
    )
    assert np.array_equal(layer.live().numpy(), want)


@layers
def test_the_weight_stays_as_it_is(layer: MaskedConv2d) -> None:
    before, x = layer.weight.detach().clone(), image(1, layer.in_channels, 4, 5)
    layer(x).sum().backward()
    assert_same_bits(layer.weight.detach(), before)
    assert layer.weight.grad is not None and not layer.weight.grad[~layer.live()].any()
    with torch.no_grad():
        want = layer(x)
        layer.weight[~layer.live()] = torch.nan
        assert_same_bits(layer(x), want)
        layer.weight.copy_(before)


def test_what_it_starts_with() -> None:
    """Of a 7x7 kernel of mask B 25 taps are live."""
    bound = (1 / (16 * 25)) ** 0.5
    layer = MaskedConv2d(16, 32, 7, mask="B")
    assert 0.95 * bound < layer.weight.abs().max() <= bound
    assert abs(layer.weight.std() / (bound / 3**0.5) - 1) < 0.02
    assert layer.bias is not None and 0.8 * bound < layer.bias.abs().max() <= bound
    torch.manual_seed(7)
    first = MaskedConv2d(2, 4, 3, mask="A")
    torch.manual_seed(7)
    assert_same_bits(MaskedConv2d(2, 4, 3, mask="A").weight, first.weight)
    assert MaskedConv2d(2, 4, 1, mask="A").weight.abs().max() <= 1, "no tap is live"


def test_condition_stride_and_activation_reach_the_op() -> None:
    layer = MaskedConv2d(3, 8, 3, mask="B", color_groups=3, stride=2, activation="gated")
    x, condition = image(2, 3, 5, 4), image(2, 8, seed=1)
    arrays = [to_numpy(t) for t in (x, layer.weight, layer.bias, condition)]
    want = oracle.masked_conv2d(
        *arrays[:3], mask="B", color_groups=3, condition=arrays[3], stride=2, activation="gated"
    )
    assert_close(layer(x, condition), want, 1e-5)
    for name in ("kernel_size=(3, 3)", "mask='B'", "color_groups=3", "stride=2", "activation='gated'"):
        assert name in repr(layer)
    assert "bias" not in repr(layer) and "gated_layout" not in repr(layer)


def test_autocast_and_halves() -> None:
    layer, x = MaskedConv2d(3, 6, 3, mask="A"), image(2, 3, 5, 6).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x, image(2, 6, seed=1))
    assert y.dtype == torch.bfloat16
    y.float().square().sum().backward()
    assert layer.weight.grad is not None and layer.weight.grad.dtype == x.grad.dtype == torch.float32
    want = layer.bfloat16()(x.detach().bfloat16(), image(2, 6, seed=1).bfloat16())
    assert_same_bits(y.detach(), want.detach())
    with torch.autocast("cpu", torch.bfloat16):
        assert layer.double()(x.detach().double()).dtype == torch.float64


def test_autocast_leaves_the_sums_alone() -> None:
    x, weight = image(2, 8, 5, 6), image(8, 8, 3, 3, seed=1)
    want = lapcore.masked_conv2d(x, weight, mask="B")
    with torch.autocast("cpu", torch.bfloat16):
        assert_same_bits(lapcore.masked_conv2d(x, weight, mask="B"), want)


def test_a_subclass_makes_its_own_weight() -> None:
    class Doubled(MaskedConv2d):
        def effective_weight(self) -> Tensor:
            return 2 * self.weight

    layer, x = Doubled(2, 4, 3, mask="B", bias=False), image(1, 2, 4, 4)
    want = lapcore.masked_conv2d(x, 2 * layer.weight, mask="B")
    assert_same_bits(layer(x).detach(), want.detach())
    torch.testing.assert_close(layer.to_conv2d()(x), want)


def test_layers_are_made_without_memory() -> None:
    with torch.device("meta"):
        layer = GatedMaskedConv2d(6, 6, 3, color_groups=3)
    assert all(parameter.is_meta for parameter in layer.parameters())
    v, h, skip = layer(*(torch.zeros(2, 6, 4, 5, device="meta") for _ in range(2)))
    assert v.shape == h.shape == skip.shape == (2, 6, 4, 5) and skip.is_meta


def test_a_shape_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^weight: expected shape \(O, 2, kh, kw\)"):
        MaskedConv2d(3, 4, 3, mask="A")(image(1, 2, 4, 4))
    with pytest.raises(ValueError, match=r"^mask: expected"):
        MaskedConv2d(3, 4, 3, mask="C")
    with pytest.raises(ValueError, match=r"^out_channels: expected an int of at least 6, got 4"):
        MaskedConv2d(3, 4, 3, mask="A", color_groups=3, activation="gated")
    with pytest.raises(ValueError, match=r"^kernel_size: expected an odd number"):
        GatedMaskedConv2d(3, 4, 2)
    with pytest.raises(ValueError, match=r"^in_channels: expected 4"):
        GatedMaskedConv2d(3, 4, 3)


# What networks see ---------------------------------------------------------------------------------------------------------------

SIZE = 5


def dependence(network: nn.Module, channels: int) -> np.ndarray:
    """(O, i, j, C, k, l): whether output channel o at (i, j) changes with input channel c at (k, l), at a random image."""
    x = image(1, channels, SIZE, SIZE).double()
    shape = network.double()(x).shape[1:]
    copies = x.expand(shape.numel(), -1, -1, -1).clone().requires_grad_()
    (jacobian,) = torch.autograd.grad(network(copies), copies, torch.eye(len(copies)).double().view(-1, *shape))
    return to_numpy(jacobian).reshape(*shape, channels, SIZE, SIZE) != 0


def expected(rule, outputs: int, channels: int) -> np.ndarray:
    """rule(o, c, down, right): whether it may, (down, right) being the input's place as seen from the output."""
    found = np.zeros((outputs, SIZE, SIZE, channels, SIZE, SIZE), dtype=bool)
    for o, i, j, c, row, column in np.ndindex(found.shape):
        found[o, i, j, c, row, column] = rule(o, c, row - i, column - j)
    return found


class Gated(nn.Module):
    """As many layers as it takes to reach from corner to corner."""

    def __init__(self, channels: int, width: int, groups: int, output: int) -> None:
        super().__init__()
        first = GatedMaskedConv2d(channels, width, 3, first=True, color_groups=groups)
        later = (GatedMaskedConv2d(width, width, 3, color_groups=groups) for _ in range(SIZE - 1))
        self.layers, self.output = nn.ModuleList([first, *later]), output

    def forward(self, x: Tensor) -> Tensor:
        v = h = x
        for layer in self.layers:
            v, h, skip = layer(v, h)
        return (v, h, skip)[self.output]


@pytest.mark.parametrize("output", [1, 2], ids=["h", "skip"])
def test_gated_layers_have_no_blind_spot(output: int) -> None:
    """Each pixel knows all that come before it in raster order, and no other."""
    want = expected(lambda o, c, down, right: down < 0 or (down == 0 and right < 0), 2, 1)
    assert np.array_equal(dependence(Gated(1, 2, 1, output), 1), want)


def test_the_vertical_stack_sees_the_rows_above() -> None:
    want = expected(lambda o, c, down, right: down < 0, 2, 3)
    assert np.array_equal(dependence(Gated(3, 2, 1, 0), 3), want)


def test_gated_layers_with_colours() -> None:
    """Six channels of three colours: of its own pixel, a colour knows those before it."""
    want = expected(
        lambda o, c, down, right: down < 0 or (down == 0 and (right < 0 or (right == 0 and c < o // 2))), 6, 3
    )
    assert np.array_equal(dependence(Gated(3, 6, 3, 1), 3), want)


def test_plain_layers_have_the_known_blind_spot() -> None:
    """To the right, a 3x3 kernel climbs one row for each column: what lies further right than it is above stays unseen."""
    first = MaskedConv2d(1, 2, 3, mask="A")
    network = nn.Sequential(first, *(MaskedConv2d(2, 2, 3, mask="B") for _ in range(2 * SIZE)))
    want = expected(lambda o, c, down, right: (down < 0 and right <= -down) or (down == 0 and right < 0), 2, 1)
    got = dependence(network, 1)
    assert np.array_equal(got, want)
    assert not got[0, 2, 1, 0, 1, 3] and got[0, 2, 1, 0, 0, 3], "two right and one up, and two right and two up"


@pytest.mark.parametrize("activation", ["none", "relu", "gated"])
def test_a_stack_with_colours_keeps_their_order(activation: str) -> None:
    """Masks A, then B: red's logits see no colour of their pixel, green's red, blue's red and green. 9x9 reaches it all."""
    wide = MaskedConv2d(3, 6, 9, mask="A", color_groups=3)
    then = MaskedConv2d(6, 12, 1, mask="B", color_groups=3, activation=activation)
    last = MaskedConv2d(12 if activation != "gated" else 6, 6, 1, mask="B", color_groups=3)
    got = dependence(nn.Sequential(wide, then, last), 3)
    want = expected(
        lambda o, c, down, right: down < 0 or (down == 0 and (right < 0 or (right == 0 and c < o // 2))), 6, 3
    )
    assert not (got & ~want).any()
    if activation != "relu":
        assert np.array_equal(got, want)


def test_gated_layer_is_its_formula() -> None:
    layer = GatedMaskedConv2d(4, 4, 3).double()
    v, h, a, b = (image(2, channels, 5, 6, seed=channels + i).double() for i, channels in enumerate((4, 4, 8, 8)))

    def conv(part: MaskedConv2d, x: Tensor) -> Tensor:
        return part.to_conv2d()(x)

    def gate(x: Tensor) -> Tensor:
        return torch.tanh(x[:, :4]) * torch.sigmoid(x[:, 4:])

    above = conv(layer.vertical, v) + a
    gated = gate(conv(layer.horizontal, h) + b + conv(layer.down, above))
    want = gate(above), h + conv(layer.residual, gated), conv(layer.skip, gated)
    for got, exact in zip(layer(v, h, a, b), want, strict=True):
        torch.testing.assert_close(got, exact)
    vectors = a[:, :, 0, 0], b[:, :, 0, 0]
    maps = [vector[:, :, None, None].expand(2, 8, 5, 6) for vector in vectors]
    for got, exact in zip(layer(v, h, *vectors), layer(v, h, *maps), strict=True):
        assert_same_bits(got.detach(), exact.detach())


# Small modules -------------------------------------------------------------------------------------------------------------------


def test_small_modules_are_their_functions() -> None:
    x = image(2, 6, 3, 4)
    assert_same_bits(GatedActivation()(x), lapcore.gated_activation(x))
    assert_same_bits(GatedActivation("identity")(x), lapcore.gated_activation(x, first="identity"))
    assert_same_bits(ConcatELU()(x), lapcore.concat_elu(x))
    assert_same_bits(Ones()(x), F.pad(x, (0, 0, 0, 0, 0, 1), value=1))
    assert "identity" in repr(GatedActivation("identity"))


def test_ones_marks_the_border() -> None:
    """Of a blank image, a kernel over the channel of ones counts the live taps inside."""
    layer = MaskedConv2d(2, 1, 3, mask="B", bias=False)
    nn.init.ones_(layer.weight)
    counts = layer(Ones()(torch.zeros(1, 1, 3, 3)))
    assert counts[0, 0].tolist() == [[1, 2, 2], [3, 5, 4], [3, 5, 4]]


@pytest.mark.parametrize("levels", [2, 17, 256, 512])
def test_embed_looks_up_every_level(levels: int) -> None:
    layer = Embed(3, levels, 4)
    index = torch.stack([torch.randperm(levels) for _ in range(6)]).view(2, 3, levels, 1)
    x = 2 * index / (levels - 1) - 1
    want = torch.stack([layer.weight[c, index[:, c]] for c in range(3)], 1)
    assert_same_bits(layer(x), want.movedim(-1, 2).flatten(1, 2))
    layer(x).sum().backward()
    assert torch.equal(layer.weight.grad, torch.full_like(layer.weight, 2))


def test_networks_compile_in_one_graph() -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = GatedMaskedConv2d(1, 4, 3, first=True)
            self.last = nn.Sequential(ConcatELU(), Ones(), MaskedConv2d(9, 2, 1, mask="B", activation="relu"))

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.first(x, x)[2])

    torch.compiler.reset()
    network, x = Network(), image(2, 1, 4, 5)
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
    for inputs in (x, x.clone().requires_grad_()):
        assert_same_bits(compiled(inputs).detach(), network(inputs).detach())
