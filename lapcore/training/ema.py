"""The moving average of the weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor


class EMA:
    """average <- d * average + (1 - d) * weight after step t (from 1), d = min(decay, (1 + t) / (10 + t)).

    Of parameters only. Buffers, such as batch norm's statistics, are used as they are: they are averages already.
    With decay 0 the average is the weights.
    """

    def __init__(self, parameters: Mapping[str, Tensor], decay: float) -> None:
        self.decay = decay
        self._parameters = dict(parameters)
        self.average = {name: p.detach().clone() for name, p in self._parameters.items()} if decay else {}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Takes in the weights after step `step` (from 1) of the stage."""
        if self.average:
            decay = min(self.decay, (1 + step) / (10 + step))
            torch._foreach_lerp_(list(self.average.values()), list(self._parameters.values()), 1 - decay)

    @torch.no_grad()
    def copy_to_model(self) -> None:
        """Makes the average the weights."""
        for name, average in self.average.items():
            self._parameters[name].copy_(average)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The model has the average for weights inside the block."""
        trained = {name: self._parameters[name].detach().clone() for name in self.average}
        self.copy_to_model()
        try:
            yield
        finally:
            with torch.no_grad():
                for name, weight in trained.items():
                    self._parameters[name].copy_(weight)
