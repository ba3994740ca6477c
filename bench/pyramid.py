"""Pyramids against OpenCV, kornia, kornia-rs, scikit-image, and PyTorch eager and compiled; on a card, against what runs there.

Bytes: level by level, each reads its image, and writes its band and the next image; images that stay in a cache need only the
input and the outputs. The loss reads two images, and writes a gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import ceil, prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

import lapcore

from . import peers
from .harness import (
    Build,
    Case,
    Goal,
    Peers,
    Work,
    able,
    at_most,
    by_backend,
    mean_difference,
    of_ceiling,
    rotated,
    times,
)

Shape = tuple[int, ...]
Goals = tuple[Goal, ...]

Dtype = torch.dtype

FLOAT = torch.float32
# Of the largest value, by which backends may differ; integers may not.
TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.uint8: 0.0}
CHANNELS: dict[str, Any] = {"channel_axis": -1, "preserve_range": True}


def images(shape: Shape, dtype: torch.dtype = torch.float32, device: str = "cpu") -> list[Tensor]:
    """A random image; on a card as many copies of it as make it leave the L2 cache before its turn comes again."""
    if dtype.is_floating_point:
        x = torch.rand(shape, device=device).to(dtype)
    else:
        x = torch.randint(0, 256, shape, device=device).to(dtype)
    if device == "cpu":
        return [x]
    cache = getattr(torch.cuda.get_device_properties(device), "L2_cache_size", 1 << 26)
    return [x, *(x.clone() for _ in range(ceil(4 * cache / x.nbytes) - 1))]


def pixels(shape: Shape, level: int) -> int:
    rows, columns = ((side + (1 << level) - 1) >> level for side in shape[-2:])
    return prod((*shape[:-2], rows, columns))


def pyramid_bytes(x: Tensor, levels: int, band: int) -> int:
    """Of a Laplacian pyramid or its collapse; `band` is the size of a band's element."""
    numels = [pixels(x.shape, level) for level in range(levels + 1)]
    between = 0 if fits_cache(x) else 2 * x.itemsize * sum(numels[1:-1])
    return x.itemsize * numels[0] + band * sum(numels) + between


def gaussian_bytes(x: Tensor, levels: int) -> int:
    numels = [pixels(x.shape, level) for level in range(levels + 1)]
    return x.itemsize * (sum(numels[:-1]) + sum(numels[1:]))


def fits_cache(x: Tensor) -> bool:
    """Whether a plane stays where it need not be fetched again: a processor's first cache, a card's shared memory."""
    return x.shape[-1] * x.shape[-2] * x.itemsize <= 1 << 14


def torch_peers(
    found: Peers, inputs: Sequence[Any], make: Callable[[peers.Step, peers.Step], Callable[[Any], object]]
) -> dict[str, Work]:
    """make(down, up) in both eager styles, and the better one compiled."""
    ways = {f"torch eager: {style}": make(*steps) for style, steps in peers.STYLES.items()}
    if found.wants("torch.compile"):
        ways["torch.compile: slices"] = peers.compiled(make(*peers.STYLES["slices"]))
    return found.only_wanted({who: rotated(function, inputs) for who, function in ways.items()})


# Cases --------------------------------------------------------------------------------------------------------------


def laplacian(
    found: Peers, shape: Shape, dtype: Dtype = FLOAT, device: str = "cpu", levels: int = 3, goals: Goals = ()
) -> Case:
    xs = images(shape, dtype, device)
    x = xs[0]
    rivals: dict[str, Work] = {}
    if device == "cpu":
        rivals |= peers.opencv(found, x, lambda cv2, image: peers.cv2_laplacian(cv2, image, levels))
    if device == "cpu" and dtype == FLOAT:
        arrays = peers.images_of(x)
        rivals |= peers.each(found, "kornia-rs", arrays, lambda rs, image: peers.kornia_rs_laplacian(rs, image, levels))
        rivals |= peers.each(
            found, "scikit-image", arrays, lambda sk, image: list(sk.pyramid_laplacian(image, levels, **CHANNELS))
        )
    if dtype.is_floating_point:
        rivals |= peers.kornia(found, "build_laplacian_pyramid", xs, levels + 1)
        rivals |= torch_peers(found, xs, lambda down, up: lambda x: peers.laplacian(x, levels, down, up))
    ours = by_backend(rotated(lambda x: lapcore.laplacian_pyramid(x, levels), xs), "laplacian_pyramid", x)
    moved = pyramid_bytes(x, levels, 2 if dtype == torch.uint8 else x.itemsize)
    return Case("laplacian_pyramid", moved, ours, rivals, goals, tolerance=TOLERANCES[dtype])


