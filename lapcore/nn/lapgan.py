"""The generators and critics of LAPGAN's finer levels: of a band, given the low-pass image that it refines."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from lapcore.nn.adversarial import CriticHead, Verdict
from lapcore.nn.blocks import Size
from lapcore.nn.condition import Condition
from lapcore.nn.dcgan import SMALLEST, Planes
from lapcore.nn.dense import DEVIATION

SMALLEST_VALID = 9
"""Below this side a 5x5 convolution and one of stride 2 leave nothing without padding."""


class BandGenerator(nn.Module):
    """The paper's: [noise plane, low-pass, label plane] -> 7x7 convolution, ReLU, 7x7, ReLU, 5x5 to the band.

    noise: (N, 1, H, W), low: (N, C, H, W), labels as the condition has them -> (N, C, H, W). The layers' unit is
    `lapcore.nn.dense.DEVIATION`. Source: Denton et al. 2015.
    """

    def __init__(self, channels: int, size: Size, width: int, condition: Condition) -> None:
        super().__init__()
        self.planes = Planes(condition, size)
        self.layers = nn.Sequential(
            nn.Conv2d(1 + channels + self.planes.extra, width, 7, padding=3),
            nn.ReLU(),
            nn.Conv2d(width, width, 7, padding=3),
            nn.ReLU(),
            nn.Conv2d(width, channels, 5, padding=2),
        )

    def forward(self, noise: Tensor, low: Tensor, labels: Tensor | None) -> Tensor:
        band: Tensor = self.layers(self.planes(labels, noise, low / DEVIATION))
        return DEVIATION * band


class BandCritic(nn.Module):
    """The paper's: band + low-pass, label plane -> 5x5 convolution, ReLU, 5x5 of stride 2, ReLU, dropout 0.5, linear.

    Convolutions are without padding, except, ours, on sides below `SMALLEST_VALID`. Shapes as in `BandGenerator`; classes: of
    AC-GAN's head. Source: Denton et al. 2015.
    """

    def __init__(self, channels: int, size: Size, width: int, condition: Condition, classes: int | None = None) -> None:
        super().__init__()
        self.planes = Planes(condition, size)
        padding = 0 if min(size) >= SMALLEST_VALID else 2
        self.layers = nn.Sequential(
            nn.Conv2d(channels + self.planes.extra, width, 5, padding=padding),
            nn.ReLU(),
            nn.Conv2d(width, width, 5, stride=2, padding=padding),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.5),
        )
        height, breadth = ((side - 4 + 2 * padding - 5 + 2 * padding) // 2 + 1 for side in size)
        self.head = CriticHead(width * height * breadth, classes)

    def forward(self, band: Tensor, low: Tensor, labels: Tensor | None) -> Verdict:
        verdict: Verdict = self.head(self.layers(self.planes(labels, (band + low) / DEVIATION)))
        return verdict


class ModernBandGenerator(nn.Module):
    """Ours: the inputs of `BandGenerator` through a small U-Net, once down to half size and back, with leaky ReLU.

    Upwards it resizes and then convolves: transposed convolutions of stride 2 print their grid on a band (Odena et al. 2016).
    It has no norms: what is drawn for an image then depends on no running statistics, and the low-pass image, whose
    brightness and contrast the band has to fit, is not normalised away. The band's mean is taken off it, as true ones have
    next to none: brightness and colour are the coarser levels' to say, and drift otherwise while the critic is young.
    """

    def __init__(self, channels: int, size: Size, width: int, condition: Condition) -> None:
        super().__init__()
        self.size = size
        self.planes = Planes(condition, size)
        self.enter = nn.Conv2d(1 + channels + self.planes.extra, width, 3, padding=1)
        self.down = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.middle = nn.Conv2d(2 * width, 2 * width, 3, padding=1)
        self.join = nn.Conv2d(3 * width, width, 3, padding=1)
        self.leave = nn.Conv2d(width, channels, 3, padding=1, bias=False)

    def forward(self, noise: Tensor, low: Tensor, labels: Tensor | None) -> Tensor:
        fine = _leaky(self.enter(self.planes(labels, noise, low)))
        coarse = _leaky(self.middle(_leaky(self.down(fine))))
        up = F.interpolate(coarse, self.size, mode="bilinear", align_corners=False)
        band: Tensor = self.leave(_leaky(self.join(torch.cat([fine, up], 1))))
        return band - band.mean((2, 3), keepdim=True)


class SpectralCritic(nn.Module):
    """Images and label plane -> `Verdict`: a 3x3 convolution, 4x4 ones of stride 2 with twice the maps each, linear.

    Leaky ReLU of slope 0.1, and every weight divided by its largest singular value. Source: Miyato et al., Spectral Normalization
    for GANs, 2018, whose critic this is but for depth.
    """

    def __init__(self, channels: int, size: Size, width: int, condition: Condition, classes: int | None = None) -> None:
        super().__init__()
        self.planes = Planes(condition, size)
        layers: list[nn.Module] = [nn.Conv2d(channels + self.planes.extra, width, 3, padding=1), nn.LeakyReLU(0.1)]
        while max(size) > SMALLEST:
            layers += [nn.Conv2d(width, 2 * width, 4, stride=2, padding=1), nn.LeakyReLU(0.1)]
            size, width = (size[0] // 2, size[1] // 2), 2 * width
        self.layers = nn.Sequential(*layers, nn.Flatten())
        self.head = CriticHead(width * size[0] * size[1], classes)
        for module in [*self.layers, *self.head.children()]:
            if hasattr(module, "weight"):
                spectral_norm(module)

    def forward(self, images: Tensor, labels: Tensor | None) -> Verdict:
        verdict: Verdict = self.head(self.layers(self.planes(labels, images)))
        return verdict


class ModernBandCritic(nn.Module):
    """Ours: a `SpectralCritic` of band + low-pass and, beside it, the low-pass to which the band has to fit.

    Spectral norm keeps the scores smooth whatever the loss, and judges each image by itself: batch norm would tell real from
    drawn by the statistics of a batch, and does not go with a gradient penalty.
    """

    def __init__(self, channels: int, size: Size, width: int, condition: Condition, classes: int | None = None) -> None:
        super().__init__()
        self.critic = SpectralCritic(2 * channels, size, width, condition, classes)

    def forward(self, band: Tensor, low: Tensor, labels: Tensor | None) -> Verdict:
        verdict: Verdict = self.critic(torch.cat([band + low, low], 1), labels)
        return verdict


def _leaky(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2)
