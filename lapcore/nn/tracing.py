"""Networks as programs that are run at one pixel after the other (lapcore.ops.pixelcnn_sampler.Program)."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from lapcore.nn.masked import ConcatELU, Embed, GatedActivation, MaskedConv2d, Ones
from lapcore.ops import pixelcnn_sampler as ops
from lapcore.ops.pixelcnn_sampler import Buffer, Head, Instruction, Program

LEAVES = (MaskedConv2d, GatedActivation, ConcatELU, Ones, Embed)


def program_of(
    network: nn.Module,
    size: tuple[int, int],
    channels: int,
    head: Callable[[int], Head],
    *,
    color_groups: int = 1,
    conditions: Sequence[tuple[int, ...]] = (),
) -> Program:
    """The program of `network(image, *conditions)`, whose result is what the head draws from.

    Args:
        network: made of MaskedConv2d (with subclasses: `effective_weight` is read), GatedActivation, ConcatELU, Ones, Embed,
            nn.PixelShuffle(2), nn.ReLU, nn.Dropout (as in evaluation) and nn.Identity, torch.relu, `+` and torch.cat of channels.
            Conditions enter as the second argument of a MaskedConv2d.
        size, channels: the image's (H, W) and C.
        head: makes the head of the number of the buffer it draws from: `lambda src: Categorical(src, levels=256)`, or `Mixture`.
        color_groups: how many colour groups the pixel's channels are drawn in, one after the other.
        conditions: the shape of each condition without the batch, (O,) or (O, H, W).

    The program has copies of the weights, as they are now. Errors: TypeError for what no program can
    do; ValueError for a network that is not autoregressive.
    """
    tracer = _Tracer(len(conditions))
    graph = tracer.trace(_Network(network))
    with torch.no_grad():
        return _Builder(tracer.root, graph, channels, color_groups).program(size, head, conditions)


class _Network(nn.Module):
    """A signature of its own, whatever that of the network."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor, *conditions: Tensor) -> Any:
        return self.network(image, *iter(conditions))  # a proxy has no length


class _Tracer(fx.Tracer):
    """Symbolic tracing, down to the layers that instructions are made of."""

    def __init__(self, conditions: int) -> None:
        super().__init__()
        self.count = conditions

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return isinstance(module, LEAVES) or super().is_leaf_module(module, name)

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        """Of the conditions, which alone are handed on one by one."""
        if obj.node.op != "placeholder":
            return super().iter(obj)
        return iter([operator.getitem(obj, i) for i in range(self.count)])


