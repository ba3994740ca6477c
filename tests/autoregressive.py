"""Small autoregressive networks, and the slow definition of drawing from them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import lapcore
from lapcore.nn import ConcatELU, Embed, GatedActivation, GatedMaskedConv2d, MaskedConv2d, Ones
from lapcore.nn.tracing import program_of
from lapcore.ops.pixelcnn_sampler import Categorical, Mixture, Program, level_values


class Residual(nn.Module):
    """PixelCNN's: 7x7 A, residual blocks with a condition, a head."""

    def __init__(self, channels: int, hidden: int, levels: int, groups: int, embedding: int = 0) -> None:
        super().__init__()
        into = channels * embedding if embedding else channels
        self.embed = Embed(channels, levels, embedding) if embedding else nn.Identity()
        self.first = MaskedConv2d(into, 2 * hidden, 7, mask="A", color_groups=groups)
        of = {"mask": "B", "color_groups": groups}
        self.down = MaskedConv2d(2 * hidden, hidden, 1, activation="relu", **of)
        self.middle = MaskedConv2d(hidden, hidden, 3, **of)
        self.up = MaskedConv2d(hidden, 2 * hidden, 1, **of)
        self.head = MaskedConv2d(2 * hidden, channels * levels, 1, bias=False, **of)

    def forward(self, image: Tensor, *conditions: Tensor) -> Tensor:
        h = self.first(self.embed(image))
        inner = self.middle(self.down(torch.relu(h)), *conditions)
        return self.head(torch.relu(h + self.up(torch.relu(inner))))


class Stacks(nn.Module):
    """The gated PixelCNN's."""

    def __init__(self, channels: int, hidden: int, levels: int, groups: int) -> None:
        super().__init__()
        self.first = GatedMaskedConv2d(channels, hidden, 5, first=True, color_groups=groups)
        self.second = GatedMaskedConv2d(hidden, hidden, 3, color_groups=groups)
        self.head = MaskedConv2d(hidden, channels * levels, 1, mask="B", color_groups=groups)

    def forward(self, image: Tensor, *conditions: Tensor) -> Tensor:
        v, h, skip = self.first(image, image, *conditions)
        _, h, other = self.second(v, h, *conditions)
        return self.head(torch.relu(skip + other + h))


class Streams(nn.Module):
    """PixelCNN++'s: two streams, a level down and up again, and a mixture."""

    def __init__(self, channels: int, hidden: int, mixtures: int) -> None:
        super().__init__()
        into = channels + 1
        self.ones, self.elu, self.gate = Ones(), ConcatELU(), GatedActivation("identity")
        self.u = MaskedConv2d(into, hidden, (2, 3), mask="above")
        self.ul = MaskedConv2d(into, hidden, (2, 3), mask="A")
        self.u_inner = MaskedConv2d(2 * hidden, 2 * hidden, (2, 3), mask="rows")
        self.ul_inner = MaskedConv2d(2 * hidden, 2 * hidden, (2, 2), mask="B")
        self.across = MaskedConv2d(2 * hidden, 2 * hidden, 1, mask="rows")
        self.u_down = MaskedConv2d(hidden, hidden, (2, 3), mask="rows", stride=2)
        self.ul_down = MaskedConv2d(hidden, hidden, (2, 2), mask="B", stride=2)
        self.u_up = MaskedConv2d(hidden, 4 * hidden, (1, 3), mask="rows")
        self.ul_up = MaskedConv2d(3 * hidden, 4 * hidden, 1, mask="B")
        self.shuffle = nn.PixelShuffle(2)
        self.head = MaskedConv2d(2 * hidden, mixtures * (10 if channels == 3 else 3), 1, mask="B")

    def forward(self, image: Tensor, *conditions: Tensor) -> Tensor:
        x = self.ones(image)
        u = self.u(x)
        ul = self.ul(x)
        u = u + self.gate(self.u_inner(self.elu(u), *conditions))
        ul = ul + self.gate(self.ul_inner(self.elu(ul), *conditions) + self.across(self.elu(u)))
        u_low, ul_low = self.u_down(u), self.ul_down(ul)
        u_again = self.shuffle(self.u_up(u_low))
        ul_again = self.shuffle(self.ul_up(torch.cat([self.elu(ul_low), u_low], 1)))
        return self.head(self.elu(ul + ul_again + u_again))


def naive(network: nn.Module, program: Program, seeds: Tensor, *conditions: Tensor, **given: Tensor) -> Tensor:
    """The whole network for every pixel and colour group."""
    n, (height, width), channels = len(seeds), program.size, program.channels
    image, head = torch.zeros(n, channels, height, width, device=seeds.device), program.head
    per = channels // program.groups
    u = lapcore.random.uniform(image.shape, seeds)
    for y in range(height):
        for x in range(width):
            for g in range(program.groups):
                own = slice(g * per, (g + 1) * per)
                with torch.no_grad():
                    out = network(image, *conditions)
                if isinstance(head, Mixture):
                    drawn = lapcore.sample_discretized_logistic_mixture(out, seeds, channels=channels)[:, :, y, x]
                else:
                    logits = out[:, :, y, x].view(n, channels, head.levels)[:, own].flatten(0, 1)
                    index = lapcore.categorical(logits, u[:, own, y, x].flatten()).view(n, per)
                    drawn = level_values(head.levels, seeds.device)[index]
                if given:
                    known = given["known"].expand_as(image)[:, own, y, x]
                    drawn = torch.where(known, given["given"][:, own, y, x], drawn)
                image[:, own, y, x] = drawn
    return image


def networks(scale: float = 4.0, device: str = "cpu") -> dict[str, tuple[nn.Module, Program]]:
    """Each with its program; sharp enough that pixels depend on each other."""
    torch.manual_seed(3)
    size = 6, 7
    kinds: dict[str, tuple[nn.Module, dict]] = {
        "grey": (Residual(1, 5, 2, 1), {}),
        "colour": (Residual(3, 7, 4, 3), {"color_groups": 3, "conditions": [(7,)]}),
        "colour at once": (Residual(3, 4, 3, 1), {"conditions": [(4, *size)]}),
        "codes": (Residual(1, 4, 5, 1, embedding=3), {}),
        "colour embedded": (Residual(3, 4, 5, 3, embedding=2), {"color_groups": 3}),
        "stacks": (Stacks(1, 5, 3, 1), {"conditions": [(10,), (10, *size)]}),
        "colour stacks": (Stacks(3, 7, 4, 3), {"color_groups": 3}),
        "streams": (Streams(3, 6, 2), {"size": (6, 8), "conditions": [(12,)]}),
        "grey streams": (Streams(1, 4, 3), {"size": (4, 6)}),
    }
    made = {}
    for name, (network, options) in kinds.items():
        for parameter in network.parameters():
            parameter.data *= scale if parameter.dim() > 1 else 1
        channels = 1 if name in ("grey", "codes", "stacks", "grey streams") else 3
        levels = {"grey": 2, "colour": 4, "colour at once": 3, "stacks": 3, "colour stacks": 4}.get(name, 5)
        head = Mixture if isinstance(network, Streams) else lambda src, levels=levels: Categorical(src, levels)
        own = {"size": size, "channels": channels, "head": head, **options}
        made[name] = network.eval().to(device), program_of(network.to(device), **own)
    return made
