"""The blocks of the autoencoders: 5x5 convolutions of stride 2, batch normalisation, ReLU, and Gaussian outputs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lapcore.nn.batch_norm import BatchNorm1d, BatchNorm2d
from lapcore.nn.condition import Condition, LabelBias
from lapcore.nn.cosine import cosine_basis

Size = tuple[int, int]
Moments = tuple[Tensor, Tensor]
"""Mean and log-variance of a diagonal Gaussian."""

CODE_LOGVAR = (-14.0, 4.0)
"""Bounds of a code's log-variance, posterior or prior."""

IMAGE_LOGVAR = (-9.7, 2.0)
"""Bounds of a pixel's log-variance. The floor is a standard deviation of one 8-bit grey level, 2/255 in [-1, 1]: pixels
lie on that grid, so that a sharper density would only measure the rounding."""

INITIAL_CODE_LOGVAR = -5.0
"""Where a posterior's log-variance starts. Codes with little noise are used from the first steps on; with unit noise
the decoder first learns to ignore them, and takes long to unlearn it."""

INITIAL_IMAGE_LOGVAR = -6.0
"""Where a pixel's log-variance starts: lower than the first errors are, so that at first reconstruction outweighs the KL."""

LOGVAR_SPEED = 10.0
"""Log-variance per unit of a "channel" parameter. Adam moves every parameter by about the learning rate a step; a
log-variance has to move by ones where a weight moves by hundredths."""


def halvings(size: Size, times: int) -> list[Size]:
    """`size` and its `times` halvings, each rounded up, as stride-2 convolutions and `pyr_down` make them."""
    sizes = [size]
    for _ in range(times):
        height, width = sizes[-1]
        sizes.append(((height + 1) // 2, (width + 1) // 2))
    return sizes


def soft_clamp(x: Tensor, low: float, high: float) -> Tensor:
    """The identity well inside (low, high), flattening smoothly towards both, so that the gradient never quite dies."""
    return low + F.softplus(high - low - F.softplus(high - x))


def full_precision(x: Tensor) -> Tensor:
    """float16 and bfloat16, which autocast makes, as float32; other types as they are."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


class Down(nn.Sequential):
    """5x5 convolution of stride 2, batch norm, ReLU: (N, C, H, W) -> (N, out, ceil(H/2), ceil(W/2))."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, 5, stride=2, padding=2, bias=False),
            BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )


class Up(nn.Module):
    """5x5 transposed convolution of stride 2 to a given `size`, batch norm, ReLU; it undoes the sizes of `Down`."""

    def __init__(self, in_channels: int, out_channels: int, size: Size) -> None:
        super().__init__()
        self.size = size
        self.conv = nn.ConvTranspose2d(in_channels, out_channels, 5, stride=2, padding=2, bias=False)
        self.norm = BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x, output_size=list(self.size))), inplace=True)


class ImageLogvar(nn.Module):
    """The log-variance of a decoder's pixels, within `IMAGE_LOGVAR`.

    variance: "pixel" - predicted for each, in the second half of the channels of the decoder's output; "channel" - one
    learned number per channel; a float - that variance, fixed.
    """

    def __init__(self, channels: int, variance: str | float) -> None:
        super().__init__()
        self.channels = channels
        self.per_pixel = variance == "pixel"
        self.start = INITIAL_IMAGE_LOGVAR if isinstance(variance, str) else math.log(variance)
        self.offset = nn.Parameter(torch.zeros(channels, 1, 1)) if variance == "channel" else None

    @property
    def outputs(self) -> int:
        """Channels that the decoder's last layer has."""
        return 2 * self.channels if self.per_pixel else self.channels

    def forward(self, out: Tensor) -> Moments:
        out = full_precision(out)
        mean = out[:, : self.channels]
        if self.offset is not None:
            offset = (LOGVAR_SPEED * self.offset).expand_as(mean)
        else:
            offset = out[:, self.channels :] if self.per_pixel else torch.zeros_like(mean)
        return mean, soft_clamp(self.start + offset, *IMAGE_LOGVAR)


