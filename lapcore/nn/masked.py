"""The layers of the PixelCNN family: masked convolutions, gates, and the small modules between them.

Networks made of these, of nn.PixelShuffle(2), and of torch.relu, + and torch.cat can be sampled pixel by pixel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lapcore.ops.masked_conv import check_mask, concat_elu, gated_activation, kernel_sides, mask_of, masked_conv2d
from lapcore.ops.pixelcnn_sampler import level_indices
from lapcore.reference.masked_conv import centre_channels, whole_taps


class MaskedConv2d(nn.Module):
    """`lapcore.masked_conv2d` as a layer, with a weight `(out, in, kh, kw)` and a bias `(out,)` as nn.Conv2d has them.

    State dicts interchange with those of nn.Conv2d and of layers that mask one. The weight is never modified: what it holds at dead
    taps has no effect, and gets gradient 0.

    Args:
        in_channels, out_channels: C and O.
        kernel_size: an int or (kh, kw), odd or even.
        mask: "A", "B", "rows" or "above", see `lapcore.mask_of`.
        color_groups: in how many colours the channels are divided.
        bias: whether there is one.
        stride: 1 or 2.
        activation: "none", "relu", or "gated", which halves the channels.
        gated_layout: whether the output's two halves are each divided into the colours; "gated" implies it.

    Start: uniform in [-b, b], b = 1 / sqrt(live inputs of an output, on average): nn.Conv2d's rule, dead taps not counted.
    Under autocast it runs in autocast's dtype, as nn.Conv2d does.
    Errors: TypeError, ValueError naming the argument.
    """

    bias: Tensor | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        *,
        mask: str,
        color_groups: int = 1,
        bias: bool = True,
        stride: int = 1,
        activation: str = "none",
        gated_layout: bool = False,
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size = kernel_sides(kernel_size)
        self.mask, self.color_groups, self.stride = mask, color_groups, stride
        self.activation, self.gated_layout = activation, gated_layout or activation == "gated"
        check_mask(mask, in_channels, out_channels, color_groups, self.gated_layout)
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, *self.kernel_size))
        self.register_parameter("bias", nn.Parameter(torch.empty(out_channels)) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        live: float = self.in_channels * whole_taps(self.mask, self.kernel_size)
        if self.mask in ("A", "B"):
            channels = centre_channels(
                self.mask, self.in_channels, self.out_channels, self.color_groups, self.gated_layout
            )
            live += sum(channels) / self.out_channels
        bound = 1 / math.sqrt(max(live, 1))
        for parameter in self.parameters(recurse=False):
            nn.init.uniform_(parameter, -bound, bound)

    def effective_weight(self) -> Tensor:
        """What the convolution is made with; subclasses may derive it from other parameters."""
        return self.weight

    def live(self) -> Tensor:
        """`lapcore.mask_of` this layer, on its weight's device."""
        return mask_of(
            self.mask,
            self.kernel_size,
            self.in_channels,
            self.out_channels,
            self.color_groups,
            gated_layout=self.gated_layout,
            device=self.weight.device,
        )

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """x `(N, C, H, W)`; condition `(N, O)` or `(N, O, H', W')`, added before the activation."""
        x, weight, bias, condition = _autocast(x, self.effective_weight(), self.bias, condition)
        return masked_conv2d(
            x,
            weight,
            bias,
            mask=self.mask,
            color_groups=self.color_groups,
            condition=condition,
            stride=self.stride,
            activation=self.activation,
            gated_layout=self.gated_layout,
        )

    @torch.no_grad()
    def to_conv2d(self) -> nn.Conv2d:
        """A plain nn.Conv2d with the same outputs before the activation: a copy of the weight, 0 at dead taps, and of the bias.

        An even side of the kernel becomes odd by a last row or column of zeros, for torch pads both sides alike.
        """
        (height, width), weight = self.kernel_size, self.effective_weight()
        odd = height + (height % 2 == 0), width + (width % 2 == 0)
        plain = nn.Conv2d(
            self.in_channels,
            self.out_channels,
            odd,
            self.stride,
            padding=(height // 2, width // 2),
            bias=self.bias is not None,
            device=weight.device,
            dtype=weight.dtype,
        )
        plain.weight.copy_(F.pad(torch.where(self.live(), weight, 0), (0, odd[1] - width, 0, odd[0] - height)))
        if self.bias is not None and plain.bias is not None:
            plain.bias.copy_(self.bias)
        return plain

    def extra_repr(self) -> str:
        words = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, mask={self.mask!r}"
        for name, value, usual in (
            ("color_groups", self.color_groups, 1),
            ("stride", self.stride, 1),
            ("activation", self.activation, "none"),
            ("gated_layout", self.gated_layout, self.activation == "gated"),
            ("bias", self.bias is not None, True),
        ):
            words += "" if value == usual else f", {name}={value!r}"
        return words


def pointwise(in_channels: int, out_channels: int, color_groups: int) -> MaskedConv2d:
    """A 1x1 convolution of mask B: every colour sees itself and those before it."""
    return MaskedConv2d(in_channels, out_channels, 1, mask="B", color_groups=color_groups)


def _autocast(x: Tensor, *others: Tensor | None) -> Sequence[Any]:
    """In the dtype that autocast, if on, gives to convolutions; as there, float64 stays."""
    tensors = x, *others
    if x.is_meta or not torch.is_autocast_enabled(x.device.type):
        return tensors
    dtype = torch.get_autocast_dtype(x.device.type)
    return [t if t is None or t.dtype == torch.float64 else t.to(dtype) for t in tensors]


class GatedActivation(nn.Module):
    """`lapcore.gated_activation`: `(N, 2 C, ...)` -> `(N, C, ...)`; first: "tanh" or "identity"."""

    def __init__(self, first: str = "tanh") -> None:
        super().__init__()
        self.first = first

    def forward(self, x: Tensor) -> Tensor:
        return gated_activation(x, first=self.first)

    def extra_repr(self) -> str:
        return f"first={self.first!r}"


class ConcatELU(nn.Module):
    """`lapcore.concat_elu`: `(N, C, ...)` -> `(N, 2 C, ...)`."""

    def forward(self, x: Tensor) -> Tensor:
        return concat_elu(x)


class Ones(nn.Module):
    """One more channel, of ones, at the end: `(N, C, H, W)` -> `(N, C + 1, H, W)`. A convolution so knows the image's border."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, torch.ones_like(x[:, :1])], 1)


class Embed(nn.Module):
    """A vector for every level of every channel: images `(N, C, H, W)` in [-1, 1] -> `(N, C * dim, H, W)`.

    The value x is level round((x + 1) / 2 (levels - 1)), at least 0 and at most levels - 1, and 0 for NaN; channel c * dim + e of
    the result is `weight[c, level of channel c, e]`, so that it stays in the colour group of its channel. Start: standard normal.
    """

    def __init__(self, channels: int, levels: int, dim: int) -> None:
        super().__init__()
        self.channels, self.levels, self.dim = channels, levels, dim
        self.weight = nn.Parameter(torch.empty(channels, levels, dim))
        nn.init.normal_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        rows = level_indices(x, self.levels) + self.levels * torch.arange(self.channels, device=x.device)[:, None, None]
        return F.embedding(rows, self.weight.flatten(0, 1)).movedim(-1, 2).flatten(1, 2)

    def extra_repr(self) -> str:
        return f"{self.channels}, {self.levels}, {self.dim}"


class GatedMaskedConv2d(nn.Module):
    """One layer of the gated PixelCNN: a vertical and a horizontal stack, which together have no blind spot.

        v' = gate(K v + a),   h' = h + R gate(k h + P K v + b),   skip = S gate(k h + P K v + b)

    where gate is tanh of the first half of the channels times sigmoid of the second; K is a kernel (k, k) of whole rows up to and
    with the pixel's own, P is 1x1, k is (1, k) with mask B, R and S are 1x1 with mask B; a and b are conditions. The first layer
    reads the image: K is of the rows strictly above ("above"), k has mask A, and there is no h to add. So v at a pixel knows the
    rows strictly above from the first layer on, and is never shifted later: equal to the paper's layer but for the top border.

    Args:
        in_channels: of v and h; of the image for the first layer.
        channels: p, of the outputs; for layers after the first in_channels = channels.
        kernel_size: k, odd.
        first: whether this is the first layer.
        color_groups: in how many colours the horizontal stack is divided; the vertical one sees all of the rows above.

    forward(v, h, vertical_condition=None, horizontal_condition=None) -> (v', h', skip), each `(N, p, H, W)`; conditions a and b
    `(N, 2 p)` or `(N, 2 p, H, W)`. The first layer takes the image twice.

    Source: van den Oord et al., Conditional Image Generation with PixelCNN Decoders, 2016, figure 2 and equation 4.
    """

    def __init__(
        self, in_channels: int, channels: int, kernel_size: int, *, first: bool = False, color_groups: int = 1
    ) -> None:
        super().__init__()
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size: expected an odd number, got {kernel_size}")
        if not first and in_channels != channels:
            raise ValueError(
                f"in_channels: expected {channels}, the channels, after the first layer, got {in_channels}"
            )
        self.first = first
        self.vertical = MaskedConv2d(in_channels, 2 * channels, kernel_size, mask="above" if first else "rows")
        self.down = MaskedConv2d(2 * channels, 2 * channels, 1, mask="rows")
        self.horizontal = MaskedConv2d(
            in_channels,
            2 * channels,
            (1, kernel_size),
            mask="A" if first else "B",
            color_groups=color_groups,
            gated_layout=True,
        )
        self.gate = GatedActivation()
        self.residual = MaskedConv2d(channels, channels, 1, mask="B", color_groups=color_groups)
        self.skip = MaskedConv2d(channels, channels, 1, mask="B", color_groups=color_groups)

    def forward(
        self,
        v: Tensor,
        h: Tensor,
        vertical_condition: Tensor | None = None,
        horizontal_condition: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        above = self.vertical(v, vertical_condition)
        gated = self.gate(self.horizontal(h, horizontal_condition) + self.down(above))
        residual = self.residual(gated)
        return self.gate(above), residual if self.first else h + residual, self.skip(gated)