def laplacian_plan(found: Peers, shape: Shape, device: str = "cpu", levels: int = 3, goals: Goals = ()) -> Case:
    """Into memory that is there already: PyramidPlan against OpenCV with dst; on a card, as a CUDA graph."""
    xs = images(shape, device=device)
    x = xs[0]

    def arrays(cv2: Any, image: peers.Array) -> tuple[peers.Array, list[peers.Array], list[peers.Array]]:
        levels_of_image = peers.cv2_gaussian(cv2, image, levels)
        return image, [np.empty_like(level) for level in levels_of_image[:-1]], levels_of_image[1:]

    rivals: dict[str, Work] = {}
    if device == "cpu":
        rivals = peers.opencv(found, x, lambda cv2, item: peers.cv2_laplacian_into(cv2, *item), arrays)
    plans = [lapcore.PyramidPlan(shape, levels, device=device) for _ in xs]
    work = rotated(lambda planned: planned[0](planned[1]), list(zip(plans, xs, strict=True)))
    if device == "cuda":
        work = captured(work, len(xs))
    ours: dict[str, Work] = {f"lapcore {able('laplacian_pyramid', x)[0]}": work}
    expected = partial(lapcore.laplacian_pyramid, x, levels)
    return Case("PyramidPlan", pyramid_bytes(x, levels, x.itemsize), ours, rivals, goals, expected)


def captured(work: Work, calls: int) -> Work:
    """Each of the next calls as a CUDA graph, replayed in turn."""
    for _ in range(calls):
        work()
    torch.cuda.synchronize()
    recorded = []
    for _ in range(calls):
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = work()
        recorded.append((graph, result))

    def replay(item: tuple[torch.cuda.CUDAGraph, object]) -> object:
        item[0].replay()
        return item[1]

    return rotated(replay, recorded)


def collapse(
    found: Peers, shape: Shape, dtype: Dtype = FLOAT, device: str = "cpu", levels: int = 3, goals: Goals = ()
) -> Case:
    xs = images(shape, dtype, device)
    pyramids = [list(lapcore.laplacian_pyramid(x, levels)) for x in xs]
    rivals: dict[str, Work] = {}
    if device == "cpu":
        rivals |= peers.opencv(
            found, xs[0], peers.cv2_collapse, lambda cv2, image: peers.cv2_laplacian(cv2, image, levels)
        )
        split = list(zip(*map(peers.images_of, pyramids[0]), strict=True))
        rivals |= peers.each(found, "kornia-rs", split, peers.kornia_rs_collapse)
    rivals |= torch_peers(found, pyramids, lambda down, up: lambda pyramid: peers.collapse(pyramid, up))
    ours = by_backend(rotated(lapcore.collapse, pyramids), "collapse", pyramids[0])
    moved = pyramid_bytes(xs[0], levels, xs[0].itemsize)
    return Case("collapse", moved, ours, rivals, goals, tolerance=TOLERANCES[dtype])


def gaussian(found: Peers, shape: Shape, levels: int = 3) -> Case:
    xs = images(shape)
    arrays = peers.images_of(xs[0])
    rivals = {
        **peers.opencv(found, xs[0], lambda cv2, image: peers.cv2_gaussian(cv2, image, levels)),
        **peers.each(found, "kornia-rs", arrays, lambda rs, image: rs.build_pyramid(image, levels)),
        **peers.each(
            found, "scikit-image", arrays, lambda sk, image: list(sk.pyramid_gaussian(image, levels, **CHANNELS))
        ),
        **peers.kornia(found, "build_pyramid", xs, levels + 1),
        **torch_peers(found, xs, lambda down, up: lambda x: peers.gaussian(x, levels, down)),
    }
    ours = by_backend(lambda: lapcore.gaussian_pyramid(xs[0], levels), "gaussian_pyramid", xs[0])
    return Case("gaussian_pyramid", gaussian_bytes(xs[0], levels), ours, rivals)