def code_moments(out: Tensor, start: float = INITIAL_CODE_LOGVAR) -> Moments:
    """(N, 2C, ...) -> mean and bounded log-variance, (N, C, ...) each."""
    mean, logvar = full_precision(out).chunk(2, dim=1)
    return mean, soft_clamp(logvar + start, *CODE_LOGVAR)


def cosine_codes(latent: int, channels: int, size: Size) -> Tensor:
    """(latent, channels * height * width): codes of an image by a cosine transform, of about unit variance."""
    basis, amplitude = cosine_basis(latent, channels, size)
    return basis.flatten(1) / amplitude[:, None]


def cosine_images(latent: int, channels: int, size: Size) -> Tensor:
    """(channels * height * width, latent): undoes `cosine_codes`."""
    basis, amplitude = cosine_basis(latent, channels, size)
    return (basis.flatten(1) * amplitude[:, None]).T


def linear_from(weight: Tensor) -> nn.Linear:
    """A linear layer with these weights to start from, and no bias."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    with torch.no_grad():
        layer.weight.copy_(weight)
    return layer


class VectorEncoder(nn.Module):
    """Image -> mean and log-variance of one code vector: `Down` blocks, a hidden layer with batch norm and ReLU, linear.

    linear: also a linear map from the image to the mean, beside the network, which starts as a cosine transform: the
    network has only to learn what it lacks. For small images: it has pixels x latent weights.
    """

    def __init__(
        self,
        channels: int,
        size: Size,
        widths: Sequence[int],
        hidden: int,
        latent: int,
        condition: Condition,
        *,
        linear: bool = False,
    ) -> None:
        super().__init__()
        height, width = halvings(size, len(widths))[-1]
        self.downs = nn.Sequential(*[Down(a, b) for a, b in zip([channels, *widths[:-1]], widths, strict=True)])
        self.hidden = nn.Linear(widths[-1] * height * width, hidden, bias=False)
        self.label = LabelBias(condition, hidden)
        self.norm = BatchNorm1d(hidden)
        self.moments = nn.Linear(hidden, 2 * latent)
        self.linear = linear_from(cosine_codes(latent, channels, size)) if linear else None

    def forward(self, x: Tensor, labels: Tensor | None) -> Moments:
        features = self.label(self.hidden(self.downs(x).flatten(1)), labels)
        mean, logvar = code_moments(self.moments(F.relu(self.norm(features))))
        return (mean, logvar) if self.linear is None else (mean + full_precision(self.linear(x.flatten(1))), logvar)


class VectorDecoder(nn.Module):
    """Code vector -> mean and log-variance of an image: linear to a small map, `Up` blocks, a 5x5 convolution.

    widths: channels of the map and after each `Up`. squash: end the mean in tanh. linear: as in `VectorEncoder`.
    """

    def __init__(
        self,
        channels: int,
        size: Size,
        widths: Sequence[int],
        latent: int,
        condition: Condition,
        variance: str | float,
        *,
        squash: bool = False,
        linear: bool = False,
    ) -> None:
        super().__init__()
        *larger, (height, width) = halvings(size, len(widths) - 1)
        self.shape = (channels, *size)
        self.squash = squash
        self.start = nn.Linear(latent, widths[0] * height * width, bias=False)
        self.label = LabelBias(condition, widths[0])
        self.norm = BatchNorm2d(widths[0])
        self.start_shape = (widths[0], height, width)
        steps = zip(widths[:-1], widths[1:], reversed(larger), strict=True)
        self.ups = nn.Sequential(*[Up(a, b, s) for a, b, s in steps])
        self.logvar = ImageLogvar(channels, variance)
        self.head = nn.Conv2d(widths[-1], self.logvar.outputs, 5, padding=2)
        self.linear = linear_from(cosine_images(latent, channels, size)) if linear else None

    def forward(self, z: Tensor, labels: Tensor | None) -> Moments:
        features = self.label(self.start(z).unflatten(1, self.start_shape), labels)
        mean, logvar = self.logvar(self.head(self.ups(F.relu(self.norm(features)))))
        if self.linear is not None:
            mean = mean + full_precision(self.linear(z).unflatten(1, self.shape))
        return torch.tanh(mean) if self.squash else mean, logvar
