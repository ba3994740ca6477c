"""Holds what `lapcore eval` measures on samples of a model."""

from __future__ import annotations

from argparse import Namespace
from itertools import chain
from typing import TYPE_CHECKING, Any

from lapcore.cli.console import Advance, progress
from lapcore.metrics.samples import DISTANCES

if TYPE_CHECKING:
    from torch import Tensor

    from lapcore.data import ImageDataset
    from lapcore.metrics import FeatureNetwork

PARZEN = ("parzen", "multiscale")
SAMPLED = (*PARZEN, *DISTANCES)

Results = dict[str, dict[str, Any]]


class Samples:
    """Measures samples of the model; what can be refused is refused before the first is drawn."""

    def __init__(
        self,
        model: Any,
        dataset: ImageDataset,
        images: Tensor,
        parts: tuple[Tensor, Tensor] | None,
        options: Namespace,
        asked: list[str],
    ) -> None:
        from lapcore.metrics import check_distances, halving_levels

        self.model, self.images, self.parts, self.options, self.asked = model, images, parts, options, asked
        self.distances = [name for name in asked if name in DISTANCES]
        self.count = options.samples or (10_000 if {*asked} & {*PARZEN} else len(images))
        self.drawing = {} if options.temperature is None else {"temperature": options.temperature}
        # Samples that keep a part of an image have its label, as have those for images of one class; else all classes count alike.
        of_images = options.from_level is not None or options.label is not None
        labelled = model.attributes or (model.num_classes is not None and of_images)
        self.labels = dataset.labels[: len(images)] if labelled else None
        check_distances(self.distances, self._reduced(images), self.count)
        if "multiscale" in asked:
            halving_levels(model)

    def measured(self, network: FeatureNetwork | None) -> Results:
        from lapcore.metrics import evaluate_samples

        options, drawn = self.options, self.options.repeats * self.count
        results: Results = {}
        with progress("samples", drawn + (len(self.images) + drawn) * (network is not None), "images") as advance:
            first = self._draw(0, advance)
            if self.parts is not None and "parzen" in self.asked:
                results |= self._parzen(*self.parts, first)
            if self.parts is not None and "multiscale" in self.asked:
                results |= self._multiscale(*self.parts, first)
            if self.distances:
                others = (self._draw(repeat, advance) for repeat in range(1, options.repeats))
                results |= evaluate_samples(
                    self._reduced(self.images),
                    map(self._reduced, chain([first], others)),
                    self.distances,
                    samples=self.count,
                    network=network,
                    device=self.model.device,
                    on_images=advance,
                )
        return results

    def _draw(self, repeat: int, advance: Advance) -> Tensor:
        from lapcore.metrics import draw_samples

        options = self.options
        return draw_samples(
            self.model,
            self.count,
            seed=options.seed + repeat * self.count,
            batch=options.batch,
            labels=self.labels,
            options=self.drawing,
            images=self.images if options.from_level else None,
            from_level=options.from_level,
            on_images=advance,
        )

    def _reduced(self, images: Tensor) -> Tensor:
        from lapcore.metrics import low_pass

        return low_pass(images, self.options.level or 0)

    def _parzen(self, *pictures: Tensor) -> Results:
        from lapcore.metrics import parzen

        test, validation, drawn = (self._reduced(images).to(self.model.device) / 255 for images in pictures)
        return {"parzen": parzen(test, validation, drawn)}

    def _multiscale(self, test: Tensor, validation: Tensor, drawn: Tensor) -> Results:
        from lapcore.metrics import evaluate_multiscale_parzen

        settings = {"details": self.options.details, "seed": self.options.seed}
        return evaluate_multiscale_parzen(
            self.model, test, validation, drawn, **settings, labels=self.labels, options=self.drawing
        )