def down(found: Peers, shape: Shape, dtype: Dtype, goals: Goals = ()) -> Case:
    xs = images(shape, dtype)
    arrays = peers.images_of(xs[0])
    rivals = {
        **peers.opencv(found, xs[0], lambda cv2, image: cv2.pyrDown(image)),
        **peers.each(found, "kornia-rs", arrays, lambda rs, image: rs.pyrdown(image)),
        **peers.each(found, "scikit-image", arrays, lambda sk, image: sk.pyramid_reduce(image, **CHANNELS)),
        **peers.kornia(found, "pyrdown", xs),
        **torch_peers(found, xs, lambda down, up: peers.to_type(down, dtype)),
    }
    ours = by_backend(lambda: lapcore.pyr_down(xs[0]), "pyr_down", xs[0])
    return Case("pyr_down", xs[0].nbytes * 5 // 4, ours, rivals, goals, tolerance=TOLERANCES[dtype])


def up(found: Peers, shape: Shape, dtype: Dtype, goals: Goals = ()) -> Case:
    xs = images(shape, dtype)
    arrays = peers.images_of(xs[0])
    rivals = {
        **peers.opencv(found, xs[0], lambda cv2, image: cv2.pyrUp(image)),
        **peers.each(found, "kornia-rs", arrays, lambda rs, image: rs.pyrup(image)),
        **peers.each(found, "scikit-image", arrays, lambda sk, image: sk.pyramid_expand(image, **CHANNELS)),
        **peers.kornia(found, "pyrup", xs),
        **torch_peers(found, xs, lambda down, up: peers.to_type(up, dtype)),
    }
    ours = by_backend(lambda: lapcore.pyr_up(xs[0]), "pyr_up", xs[0])
    return Case("pyr_up", xs[0].nbytes * 5, ours, rivals, goals, tolerance=TOLERANCES[dtype])


def interleaved(found: Peers, name: str, shape: Shape, dtype: Dtype) -> Case:
    """OpenCV's own ground: an (H, W, C) image in, an (H, W, C) array that is there already out."""
    function, scale = {"pyr_down": (lapcore.pyr_down, 0.5), "pyr_up": (lapcore.pyr_up, 2.0)}[name]
    x = images(shape, dtype)[0].permute(1, 2, 0).contiguous().permute(2, 0, 1)
    size = tuple(round(side * scale) for side in shape[-2:])
    out = torch.empty(*size, shape[0], dtype=dtype).permute(2, 0, 1)
    image, target = (t.permute(1, 2, 0).numpy() for t in (x, torch.empty_like(out)))
    work = {
        "pyr_down": lambda cv2, _: cv2.pyrDown(image, dst=target),
        "pyr_up": lambda cv2, _: cv2.pyrUp(image, dst=target),
    }
    rivals = peers.each(found, "opencv: interleaved, dst", [None], work[name])
    ours = by_backend(lambda: function(x, out=out), name, x)
    return Case(name, x.nbytes + out.nbytes, ours, rivals, tolerance=TOLERANCES[dtype])


def loss(found: Peers, shape: Shape, backward: bool, device: str = "cpu", levels: int = 5, goals: Goals = ()) -> Case:
    xs = images(shape, device=device)
    pairs = [(x.requires_grad_(backward), y) for x, y in zip(xs, images(shape, device=device), strict=True)]

    def finish(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[tuple[Tensor, Tensor]], object]:
        if not backward:
            return lambda pair: function(*pair)
        return lambda pair: torch.autograd.grad(function(*pair), pair[0])

    rivals = {"RIFE's loss": finish(partial(peers.rife_loss, levels=levels))}
    for style, steps in peers.STYLES.items():
        function = partial(peers.loss, levels=levels, down=steps[0], up=steps[1])
        rivals[f"torch eager: {style}"] = finish(function)
        if found.wants("torch.compile"):
            rivals[f"torch.compile: {style}"] = finish(peers.compiled(function))
    works = found.only_wanted({who: rotated(function, pairs) for who, function in rivals.items()})
    if device == "cpu" and not backward:
        both = list(zip(*map(peers.images_of, pairs[0]), strict=True))
        works |= peers.each(found, "opencv", both, lambda cv2, pair: peers.cv2_loss(cv2, pair[0], pair[1], levels))
    ours = by_backend(rotated(finish(partial(lapcore.laplacian_loss, levels=levels)), pairs), "laplacian_loss", xs[0])
    moved = xs[0].nbytes * (3 if backward else 2)
    if not backward:
        return Case("laplacian_loss", moved, ours, works, goals)
    return Case("laplacian_loss", moved, ours, works, goals, difference=mean_difference, tolerance=1e-4)


def blend(found: Peers, shape: Shape, levels: int = 3) -> Case:
    a, b, mask = (images(shape)[0] for _ in range(3))

    def by_slices() -> Tensor:
        bands = peers.laplacian(a - b, levels, *peers.STYLES["slices"])
        masks = peers.gaussian(mask, levels, peers.sliced_down)
        return b + peers.collapse([band * m for band, m in zip(bands, masks, strict=True)], peers.sliced_up)

    def by_opencv(cv2: Any, item: Sequence[peers.Array]) -> object:
        bands = peers.cv2_laplacian(cv2, cv2.subtract(item[0], item[1]), levels)
        masks = peers.cv2_gaussian(cv2, item[2], levels)
        return cv2.add(
            item[1], peers.cv2_collapse(cv2, [cv2.multiply(x, m) for x, m in zip(bands, masks, strict=True)])
        )

    rivals = peers.each(found, "opencv", list(zip(*map(peers.images_of, (a, b, mask)), strict=True)), by_opencv)
    rivals |= found.only_wanted({"torch eager: slices": by_slices})
    ours = by_backend(lambda: lapcore.blend(a, b, mask, levels), "blend", a)
    return Case("blend", 4 * a.nbytes, ours, rivals)


def host_time(found: Peers, op: str, gradient: bool, goals: Goals) -> Case:
    """What a call costs before any pixel: on a 4x4 image, a pyramid of three levels."""
    x = torch.rand(1, 1, 4, 4, requires_grad=gradient)
    image = x.detach().numpy()[0, 0]
    if op == "pyr_down":
        ours = by_backend(lambda: lapcore.pyr_down(x), op, x)
        rivals = peers.each(found, "opencv", [image], lambda cv2, image: cv2.pyrDown(image))
        rivals |= found.only_wanted({"torch eager: slices": lambda: peers.sliced_down(x)})
    else:
        ours = by_backend(lambda: lapcore.laplacian_pyramid(x, 3), op, x)
        rivals = peers.each(found, "opencv", [image], lambda cv2, image: peers.cv2_laplacian(cv2, image, 3))
    return Case(op, 0, ours, rivals, goals)


def named(op: str, shape: Shape, *what: str) -> str:
    return " ".join((op, "x".join(map(str, shape)), *what))


def cases(found: Peers) -> dict[str, Build]:
    """Every case by name, built when it is measured."""
    hd = (1, 3, 1080, 1920)
    laplacians: dict[Shape, Goals] = {
        hd: (times("C1", "opencv", 6, aim=8), of_ceiling("C1", 70, aim=85)),
        (256, 3, 32, 32): (times("C2", "opencv", 20), times("C2", "kornia", 50)),
        (64, 3, 64, 64): (times("C2", "opencv", 10), times("C2", "kornia", 50)),
        (16, 3, 256, 256): (),
    }
    training = (16, 3, 224, 224)
    built: dict[str, Build] = {
        named("laplacian_pyramid", shape, "3 levels float32"): partial(laplacian, found, shape, goals=goals)
        for shape, goals in laplacians.items()
    }
    built[named("laplacian_pyramid", hd, "3 levels uint8")] = partial(laplacian, found, hd, torch.uint8)
    built[named("PyramidPlan", hd, "3 levels float32")] = partial(laplacian_plan, found, hd)
    built[named("collapse", hd, "3 levels float32")] = partial(collapse, found, hd, goals=(times("C5", "opencv", 6),))
    built[named("gaussian_pyramid", hd, "3 levels float32")] = partial(gaussian, found, hd)
    for dtype in (FLOAT, torch.uint8):
        name = str(dtype).removeprefix("torch.")
        built[named("pyr_down", hd, name)] = partial(down, found, hd, dtype, goals=(times("C4", "opencv", 1, aim=1.2),))
        built[named("pyr_up", hd, name)] = partial(up, found, hd, dtype, goals=(times("C3", "opencv", 4),))
        for op in ("pyr_down", "pyr_up"):
            built[named(op, (1080, 1920, 3), name, "out=")] = partial(interleaved, found, op, hd[1:], dtype)
    for backward, needed in ((False, 4), (True, 5)):
        goals = (times("C6", "torch.compile", needed),)
        name = named("laplacian_loss", training, "5 levels", "forward+backward" if backward else "forward")
        built[name] = partial(loss, found, training, backward, goals=goals)
    built[named("blend", hd, "3 levels float32")] = partial(blend, found, hd)
    for op in ("pyr_down", "laplacian_pyramid"):
        for gradient, most in ((False, 12), (True, 25)):
            name = f"host time of {op} 1x1x4x4{' 3 levels' * (op != 'pyr_down')}{' with gradient' * gradient}"
            built[name] = partial(host_time, found, op, gradient, goals=(at_most("C11", most),))
    return built