class _Builder:
    """Instructions and buffers, node by node of a graph."""

    def __init__(self, root: Any, graph: fx.Graph, channels: int, groups: int) -> None:
        self.root, self.graph, self.groups = root, graph, groups
        self.buffers = [Buffer(channels)]
        self.instructions: list[Instruction] = []
        self.of: dict[fx.Node, int] = {}
        """The buffer of a node."""
        self.condition: dict[fx.Node, int] = {}

    def program(self, size: tuple[int, int], head: Callable[[int], Head], conditions: Sequence[Any]) -> Program:
        image, given, *nodes = self.graph.nodes
        self.of[image] = 0
        for node in nodes:
            if node.op == "output":
                return Program(
                    size=size,
                    channels=self.buffers[0].channels,
                    buffers=tuple(self.buffers),
                    instructions=tuple(self.instructions),
                    head=head(self.buffer(node.args[0])),
                    groups=self.groups,
                    conditions=tuple(tuple(shape) for shape in conditions),
                )
            if node.op == "call_function" and node.target is operator.getitem and node.args[0] is given:
                self.condition[node] = node.args[1]
            elif node.op == "call_module":
                self.of[node] = self.module(self.root.get_submodule(node.target), node)
            else:
                self.of[node] = self.function(node)
        raise AssertionError("a graph ends with its output")

    def buffer(self, node: Any) -> int:
        if node not in self.of:
            raise TypeError(f"network: expected its maps alone as inputs of layers, got {node}")
        return self.of[node]

    def new(self, channels: int, level: int, gated: bool = False) -> int:
        self.buffers.append(Buffer(channels, level, gated and self.groups > 1))
        return len(self.buffers) - 1

    def emit(self, kind: type[Any], src: int, channels: int, *rest: Any, finer: int = 0, gated: bool = False) -> int:
        """An instruction of one source."""
        dst = self.new(channels, self.buffers[src].level - finer, gated)
        self.instructions.append(kind(src, dst, *rest))
        return dst

    def module(self, module: nn.Module, node: fx.Node) -> int:
        src = self.buffer(node.args[0])
        of = self.buffers[src]
        match module:
            case MaskedConv2d():
                condition = node.args[1] if len(node.args) > 1 else node.kwargs.get("condition")
                return self.convolution(module, src, condition)
            case GatedActivation():
                return self.emit(ops.Gated, src, of.channels // 2, module.first)
            case ConcatELU():
                return self.emit(ops.ConcatElu, src, 2 * of.channels)
            case Ones():
                return self.emit(ops.Ones, src, of.channels + 1)
            case Embed():
                table = _constant(module.weight)
                return self.emit(ops.Embed, src, of.channels * table.shape[2], table)
            case nn.PixelShuffle() if module.upscale_factor == 2:
                return self.emit(ops.Shuffle, src, of.channels // 4, finer=1)
            case nn.ReLU():
                return self.emit(ops.Relu, src, of.channels, gated=of.gated)
            case nn.Dropout() | nn.Dropout2d() | nn.Identity():
                return src
        raise TypeError(f"network: expected layers that a program can run, got {node.target}: {module}")

    def convolution(self, layer: MaskedConv2d, src: int, condition: Any) -> int:
        if condition is not None and condition not in self.condition:
            raise TypeError(f"network: expected a condition as it was given, got {condition}")
        dst = self.new(layer.out_channels, self.buffers[src].level + layer.stride - 1, layer.gated_layout)
        self.instructions.append(
            ops.Conv(
                src,
                dst,
                _constant(layer.effective_weight()),
                None if layer.bias is None else _constant(layer.bias),
                layer.mask,
                layer.color_groups,
                None if condition is None else self.condition[condition],
                layer.stride,
            )
        )
        if layer.activation == "relu":
            return self.emit(ops.Relu, dst, layer.out_channels, gated=layer.gated_layout)
        if layer.activation == "gated":
            return self.emit(ops.Gated, dst, layer.out_channels // 2)
        return dst

    def function(self, node: fx.Node) -> int:
        if node.target in (torch.relu, F.relu, "relu"):
            src = self.buffer(node.args[0])
            return self.emit(ops.Relu, src, self.buffers[src].channels, gated=self.buffers[src].gated)
        if node.target in (operator.add, torch.add) and not node.kwargs and len(node.args) == 2:
            a, b = map(self.buffer, node.args)
            # What depends on the pixels to the left of this row has the layout; of vertical stacks it does not count.
            gated = self.buffers[a].gated or self.buffers[b].gated
            return self.pair(ops.Add, a, b, self.buffers[a].channels, gated)
        if node.target is torch.cat:
            first, *others = map(self.buffer, node.args[0])  # type: ignore[arg-type]
            if (node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)) not in (1, -3):
                raise TypeError(f"network: expected torch.cat along the channels, got {node.format_node()}")
            for other in others:
                first = self.pair(ops.Cat, first, other, self.buffers[first].channels + self.buffers[other].channels)
            return first
        raise TypeError(f"network: expected operations that a program can do, got {node.format_node()}")

    def pair(self, kind: type[Any], a: int, b: int, channels: int, gated: bool = False) -> int:
        dst = self.new(channels, self.buffers[a].level, gated)
        self.instructions.append(kind(a, b, dst))
        return dst


def _constant(tensor: Tensor) -> Tensor:
    return tensor.detach().to(torch.float32).clone(memory_format=torch.contiguous_format)
