"""`lapcore eval`: measure a trained model on held-out images."""

from __future__ import annotations

import inspect
import json
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lapcore.cli import arguments as types
from lapcore.cli.console import Advance, progress, table
from lapcore.cli.eval_samples import PARZEN, SAMPLED, Samples
from lapcore.cli.images import add_reading, batches, open_data
from lapcore.cli.output import check_new_file, write_text
from lapcore.errors import DataError, LapcoreError
from lapcore.metrics.samples import DISTANCES, ON_FEATURES

if TYPE_CHECKING:
    from torch import Tensor

    from lapcore.data import ImageDataset
    from lapcore.metrics import FeatureNetwork

METRICS = {
    "rmse": ("reconstruct",),
    "bpd": ("log_likelihood",),
    "bound": ("elbo",),
    "parzen": ("sample",),
    "multiscale": ("sample", "decompose"),
    "swd": ("sample",),
    "kid": ("sample",),
    "prdc": ("sample",),
    "frechet": ("sample",),
}
"""What each asks of a model."""

Results = dict[str, dict[str, float]]


def run(arguments: list[str]) -> None:
    parser = types.command_parser("eval", "Measure a trained model on held-out images.")
    _add_options(parser)
    options = parser.parse_args(arguments)
    _check_options(parser, options)

    if options.json is not None:
        check_new_file(options.json, "--json", options.overwrite)
    methods = dict.fromkeys(method for name in options.metrics or () for method in METRICS[name])
    model = types.open_model(options.model, options.device, *methods)
    asked = options.metrics or [next(name for name in ("rmse", "bpd", "parzen") if hasattr(model, METRICS[name][0]))]
    _check_model(model, options, asked)
    network = _network(model, options)
    dataset, images = _read(options.data, options, model)
    baseline = _baseline(model, images, options)
    parts = _parts(images, options, model) if {*asked} & {*PARZEN} else None
    samples = Samples(model, dataset, images, parts, options, asked) if {*asked} & {*SAMPLED} else None

    results: dict[str, Any] = {}
    if "rmse" in asked:
        results |= _rmse(model, dataset, images, options)
    if "bpd" in asked:
        results |= _bpd(model, dataset, images, options) | baseline
    if "bound" in asked:
        results |= _bound(model, dataset, images, options)
    if samples is not None:
        results |= samples.measured(network)
    print(f"{len(images)} images of {options.data}\n{table([_row(*item) for item in results.items()])}")
    if options.json is not None:
        write_text(options.json, json.dumps(_made(options) | {"metrics": results}, indent=2) + "\n")


def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="RUN", help="folder of a training run or of a saved model")
    parser.add_argument("--data", type=Path, required=True, help="held-out images: anything that train --data takes")
    meaning = (
        "comma-separated. rmse: of reconstructions, grey levels; bpd: exact log-likelihood, bits per dimension; bound: a lower "
        "one, the model's elbo, nats. Of samples: parzen: log-likelihood of images in [0, 1], nats; multiscale: the same, level by "
        "level, of a model with levels; swd: sliced Wasserstein distance of Laplacian patches, x 1000; and on --features kid: "
        "kernel distance, x 1000; prdc: precision, recall, density, coverage; frechet: Frechet distance. Default: rmse, or bpd or "
        "parzen for a model that does not reconstruct"
    )
    parser.add_argument("--metrics", type=metrics, help=meaning)
    meaning = (
        "of kid, prdc and frechet: efficientnet_lite0, module:function, or a file of TorchScript or torch.export (.pt2), taking "
        "float32 images (32, C, S, S) in [0, 1] to features (32, D)"
    )
    parser.add_argument("--features", metavar="NETWORK", help=meaning)
    meaning = "S, to which images are resized for it, and which its name then bears (224 for efficientnet_lite0, else their own)"
    parser.add_argument("--feature-size", type=types.positive, metavar="S", help=meaning)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results here as well")
    parser.add_argument("--batch", type=types.positive, default=64, help="images at a time (64)")
    parser.add_argument("--limit", type=types.positive, help="the first so many images of a set only")
    parser.add_argument(
        "--seed", type=types.seed, default=0, help="image i, or sample i, draws its code from seed + i (0)"
    )
    meaning = "how many are drawn from the model (10000 for parzen and multiscale, else as many as there are images)"
    parser.add_argument("--samples", type=types.positive, metavar="N", help=meaning)
    meaning = "swd, kid, prdc, frechet: sets of samples, over which mean and std are taken (1)"
    parser.add_argument("--repeats", type=types.positive, default=1, metavar="R", help=meaning)
    meaning = "of samples, as in lapcore sample: one number, or one a level from the finest on"
    parser.add_argument("--temperature", type=types.temperatures, metavar="T[,T...]", help=meaning)
    meaning = (
        "samples keep level K of the images and all that is coarser, and draw the rest: seed s that of image s mod n"
    )
    parser.add_argument("--from-level", type=types.positive, metavar="K", help=meaning)
    meaning = "samples and images are compared after K halvings by lapcore.gaussian_pyramid; not for multiscale"
    parser.add_argument("--level", type=types.positive, metavar="K", help=meaning)
    meaning = "multiscale: drawn for each low of each image (100)"
    parser.add_argument("--details", type=types.positive, default=100, metavar="N", help=meaning)
    meaning = "parzen, multiscale: images to choose sigma on; without them a tenth of --data, drawn by lot and left out of the test"
    parser.add_argument("--validation", type=Path, metavar="PATH", help=meaning)
    meaning = "bpd: training images, to print beside it the bits per dimension of independent pixels, a histogram for each place"
    parser.add_argument("--baseline", type=Path, metavar="PATH", help=meaning)
    add_reading(parser)
    meaning = "celeba: the LapCVAE paper's crop, blur and bicubic resize of aligned 178x218 pictures"
    parser.add_argument("--preprocess", choices=("none", "celeba"), default="none", help=meaning)
    types.add_overwrite(parser)
    types.add_device(parser)


