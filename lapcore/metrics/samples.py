"""Samples of a model, and how far they are from images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lapcore.data.images import to_model_range
from lapcore.metrics.distribution import frechet_distance, kernel_distance, prdc
from lapcore.metrics.features import FeatureNetwork, features
from lapcore.metrics.sliced_wasserstein import SIDE, sliced_wasserstein
from lapcore.ops.pyramid import gaussian_pyramid
from lapcore.sampling import sample_blocks

DISTANCES = {"swd": 1, "kid": 2, "prdc": 6, "frechet": 2}
"""Each measure needs so many images and samples at least."""

ON_FEATURES = ("kid", "prdc", "frechet")


def draw_samples(
    model: Any,
    count: int,
    *,
    seed: int = 0,
    batch: int = 64,
    labels: Tensor | None = None,
    options: Mapping[str, Any] | None = None,
    images: Tensor | None = None,
    from_level: int | None = None,
    on_images: Callable[[int], None] = lambda count: None,
) -> Tensor:
    """uint8 (count, C, H, W), on the CPU: what `lapcore sample` writes for seeds `seed` to `seed + count - 1` at this `batch`.

    labels: classes or vectors of attributes, (n, ...); seed s takes the (s mod n)-th. None for one of each class in turn, or for a
    model without. options: of the model's `sample`, such as {"temperature": 0.7}.
    images, from_level: uint8 (n, C, H, W) and a level of a model that has `decompose`, as LapCVAE and LAPGAN: seed s keeps this
    level of image s mod n, and all that is coarser, and draws the rest.
    `on_images(n)` is called as samples are drawn. Errors: ValueError naming the argument. Deterministic, as `lapcore.sampling` is.
    """
    if count < 1:
        raise ValueError(f"samples: expected at least 1, got {count}")
    if (images is None) != (from_level is None):
        raise ValueError("images, from_level: expected both or neither, got one")
    if labels is None and model.num_classes is not None:
        labels = torch.arange(model.num_classes)
    if images is not None and from_level is not None:
        model, options = _FromLevel(model, images, from_level, options or {}), None
    drawn = []
    for _, block in sample_blocks(model, [range(seed, seed + count)], labels=labels, batch=batch, options=options):
        drawn.append(block)
        on_images(len(block))
    return torch.cat(drawn)


class _FromLevel:
    """A model whose samples keep the coarse part of images, for `sample_blocks`."""

    def __init__(self, model: Any, images: Tensor, level: int, options: Mapping[str, Any]) -> None:
        self.model, self.images, self.level, self.options = model, images, level, options
        self.config, self.num_classes, self.attributes = model.config, model.num_classes, model.attributes
        self.device: torch.device = model.device

    def state_dict(self) -> dict[str, Any]:
        found: dict[str, Any] = self.model.state_dict()
        return found

    def sample(self, seeds: Tensor, labels: Tensor | None = None) -> Tensor:
        images = to_model_range(self.images[seeds.cpu() % len(self.images)]).to(self.device)
        coarse = self.model.decompose(images).images[self.level]
        drawn: Tensor = self.model.sample(seeds, labels, coarse=coarse, from_level=self.level, **self.options)
        return drawn


def low_pass(images: Tensor, level: int) -> Tensor:
    """uint8 (N, C, H, W) -> level `level` of `lapcore.gaussian_pyramid`, whose binomial blur rounds to uint8 each time."""
    return gaussian_pyramid(images, level)[level]


def evaluate_samples(
    images: Tensor,
    sets: Iterable[Tensor],
    distances: Sequence[str],
    *,
    samples: int,
    network: FeatureNetwork | None = None,
    device: torch.device | str | None = None,
    on_images: Callable[[int], None] = lambda count: None,
) -> dict[str, dict[str, Any]]:
    """Distances from sets of a model's samples to images, all uint8 (N, C, H, W) of one size: mean and std over the sets.

    * "swd": `sliced_wasserstein`, as "swd", the mean over levels, and "swd_level0", ...;
    * "kid": `kernel_distance`, "prdc": `prdc`, as "precision", "recall", "density" and "coverage", and "frechet":
      `frechet_distance`, on `features` of `network`.

    Args:
        sets: each of `samples` images; they are taken one after the other, so they may be drawn as they are needed.
        network, device: of the features, see `feature_network`.
        on_images: called with numbers of images whose features are found.

    Returns, for each name: "mean"; "std" (population) where there are two sets or more; numbers of "images", of "samples" a set and
    of "sets"; "features", the network's name, where there is one.
    Errors: ValueError naming the argument, before a set is taken, for fewer images or samples than a distance needs. Deterministic.
    """
    check_distances(distances, images, samples)
    featured = [name for name in distances if name in ON_FEATURES]
    if featured and network is None:
        raise ValueError(f"network: expected one for {', '.join(featured)}, got None")

    def embedded(those: Tensor) -> Tensor | None:
        return None if network is None or not featured else features(those, network, device=device, on_images=on_images)

    real, found = embedded(images), []
    for drawn in sets:
        found.append(_distances(images, drawn, real, embedded(drawn), distances))
    table = {name: torch.tensor([values[name] for values in found], dtype=torch.float64) for name in found[0]}
    counts: dict[str, Any] = {"images": len(images), "samples": samples, "sets": len(found)}
    named = {} if network is None else {"features": network.name}
    return {
        name: _over_sets(values) | counts | ({} if name.startswith("swd") else named) for name, values in table.items()
    }


def check_distances(distances: Sequence[str], images: Tensor, samples: int) -> None:
    """Raises ValueError unless the distances can be taken from as many samples to these images, uint8 (N, C, H, W)."""
    for distance in distances:
        if distance not in DISTANCES:
            raise ValueError(f"distances: expected some of {', '.join(DISTANCES)}, got {distance!r}")
        for name, count in (("images", len(images)), ("samples", samples)):
            if count < DISTANCES[distance]:
                raise ValueError(f"{name}: expected at least {DISTANCES[distance]} for {distance}, got {count}")
        if distance == "swd" and min(images.shape[2:]) < SIDE:
            height, width = images.shape[2:]
            raise ValueError(f"images: expected sides of at least {SIDE} for swd, got {height}x{width}")


def _distances(
    images: Tensor, drawn: Tensor, real: Tensor | None, fake: Tensor | None, distances: Sequence[str]
) -> dict[str, float]:
    found: dict[str, float] = {}
    if "swd" in distances:
        swd = sliced_wasserstein(images, drawn)
        found |= {"swd": swd.pop("mean")} | {f"swd_{level}": distance for level, distance in swd.items()}
    if real is None or fake is None:
        return found
    if "kid" in distances:
        found["kid"] = kernel_distance(real, fake)
    if "prdc" in distances:
        found |= prdc(real, fake)
    if "frechet" in distances:
        found["frechet"] = frechet_distance(real, fake)
    return found


def _over_sets(values: Tensor) -> dict[str, float]:
    mean = values.mean().item()
    return {"mean": mean} if len(values) == 1 else {"mean": mean, "std": values.std(correction=0).item()}
