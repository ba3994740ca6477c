"""What every image model shares: stages, checks of arguments, saving and loading."""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, Concatenate, Literal, NamedTuple, ParamSpec, Self, TypeVar

import torch
from torch import Tensor, nn

from lapcore.models import saving
from lapcore.nn.condition import Condition

P = ParamSpec("P")
M = TypeVar("M", bound="ImageModel")
T = TypeVar("T", bool, int, float)


def inference(method: Callable[Concatenate[M, P], Tensor]) -> Callable[Concatenate[M, P], Tensor]:
    """Runs a method in evaluation mode, in which an image does not depend on its batch, and without gradients."""

    @wraps(method)
    def run(self: M, /, *args: P.args, **kwargs: P.kwargs) -> Tensor:
        training = self.training
        if training:
            self.eval()
        try:
            with torch.no_grad():
                return method(self, *args, **kwargs)
        finally:
            if training:
                self.train()

    return run


class Decomposition(NamedTuple):
    """bands: h_0, ..., h_{K-1}; images: x_0, ..., x_K, x_k = h_k + u(x_{k+1})."""

    bands: tuple[Tensor, ...]
    images: tuple[Tensor, ...]


@dataclass(frozen=True)
class Player:
    """One side of a training stage: the modules it trains, and how, unless the user says otherwise.

    Attributes:
        name: by which logs, settings and `ImageModel.loss` know it.
        modules: whose parameters it moves, and no others.
        optimizer: "adamw" with `betas`, or "sgd" with `momentum`, which changes linearly over the stage to `final_momentum`.
        lr: peak learning rate; `warmup` steps of linear rise, then `schedule`: "constant", or "cosine" or "linear" down to 0 at the
            stage's end. lr_decay: divides it by 1 + lr_decay t at step t.
        grad_clip: largest norm of the gradient; 0 for no limit.
        turns: its steps in each step of the stage, each on images of its own.
        averaged: whether the moving average of its weights is what the stage hands on.
        plays: whether it takes its turn, given the means of what its loss reports; None for always.
    """

    name: str
    modules: tuple[nn.Module, ...]
    optimizer: Literal["adamw", "sgd"] = "adamw"
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    momentum: float = 0.0
    final_momentum: float | None = None
    warmup: int = 100
    schedule: Literal["constant", "cosine", "linear"] = "cosine"
    lr_decay: float = 0.0
    grad_clip: float = 1.0
    turns: int = 1
    averaged: bool = True
    plays: Callable[[Mapping[str, float]], bool] | None = None