def metrics(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in METRICS]
    if unknown:
        raise ArgumentTypeError(f"expected some of {', '.join(METRICS)}, got {unknown[0]!r}")
    return names


def _check_options(parser: ArgumentParser, options: Namespace) -> None:
    """Ends the program with bad usage for options that contradict each other, before the model is opened."""
    asked = {*(options.metrics or ())}
    if options.preprocess == "celeba" and options.resize != "none":
        parser.error("--resize: celeba's preparation has a resize of its own; leave one of the two out")
    if options.validation is not None and not asked & {*PARZEN}:
        parser.error("--validation: only parzen and multiscale choose something on validation images; add to --metrics")
    if options.features is None and asked & {*ON_FEATURES}:
        parser.error("--features: kid, prdc and frechet compare features; name a network, such as efficientnet_lite0")
    if options.features is not None and not asked & {*ON_FEATURES}:
        parser.error("--features: only kid, prdc and frechet compare features; add one to --metrics")
    if options.feature_size is not None and options.features is None:
        parser.error("--feature-size: expected beside --features")
    if options.repeats > 1 and not asked & {*DISTANCES}:
        parser.error("--repeats: only swd, kid, prdc and frechet are taken over sets; add one to --metrics")
    if options.level is not None and "multiscale" in asked:
        parser.error("--level: multiscale has levels of its own; leave one of the two out")


def _check_model(model: Any, options: Namespace, asked: list[str]) -> None:
    if options.baseline is not None and "bpd" not in asked:
        raise LapcoreError("--baseline: only bpd has a baseline; add it to --metrics")
    for name in ("temperature", "from_level", "level"):
        if getattr(options, name) is not None and not {*asked} & {*SAMPLED}:
            raise LapcoreError(f"--{name.replace('_', '-')}: {', '.join(asked)} draws no samples")
    takes = inspect.signature(model.sample).parameters if hasattr(model, "sample") else {}
    if options.temperature is not None and "temperature" not in takes:
        raise LapcoreError(f"--temperature: {types.with_article(model.name)} does not sample with it")
    if options.from_level is not None:
        if not hasattr(model, "decompose") or "from_level" not in takes:
            raise LapcoreError(f"--from-level: {types.with_article(model.name)} has no levels to keep")
        if options.from_level > model.top:
            raise LapcoreError(f"--from-level {options.from_level}: expected 1 to {model.top}, the model's levels")


def _network(model: Any, options: Namespace) -> FeatureNetwork | None:
    """The network of --features; its module may lie in the working folder, as with `python -m`."""
    import sys

    from lapcore.metrics import feature_network

    if options.features is None:
        return None
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    return feature_network(options.features, size=options.feature_size, device=model.device)


def _rmse(model: Any, dataset: ImageDataset, images: Tensor, options: Namespace) -> Results:
    from lapcore.metrics import evaluate_rmse

    with progress("eval", len(images), "images") as advance:
        parts = batches(images, dataset, model, options.batch)
        return evaluate_rmse(model, _to_device(parts, model, advance), options.seed)


