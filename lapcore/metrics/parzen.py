"""Parzen-window log-likelihoods of images under samples, the measure of Goodfellow et al. 2014, at one scale and at several.

A Gaussian kernel of standard deviation sigma stands around every sample; sigma is chosen on validation images. Units: nats, of
images in [0, 1], as the published tables have them: another range moves the result by D ln of the factor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lapcore.nn.haar import haar_merge as haar_merge
from lapcore.nn.haar import haar_split as haar_split
from lapcore.ops.parzen import parzen_log_likelihood
from lapcore.sampling import Sampler, sample_blocks

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
    on_images: Callable[[int], None] = lambda count: None,
) -> dict[str, dict[str, float]]:
    """`parzen` of uint8 images (N, C, H, W) under samples of a model: {"parzen": ...}.

    The samples are the images that `lapcore sample` writes for seeds `seed` to `seed + samples - 1` at this `batch`; where the
    model has classes, one of each in turn. All are compared in [0, 1], as uint8 / 255, on the model's device.
    `on_images(n)` is called as samples are drawn. Errors: ValueError, TypeError naming the argument.
    """
    for name, images in (("test", test), ("validation", validation)):
        if images.dtype != torch.uint8:
            raise TypeError(f"{name}: expected uint8, got {images.dtype}")
    if samples < 1:
        raise ValueError(f"samples: expected at least 1, got {samples}")
    labels = None if model.num_classes is None else range(model.num_classes)
    drawn = []
    for _, images in sample_blocks(model, [range(seed, seed + samples)], labels=labels, batch=batch):
        drawn.append(images)
        on_images(len(images))
    unit = [images.to(model.device) / 255 for images in (test, validation, torch.cat(drawn))]
    return {"parzen": parzen(unit[0], unit[1], unit[2])}


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