class ImageModel(nn.Module, ABC):
    """A model of float32 images (N, channels, image_size, image_size) in [-1, 1].

    A subclass calls `super().__init__` with all of its constructor's keyword arguments, which `config` keeps, and says which of its
    modules a training stage is about in `_stage_modules`.
    """

    name: ClassVar[str]
    """What `lapcore train` and config.json call the model."""

    terms: ClassVar[dict[str, str]] = {}
    """Explains the names in `loss`, with units, for the log's legend."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.config = {key: list(value) if isinstance(value, tuple) else value for key, value in config.items()}
        self.image_size: int = config["image_size"]
        self.channels: int = config["channels"]
        self.num_classes: int | None = config.get("num_classes")
        self.stage: str | None = None
        positive(image_size=self.image_size, channels=self.channels)
        if self.num_classes is not None:
            positive(num_classes=self.num_classes)
        self.attributes = _attribute_names(config.get("attributes"), self.num_classes)
        self.condition = Condition(self.num_classes, len(self.attributes))

    def training_stages(self) -> tuple[str, ...]:
        """Names of the stages to train, in order; a model of one calls it "all"."""
        return tuple(self._stage_modules())

    def modules_of(self, stage: str) -> Sequence[nn.Module]:
        """The modules that a stage trains. Raises ValueError for an unknown stage."""
        return self._stage_modules()[self._stage(stage)]

    @abstractmethod
    def _stage_modules(self) -> Mapping[str, Sequence[nn.Module]]:
        """Says which modules each stage trains, in the order of training."""

    def _stage(self, stage: str | None) -> str:
        """The stage asked for, or chosen by `set_stage`, or the only one. Raises ValueError for another."""
        stages = self._stage_modules()
        chosen = self.stage if stage is None else stage
        found = next(iter(stages)) if chosen is None and len(stages) == 1 else chosen
        if found is None or found not in stages:
            raise ValueError(f"stage: expected {', '.join(stages)}, got {found!r}")
        return found

    def _drawn_seeds(self, seeds: Tensor | None, count: int) -> Tensor:
        """`seeds`, or without any int64 (count,) from torch's default CPU generator."""
        return torch.randint(2**63 - 1, (count,), device="cpu").to(self.device) if seeds is None else seeds

    def players(self, stage: str) -> tuple[Player, ...]:
        """Who trains in a stage, in the order of their turns; a model of likelihood has one.

        With several, `loss` takes one more argument, player, whose loss it gives; ValueError for an unknown stage.
        """
        return (Player("model", tuple(self.modules_of(stage))),)

    @abstractmethod
    def loss(
        self, images: Tensor, labels: Tensor | None = None, stage: str | None = None, seeds: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Scalars of a batch; "loss" is what the stage minimises, the others are worth logging.

        stage: default the one `set_stage` chose. seeds: int64 (N,), of the noise; None draws one from torch's default CPU
        generator.
        """

    def forward(
        self, images: Tensor, labels: Tensor | None = None, stage: str | None = None, seeds: Tensor | None = None
    ) -> dict[str, Tensor]:
        """`loss`: what wrappers such as DistributedDataParallel call."""
        return self.loss(images, labels, stage, seeds)

    def set_stage(self, stage: str) -> list[nn.Parameter]:
        """Readies the model for a training stage and returns the parameters to optimise.

        Parameters of the stage require gradients and its modules are in training mode; all else is frozen, batch-norm statistics
        included, also through later calls of `train()`. Raises ValueError for an unknown stage.
        """
        chosen = self.modules_of(stage)
        self.stage = stage
        self.requires_grad_(False)
        for module in chosen:
            module.requires_grad_(True)
        self.train()
        return [parameter for module in chosen for parameter in module.parameters()]

    def train(self, mode: bool = True) -> Self:
        """Training mode, for the modules of the current stage only, if `set_stage` chose one; or evaluation mode."""
        if self.stage is None or not mode:
            return super().train(mode)
        super().train(False)
        self.training = True
        for module in self.modules_of(self.stage):
            module.train()
        return self

    @property
    def dtype(self) -> torch.dtype:
        return self._tensor().dtype

    @property
    def device(self) -> torch.device:
        return self._tensor().device

    def _tensor(self) -> Tensor:
        """Any of the model's own; PCA has buffers only."""
        return next(chain(self.parameters(), self.buffers()))

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Writes `model.safetensors` and `config.json` into `folder`, which appears whole or not at all.

        A folder that is there has these two files replaced. Raises MissingDependencyError without safetensors, OSError if the disk
        refuses.
        """
        saving.save(self, Path(folder))

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike[str]) -> Self:
        """The model that `save_pretrained` wrote, on the CPU, in evaluation mode. Works offline; reads no pickle.

        Raises CheckpointError, naming the file, if one is missing, truncated, of another model, or if the two do not fit.
        """
        return saving.load(Path(folder), {cls.name: cls})

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Saves the model to the Hugging Face Hub; returns the commit's address.

        options: those of `huggingface_hub.HfApi.upload_folder`, and `private`.
        """
        return saving.push_to_hub(self, repo_id, **options)

    def _check_images(self, name: str, images: Tensor, size: int | None = None, *, bounded: bool = True) -> None:
        """Raises unless `images` are what the model takes; size: default image_size. One wait for the device."""
        side = self.image_size if size is None else size
        check_tensor(name, images, self.dtype, self.device)
        expected = (self.channels, side, side)
        if images.dim() != 4 or tuple(images.shape[1:]) != expected or len(images) == 0:
            raise ValueError(f"{name}: expected shape (N, {', '.join(map(str, expected))}), got {tuple(images.shape)}")
        if torch.compiler.is_compiling():
            return
        low, high = torch.stack(torch.aminmax(images.detach())).tolist()
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ValueError(f"{name}: expected finite values, got NaN or infinity")
        if bounded and max(-low, high) > 1 + 1e-4:
            raise ValueError(f"{name}: expected values in [-1, 1], got {low:.6g} to {high:.6g}")

    def _check_seeds(self, seeds: Tensor, count: int | None = None) -> None:
        check_tensor("seeds", seeds, torch.int64, self.device)
        if seeds.dim() != 1 or len(seeds) == 0 or (count is not None and len(seeds) != count):
            raise ValueError(f"seeds: expected shape ({count or 'N'},), got {tuple(seeds.shape)}")

    def _check_labels(self, labels: Tensor | None, count: int) -> None:
        if self.attributes:
            self._check_attributes(labels, count)
            return
        if self.num_classes is None:
            if labels is not None:
                raise ValueError("labels: expected None, as the model has no classes")
            return
        if labels is None:
            raise ValueError(f"labels: expected int64 ({count},), as the model has {self.num_classes} classes")
        check_tensor("labels", labels, torch.int64, self.device)
        if labels.shape != (count,):
            raise ValueError(f"labels: expected shape ({count},), got {tuple(labels.shape)}")
        if torch.compiler.is_compiling():
            return
        low, high = torch.stack(torch.aminmax(labels)).tolist()
        if low < 0 or high >= self.num_classes:
            raise ValueError(f"labels: expected 0 to {self.num_classes - 1}, got {low} to {high}")

    def _check_attributes(self, labels: Tensor | None, count: int) -> None:
        shape = (count, len(self.attributes))
        if labels is None:
            raise ValueError(
                f"labels: expected {self.dtype} {shape}, a column for each attribute of the model, got None"
            )
        check_tensor("labels", labels, self.dtype, self.device)
        if tuple(labels.shape) != shape:
            raise ValueError(f"labels: expected shape {shape}, a column for each attribute, got {tuple(labels.shape)}")
        if not torch.compiler.is_compiling() and not torch.isfinite(labels).all():
            raise ValueError("labels: expected finite values, got NaN or infinity")

    def _check_batch(self, images: Tensor, labels: Tensor | None, seeds: Tensor | None) -> None:
        self._check_images("images", images)
        if self.training and len(images) < 2:
            raise ValueError("images: expected at least 2, as batch norm needs in training mode, got 1")
        self._check_labels(labels, len(images))
        if seeds is not None:
            self._check_seeds(seeds, len(images))


def _attribute_names(names: Sequence[str] | None, num_classes: int | None) -> tuple[str, ...]:
    found = tuple(names or ())
    if isinstance(names, str) or not all(isinstance(name, str) and name for name in found):
        raise ValueError(f"attributes: expected names, one for each value of a vector, got {names!r}")
    if len(set(found)) != len(found):
        raise ValueError(f"attributes: expected names that differ, got {names!r}")
    if found and num_classes is not None:
        raise ValueError("attributes: expected None beside num_classes, as an image has one label: a class or a vector")
    return found


def positive(**values: Any) -> None:
    """Raises ValueError unless every value is an int of at least 1, or a sequence of such."""
    for name, value in values.items():
        items = value if isinstance(value, list | tuple) else [value]
        if not items or any(not isinstance(item, int) or isinstance(item, bool) or item < 1 for item in items):
            raise ValueError(f"{name}: expected integers of at least 1, got {value!r}")


def per_level(name: str, value: T | Sequence[T], count: int) -> list[T]:
    """One number for all levels, or a sequence of `count`."""
    values = list(value) if isinstance(value, Sequence) else [value] * count
    if len(values) != count:
        raise ValueError(f"{name}: expected one number or {count}, got {value!r}")
    return values


def check_variance(variance: str | float) -> None:
    if variance in ("pixel", "channel"):
        return
    if isinstance(variance, str | bool) or not 0 < variance < math.inf:
        raise ValueError(f'variance: expected "pixel", "channel" or a number above 0, got {variance!r}')


def check_kl_weight(*weights: float) -> None:
    if any(isinstance(weight, bool) or not 0 <= weight < math.inf for weight in weights):
        raise ValueError(f"kl_weight: expected numbers from 0, got {', '.join(map(str, weights))}")


def check_ends(a: Tensor, b: Tensor, steps: int) -> None:
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 2:
        raise ValueError(f"steps: expected an integer of at least 2, got {steps!r}")
    if a.shape != b.shape:
        raise ValueError(f"b: expected the shape of a, {tuple(a.shape)}, got {tuple(b.shape)}")


def mean_difference(codes: Tensor, has: Tensor) -> Tensor:
    """The mean of codes (N, ...) of images with an attribute, minus the mean of those without: (...).

    has: bool (N,), True where the image has it. Added to an image's code, it gives the image the attribute (Larsen et al. 2016,
    section 4.2). TypeError, ValueError naming `has`, also if all have the attribute or none has it.
    """
    check_tensor("has", has, torch.bool, codes.device)
    if has.shape != codes.shape[:1]:
        raise ValueError(f"has: expected shape ({len(codes)},), one for each image, got {tuple(has.shape)}")
    if has.all() or not has.any():
        raise ValueError(f"has: expected images with the attribute and images without, got all {bool(has[0])}")
    return codes[has].mean(0) - codes[~has].mean(0)


def check_tensor(name: str, value: Tensor, dtype: torch.dtype, device: torch.device) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: expected a tensor, got {type(value).__name__}")
    if value.dtype != dtype:
        raise TypeError(f"{name}: expected {dtype}, got {value.dtype}")
    if value.device != device:
        raise ValueError(f"{name}: expected the model's device {device}, got {value.device}")