def _bpd(model: Any, dataset: ImageDataset, images: Tensor, options: Namespace) -> Results:
    from lapcore.metrics import evaluate_bpd

    with progress("eval", len(images), "images") as advance:
        parts = batches(images, dataset, model, options.batch)
        return evaluate_bpd(model, _to_device(parts, model, advance))


def _bound(model: Any, dataset: ImageDataset, images: Tensor, options: Namespace) -> Results:
    from lapcore.metrics import evaluate_elbo

    with progress("eval", len(images), "images") as advance:
        parts = batches(images, dataset, model, options.batch)
        return evaluate_elbo(model, _to_device(parts, model, advance), options.seed)


def _baseline(model: Any, images: Tensor, options: Namespace) -> Results:
    from lapcore.metrics import independent_bpd

    if options.baseline is None:
        return {}
    return independent_bpd(_read(options.baseline, options, model)[1], images, model.levels)


def _parts(images: Tensor, options: Namespace, model: Any) -> tuple[Tensor, Tensor]:
    """Test and validation images: the latter of --validation, or a tenth of the former."""
    import torch

    if options.validation is not None:
        return images, _read(options.validation, options, model)[1]
    if len(images) < 2:
        raise DataError(f"{options.data}: expected at least 2 images, one to choose sigma on, or --validation; got 1")
    # By lot: every tenth of a set whose classes take turns could be of one class.
    lots = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    tenth = -(-len(images) // 10)
    return images[lots[tenth:].sort().values], images[lots[:tenth].sort().values]


def _made(options: Namespace) -> dict[str, Any]:
    """What the results depend on."""
    names = ["model", "data", "preprocess", "resize"]
    names += [name for name in ("validation", "baseline") if getattr(options, name) is not None]
    made = {name: str(getattr(options, name)) for name in names} | {"seed": options.seed, "batch": options.batch}
    given = ("label", "attributes", "limit", "temperature", "from_level", "level", "features", "feature_size")
    return made | {name: getattr(options, name) for name in given if getattr(options, name) is not None}


UNITS = {
    "rmse": "grey levels",
    "rmse_mean_rounded": "grey levels",
    "bpd": "bits per dimension",
    "bpd_independent": "bits per dimension",
    "elbo": "nats an image, its log density or a lower bound on it, values in [-1, 1]",
    "elbo_pyramid": "nats an image, a lower bound on the log density of its pyramid, values in [-1, 1]",
    "parzen": "nats",
    "multiscale_parzen": "nats",
    "kid": "x 1000",
}


def _row(name: str, result: dict[str, Any]) -> tuple[str, str, str]:
    spread = f" +- {result['std']:.3f}" if "std" in result else ""
    said = [UNITS.get(name, "x 1000" if name.startswith("swd") else "")]
    if "samples" in result:
        said += [f"{result[count]} {count}" for count in ("images", "samples", "details") if count in result]
    said += [f"{result['sets']} sets"] if "std" in result and "sets" in result else []
    said += [f"sigma {result['sigma']:.3f}"] if "sigma" in result else []
    said += [result["features"]] if "features" in result else []
    return name, f"{result['mean']:.3f}{spread}", ", ".join(filter(None, said))


def _to_device(
    parts: list[tuple[Tensor, Tensor | None]], model: Any, advance: Advance
) -> Iterator[tuple[Tensor, Tensor | None]]:
    from lapcore.data import to_model_range

    for images, labels in parts:
        yield to_model_range(images).to(model.device), labels
        advance(len(images))


def _read(path: Path, options: Namespace, model: Any) -> tuple[ImageDataset, Tensor]:
    """A set, and its images, all read and prepared before the model sees the first: uint8 (N, C, H, W)."""
    size = None if options.preprocess == "celeba" else model.image_size
    dataset = open_data(path, model, options, size)
    return dataset, _images(dataset, options, model)


def _images(dataset: ImageDataset, options: Namespace, model: Any) -> Tensor:
    import torch

    from lapcore.metrics import celeba_crop

    celeba = options.preprocess == "celeba"
    images = []
    for index in range(min(len(dataset), options.limit or len(dataset))):
        image = dataset[index][0]
        if celeba and tuple(image.shape[1:]) != (218, 178):
            rows, columns = image.shape[1:]
            raise DataError(f"{dataset.name(index)}: expected CelebA's 218x178, got {rows}x{columns} (rows x columns)")
        images.append(celeba_crop(image, model.image_size) if celeba else image)
    return torch.stack(images)
