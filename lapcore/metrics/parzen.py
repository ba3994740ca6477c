"""Parzen-window log-likelihoods of images under samples, the measure of Goodfellow et al. 2014, at one scale and at several.

A Gaussian kernel of standard deviation sigma stands around every sample; sigma is chosen on validation images. Units: nats, of
images in [0, 1], as the published tables have them: another range moves the result by D ln of the factor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from lapcore.metrics.samples import draw_samples
from lapcore.nn.haar import haar_merge as haar_merge
from lapcore.nn.haar import haar_split as haar_split
from lapcore.ops.parzen import parzen_log_likelihood
from lapcore.sampling import Sampler

SIGMAS = tuple(10 ** (i / 9 - 1) for i in range(10))
"""Ten from 0.1 to 1, evenly spaced by their logarithm."""

Draw = Callable[[int, Tensor], Tensor]


def choose_sigma(validation: Tensor, samples: Tensor, sigmas: Sequence[float] = SIGMAS) -> float:
    """That of `sigmas` under which `validation`, (N, ...), has the highest mean log-likelihood; the first of equals.

    samples: (M, ...). All are tried in one pass. Errors: ValueError when an image is not finite or there is none; as
    `lapcore.parzen_log_likelihood`. Deterministic.
    """
    return sigmas[_best(_log_likelihoods("validation", validation, samples, sigmas))]


def parzen(test: Tensor, validation: Tensor, samples: Tensor, sigmas: Sequence[float] = SIGMAS) -> dict[str, float]:
    """The log-likelihood of `test`, (N, ...), under kernels around `samples`, (M, ...), with sigma chosen on `validation`.

    Returns mean; std, the standard deviation over the images (population, as numpy.std), which is the published +-;
    standard_error, std / sqrt(N); sigma; and the numbers of images and samples. Nats.
    Floating-point tensors of one dtype, device and trailing shape. Errors: as `choose_sigma`. Deterministic.
    Source: Goodfellow et al., Generative Adversarial Nets, 2014, section 5, after Breuleux, Bengio and Vincent 2011.
    """
    sigma = choose_sigma(validation, samples, sigmas)
    (values,) = _log_likelihoods("test", test, samples, [sigma])
    return _summary(values) | {"sigma": sigma, "samples": len(samples)}


def multiscale_parzen(
    test: Tensor, validation: Tensor, low_samples: Tensor, draw: Draw, sigmas: Sequence[float] = SIGMAS
) -> dict[str, float | list[float]]:
    """log p(I) = log p(low) + sum over levels of log p(high | low): the estimate for models that refine, as LAPGAN does.

    `haar_split` is applied to the images, then to each low in turn, as often as leads to the size of `low_samples`. At every level
    the kernels stand around details that the model draws given the image's own true low.

    Args:
        test, validation: (N, C, H, W) in [0, 1].
        low_samples: (M, C, h, w), the model's samples of the coarsest low. The split is orthonormal, so after k splits a low is
            2^k times the local mean.
        draw: draw(level, low) -> (M', C, 3, h, w), samples of high given one low, (1, C, h, w); level 0 is the finest. It should
            draw with seeds, and no others for one image than for the next.
        sigmas: what each level's sigma is chosen from, on the validation images; by orthonormality in the units of the pixels.

    Returns:
        mean, std, standard_error and images of the total, as `parzen`; and by level, the finest first and the coarsest low
        last: sigmas, and means, whose sum is mean.

    Errors: ValueError for images whose sides do not halve to those of `low_samples`; as `choose_sigma`. Deterministic if `draw` is.
    Source: Denton, Chintala, Szlam and Fergus, Deep Generative Image Models using a Laplacian Pyramid of Adversarial Networks,
        2015, appendix A.
    """
    values, chosen = [], []
    for level in range(_levels(test, validation, low_samples)):
        (validation, validation_high), (test, test_high) = haar_split(validation), haar_split(test)
        chosen.append(sigmas[_best(_conditional(level, validation, validation_high, draw, sigmas))])
        values.append(_conditional(level, test, test_high, draw, chosen[-1:])[0])
    chosen.append(choose_sigma(validation, low_samples, sigmas))
    values.append(_log_likelihoods("test", test, low_samples, chosen[-1:])[0])
    table = torch.stack(values).double()
    return _summary(table.sum(0)) | {"sigmas": chosen, "means": table.mean(1).tolist()}


def evaluate_parzen(
    model: Sampler,
    test: Tensor,
    validation: Tensor,
    *,
    samples: int = 10_000,
    seed: int = 0,
    batch: int = 64,
    labels: Tensor | None = None,
    on_images: Callable[[int], None] = lambda count: None,
) -> dict[str, dict[str, float]]:
    """`parzen` of uint8 images (N, C, H, W) under samples of a model: {"parzen": ...}.

    The samples are those of `draw_samples`, which explains seed, batch, labels and on_images. All are compared in [0, 1], as
    uint8 / 255, on the model's device. Errors: ValueError, TypeError naming the argument.
    """
    _check_pictures(test=test, validation=validation)
    drawn = draw_samples(model, samples, seed=seed, batch=batch, labels=labels, on_images=on_images)
    unit = [unit_range(images, model.device) for images in (test, validation, drawn)]
    return {"parzen": parzen(unit[0], unit[1], unit[2])}


def evaluate_multiscale_parzen(
    model: Any,
    test: Tensor,
    validation: Tensor,
    drawn: Tensor,
    *,
    details: int = 100,
    seed: int = 0,
    labels: Tensor | None = None,
    options: Mapping[str, Any] | None = None,
) -> dict[str, dict[str, Any]]:
    """`multiscale_parzen` of uint8 images (N, C, H, W) under a model with levels: {"multiscale_parzen": ...}.

    The split is applied as often as the model's pyramid halves exactly. The coarsest low is that of `drawn`, samples of the model,
    uint8 (M, C, H, W). The details of a low are drawn by `details` seeds from `seed` on, the same for every image, with
    `draw_details` where the model has it and its levels are means, as LAPGAN's by default. Elsewhere, as for LapCVAE, whose levels
    are blurred, they are those of samples that keep the level of the model's pyramid which the low's own picture has, every pixel
    repeated: a function of the low alone.

    labels: as in `draw_samples`, which also says what None is. options: of the model's `sample`.
    Returns what `multiscale_parzen` does, and numbers of "samples" and of "details".
    Errors: ValueError, TypeError naming the argument. Deterministic, as the model is.
    """
    _check_pictures(test=test, validation=validation, drawn=drawn)
    if details < 1:
        raise ValueError(f"details: expected at least 1, got {details}")
    levels, draw = halving_levels(model), details_of(model, torch.arange(seed, seed + details), labels, options)
    low = unit_range(drawn, model.device)
    for _ in range(levels):
        low, _high = haar_split(low)
    found = multiscale_parzen(unit_range(test, model.device), unit_range(validation, model.device), low, draw)
    return {"multiscale_parzen": found | {"samples": len(drawn), "details": details}}


def halving_levels(model: Any) -> int:
    """Counts the levels of a model with `decompose` that halve the image's sides exactly; ValueError for none."""
    blank = torch.zeros(1, model.channels, model.image_size, model.image_size, device=model.device)
    sizes = [tuple(image.shape[2:]) for image in model.decompose(blank).images]
    levels = 0
    while levels + 1 < len(sizes) and all(side << levels + 1 == model.image_size for side in sizes[levels + 1]):
        levels += 1
    if levels == 0:
        raise ValueError(f"model: expected a pyramid whose finest level halves {model.image_size} exactly, got {sizes}")
    return levels


def details_of(
    model: Any, seeds: Tensor, labels: Tensor | None = None, options: Mapping[str, Any] | None = None
) -> Draw:
    """Draws for `multiscale_parzen` from a model with levels, see `evaluate_multiscale_parzen`. seeds: int64 (M,)."""
    if labels is None and model.num_classes is not None:
        labels = torch.arange(model.num_classes)
    chosen = None if labels is None else labels[seeds % len(labels)].to(model.device)
    seeds = seeds.to(model.device)

    def draw(level: int, low: Tensor) -> Tensor:
        times = 2 ** (level + 1)
        picture = 2 * (low / times).repeat_interleave(times, 2).repeat_interleave(times, 3) - 1
        coarse = model.decompose(picture).images[level + 1]
        image = (model.sample(seeds, chosen, coarse=coarse, from_level=level + 1, **(options or {})) + 1) / 2
        for _ in range(level):
            image, _high = haar_split(image)
        return haar_split(image)[1]

    if hasattr(model, "draw_details") and model.filter == "area":
        return lambda level, low: cast(Tensor, model.draw_details(level, low, seeds, chosen))
    return draw


def unit_range(images: Tensor, device: torch.device) -> Tensor:
    """uint8 as float32 in [0, 1], on a device."""
    return images.to(device) / 255


def _check_pictures(**images: Tensor) -> None:
    for name, those in images.items():
        if those.dtype != torch.uint8:
            raise TypeError(f"{name}: expected uint8, got {those.dtype}")


def _log_likelihoods(name: str, images: Tensor, samples: Tensor, sigmas: Sequence[float]) -> Tensor:
    """(S, N), of at least one image, all finite."""
    if len(images) == 0:
        raise ValueError(f"{name}: expected at least one image, got none")
    for each, tensor in ((name, images), ("samples", samples)):
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{each}: expected finite values, got NaN or infinity")
    return parzen_log_likelihood(images, samples, sigmas)


def _conditional(level: int, low: Tensor, high: Tensor, draw: Draw, sigmas: Sequence[float]) -> Tensor:
    """log p(high | low), (S, N): each image under details drawn given its own low."""
    found = []
    for i in range(len(low)):
        samples = draw(level, low[i : i + 1])
        if samples.dim() != 5 or samples.shape[1:] != high.shape[1:]:
            raise ValueError(f"draw: expected (M, {', '.join(map(str, high.shape[1:]))}), got {tuple(samples.shape)}")
        found.append(_log_likelihoods("images", high[i : i + 1], samples, sigmas))
    return torch.cat(found, 1)


def _levels(test: Tensor, validation: Tensor, low_samples: Tensor) -> int:
    """How often the images' sides halve to those of the samples of the coarsest low."""
    if test.dim() != 4 or low_samples.dim() != 4 or test.shape[:1] == (0,) or validation.shape[1:] != test.shape[1:]:
        shapes = ", ".join(str(tuple(x.shape)) for x in (test, validation, low_samples))
        raise ValueError(
            f"test, validation, low_samples: expected (N, C, H, W), (V, C, H, W) and (M, C, h, w), got {shapes}"
        )
    channels, *low = low_samples.shape[1:]
    levels = (test.shape[2] // max(low[0], 1)).bit_length() - 1
    if levels < 0 or list(test.shape[1:]) != [channels, *(side << levels for side in low)]:
        raise ValueError(
            f"low_samples: expected sides that halving {test.shape[2]}x{test.shape[3]} exactly leads to, "
            f"and {test.shape[1]} channels, got {tuple(low_samples.shape)}"
        )
    return levels


def _best(log_likelihoods: Tensor) -> int:
    return int(log_likelihoods.double().mean(1).argmax())


def _summary(values: Tensor) -> dict[str, float]:
    values = values.double()
    std = values.std(correction=0).item()
    return {
        "mean": values.mean().item(),
        "std": std,
        "standard_error": std / math.sqrt(len(values)),
        "images": len(values),
    }
