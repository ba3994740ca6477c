"""Triton's Laplacian loss: values, gradient, and the bits that must not depend on the batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.layouts import LAYOUTS
from tests.oracle import laplacian_loss as oracle
from tests.oracle.laplacian_loss import Recipe
from tests.tolerance import assert_close, assert_same_bits, loss_error, to_numpy

pytest.importorskip("triton", reason="triton is not installed")

from lapcore.kernels import pyramid

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

Shape = tuple[int, ...]
RECIPES = {
    "uniform": ((2, 3, 7, 10), Recipe(levels=3, reduction="sum")),
    "weights, residual": ((2, 5, 6), Recipe(levels=2, weights=[1.0, 0.5, 2.0], include_residual=True, reduction="sum")),
    "cropped": (
        (2, 2, 11, 7),
        Recipe(levels=2, odd="crop", include_residual=True, reduction="sum", border="replicate"),
    ),
    "cut into strips": ((1, 1, 18, 131), Recipe(levels=1, reduction="sum")),
    "masked": (
        (2, 2, 7, 6),
        Recipe(levels=2, include_residual=True, reduction="sum", mask=np.arange(84.0).reshape(2, 1, 7, 6) % 3),
    ),
}


def draw(shape: Shape, dtype: torch.dtype) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64).to(device=DEVICE, dtype=dtype)


def sizes_of(shape: Shape, recipe: Recipe) -> list[tuple[int, int]]:
    sizes = [g[-2:] for g in recipe.shapes(shape)]
    if recipe.odd == "crop":
        sizes = [(h - h % 2, w - w % 2) for h, w in sizes[:-1]] + sizes[-1:]
    return sizes


def run(
    input: torch.Tensor, target: torch.Tensor, recipe: Recipe, with_grad: bool = True
) -> tuple[torch.Tensor, torch.Tensor | None]:
    sizes = sizes_of(tuple(input.shape), recipe)
    masks = None
    if recipe.mask is not None:
        mask = torch.from_numpy(recipe.mask).to(device=DEVICE, dtype=input.dtype)
        masks = [mask[..., :: 2**depth, :: 2**depth][..., :h, :w] for depth, (h, w) in enumerate(sizes)]
    compute = torch.promote_types(input.dtype, torch.float32)
    weights = torch.from_numpy(recipe.level_weights()).to(device=DEVICE, dtype=compute)
    result = pyramid.laplacian_loss(
        input, target, masks, weights.expand(len(input), -1), sizes, recipe.border, with_grad
    )
    assert result is not None
    return result


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("recipe", RECIPES)
def test_loss_and_gradient(recipe: str, dtype: torch.dtype) -> None:
    shape, how = RECIPES[recipe]
    a, b = draw(shape, dtype), draw(shape, dtype)
    loss, grad = run(a, b, how)
    assert loss.shape == (shape[0],) and loss.dtype is torch.promote_types(dtype, torch.float32)
    relative = loss_error(shape, dtype, how.levels)
    magnitude = oracle.laplacian_loss_magnitude(to_numpy(a), to_numpy(b), how)
    assert_close(loss.sum(), oracle.laplacian_loss(to_numpy(a), to_numpy(b), how), relative * magnitude)
    assert grad is not None and grad.dtype is loss.dtype and grad.shape == shape
    want = oracle.laplacian_loss_gradient(to_numpy(a), to_numpy(b), how)
    slack = oracle.laplacian_loss_gradient_slack(to_numpy(a), to_numpy(b), how, relative)
    assert_close(grad, want, slack + torch.finfo(dtype).eps / 2 * (np.abs(want) + slack))
    again, nothing = run(a, b, how, with_grad=False)
    assert nothing is None
    assert_same_bits(again, loss)


def test_samples_do_not_depend_on_their_batch_or_strides() -> None:
    recipe = Recipe(levels=2, include_residual=True, reduction="sum")
    a, b = draw((3, 2, 9, 5), torch.float32), draw((3, 2, 9, 5), torch.float32)
    loss, grad = run(a, b, recipe)
    alone, alone_grad = run(a[1:2], b[1:2], recipe)
    strange, strange_grad = run(LAYOUTS["channels_last"](a), LAYOUTS["strided"](b), recipe)
    assert grad is not None and alone_grad is not None and strange_grad is not None
    assert_same_bits(alone, loss[1:2])
    assert_same_bits(alone_grad, grad[1:2])
    assert_same_bits(strange, loss)
    assert_same_bits(strange_grad, grad)


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
def test_nan_stays_in_its_sample() -> None:
    recipe = Recipe(levels=1, reduction="sum")
    a, b = draw((2, 1, 4, 5), torch.float32), draw((2, 1, 4, 5), torch.float32)
    a[1, 0, 2, 2] = float("nan")
    loss, grad = run(a, b, recipe)
    assert grad is not None
    assert loss.isnan().tolist() == [False, True]
    assert grad[0].isfinite().all() and grad[1].isnan().all()


def test_what_is_not_fused_is_left_to_a_composition() -> None:
    a, weights = draw((1, 4, 4), torch.float32), torch.ones(1, 1)
    assert pyramid.laplacian_loss(a, a, None, weights, [(4, 4), (2, 2)], "circular", True) is None
    assert pyramid.laplacian_loss(a[:0], a[:0], None, weights[:0], [(4, 4), (2, 2)], "reflect", True) is None
