"""Compiles, without a GPU, the very kernels that calls would launch, and prints what each of them uses.

    python -m tests.kernels.ahead ARCHITECTURE NAME:DTYPE:SIDE ...

The launchers run on CPU tensors under a driver that claims a GPU of that architecture, and every launch stops short of the launch.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.driver import driver
from triton.runtime.jit import JITFunction

from lapcore.kernels import gaussian as gaussians
from lapcore.kernels import likelihood, masked_conv, pyramid, random
from lapcore.kernels import parzen as parzen_kernels
from lapcore.kernels import vector_quantize as vector_quantize_kernels


class Claimed:
    """As much of a driver as compiling asks for."""

    def __init__(self, architecture: int) -> None:
        self.target = GPUTarget("cuda", architecture, 32)

    def get_current_target(self) -> GPUTarget:
        return self.target

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


@contextmanager
def compiling(architecture: int) -> Iterator[list[Any]]:
    """Collects what is compiled inside."""
    kernels: list[Any] = []
    run = JITFunction.run

    def compile_only(self: JITFunction, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
        kernels.append(run(self, *args, grid=grid, warmup=True, **kwargs))

    driver.set_active(Claimed(architecture))
    with mock.patch.object(JITFunction, "run", compile_only):
        yield kernels


def resources(cubin: bytes) -> dict[str, int]:
    """Registers, stack and local memory of a thread, in the words of cuobjdump."""
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [tool, "--dump-resource-usage", file.name]
        report = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {key: int(value) for key, value in re.findall(r"(REG|STACK|LOCAL):(\d+)", report)}


def sizes(side: int, levels: int) -> list[tuple[int, int]]:
    return [(side >> level, side >> level) for level in range(levels + 1)]


def levels_of(side: int) -> int:
    """One where that takes a launch, two where two do not take more."""
    return 2 if side <= 64 else 1


def images(dtype: torch.dtype, shape: list[tuple[int, int]]) -> list[torch.Tensor]:
    return [torch.zeros(4, *size, dtype=dtype) for size in shape]


def laplacian(dtype: torch.dtype, side: int) -> None:
    every = sizes(side, levels_of(side))
    pyramid.laplacian_pyramid(images(dtype, every[:1]), every, "binomial", "reflect")


def laplacian_adjoint(dtype: torch.dtype, side: int) -> None:
    every = sizes(side, levels_of(side))
    pyramid.laplacian_pyramid_adjoint(images(dtype, every), every, "binomial", "reflect")


def collapse(dtype: torch.dtype, side: int) -> None:
    every = sizes(side, levels_of(side))
    pyramid.collapse(images(dtype, every), every, "binomial", "reflect")


def gaussian(dtype: torch.dtype, side: int) -> None:
    every = sizes(side, levels_of(side))
    pyramid.gaussian_pyramid(images(dtype, every[:1]), every, "binomial", "reflect")


def collapse_adjoint(dtype: torch.dtype, side: int) -> None:
    every = sizes(side, levels_of(side))
    pyramid.collapse_adjoint(images(dtype, every[:1]), every, "binomial", "reflect")


def loss(dtype: torch.dtype, side: int) -> None:
    input, target = images(dtype, sizes(side, 0) * 2)
    coefficients = torch.ones(4, 2, dtype=torch.promote_types(dtype, torch.float32))
    masks = images(dtype, sizes(side, 1))
    pyramid.laplacian_loss(input, target, masks, coefficients, sizes(side, 1), "reflect", True)


def circular(dtype: torch.dtype, side: int) -> None:
    fine, low = images(dtype, sizes(side, 1))
    pyramid.apply("down", fine, low.shape[-2:], "binomial", "circular")
    pyramid.apply("up", low, fine.shape[-2:], "binomial", "circular", fine, -1)
    if dtype.is_floating_point:
        pyramid.apply("down_adjoint", low, fine.shape[-2:], "binomial", "circular", fine)
        pyramid.apply("up_adjoint", fine, low.shape[-2:], "binomial", "circular", low, -1)


def table(dtype: torch.dtype, side: int) -> None:
    fine, low = images(dtype, sizes(side, 1))
    taps = (
        torch.zeros(6, side, dtype=torch.int64),
        torch.zeros(6, side, dtype=torch.promote_types(dtype, torch.float32)),
    )
    pyramid.apply("up", low, fine.shape[-2:], "half_pixel", "reflect", fine, -1, tables=(*taps, *taps))


def vector_quantize(dtype: torch.dtype, side: int) -> None:
    z, codebook = torch.zeros(100, side, dtype=dtype), torch.zeros(200, side, dtype=dtype)
    vector_quantize_kernels.vector_quantize(z, codebook)


def parzen(dtype: torch.dtype, side: int) -> None:
    x, samples = torch.zeros(100, side, dtype=dtype), torch.zeros(200, side, dtype=dtype)
    for sigmas in ([0.5], [0.1 * i for i in range(1, 11)]):
        parzen_kernels.parzen_log_likelihood(x, samples, sigmas)


def normal(dtype: torch.dtype, side: int) -> None:
    for seeds in (torch.tensor([3]), torch.arange(4)):
        random.normal((4, side * side), seeds, 0, seeds.device, dtype)


def uniform(dtype: torch.dtype, side: int) -> None:
    random.uniform((4, side * side), torch.tensor([3]), 0, torch.device("cpu"), dtype)


def bits(dtype: torch.dtype, side: int) -> None:
    random.bits((4, side * side), torch.arange(4), 0, torch.device("cpu"))


def mixture(dtype: torch.dtype, side: int, channels: int = 3, mode: str = "exact") -> None:
    params, x = (torch.zeros(4, size, side, side) for size in (20 if channels == 3 else 6, channels))
    params, x = params.to(dtype), x.to(torch.promote_types(dtype, torch.float32))
    likelihood.discretized_logistic_mixture_nll(params, x, mode)
    likelihood.discretized_logistic_mixture_nll_backward(x[:, 0, 0, 0], params, x, mode, channels == 3)
    for seeds in (torch.tensor([3]), torch.arange(4)):
        likelihood.sample_discretized_logistic_mixture(params, channels, seeds, 0, True)


def grey_mixture(dtype: torch.dtype, side: int) -> None:
    mixture(dtype, side, 1, "official")


def rows(dtype: torch.dtype, side: int, count: int) -> list[torch.Tensor]:
    return [torch.zeros(4, side * side, dtype=dtype) for _ in range(count)]


def sums(dtype: torch.dtype) -> torch.Tensor:
    return torch.zeros(4, dtype=torch.promote_types(dtype, torch.float32))


def reparameterize_kl(dtype: torch.dtype, side: int) -> None:
    gaussians.reparameterize_kl(*rows(dtype, side, 2), None, None, torch.arange(4), 0)


def reparameterize_kl_backward(dtype: torch.dtype, side: int) -> None:
    grad, mean, logvar = rows(dtype, side, 3)
    gaussians.reparameterize_kl_backward(grad, sums(dtype), mean, logvar, None, None, torch.arange(4), 0)


def learned_prior(dtype: torch.dtype, side: int) -> None:
    grad, *moments = rows(dtype, side, 5)
    gaussians.reparameterize_kl(*moments, torch.tensor([3]), 0)
    gaussians.reparameterize_kl_backward(grad, sums(dtype), *moments, torch.tensor([3]), 0)


def reparameterize(dtype: torch.dtype, side: int) -> None:
    grad, mean, logvar = rows(dtype, side, 3)
    gaussians.reparameterize(mean, logvar, torch.tensor([3]), 0)
    gaussians.reparameterize_backward(grad, logvar, torch.tensor([3]), 0)


def nll(dtype: torch.dtype, side: int) -> None:
    moments = rows(dtype, side, 3)
    gaussians.gaussian_nll(*moments)
    gaussians.gaussian_nll_backward(sums(dtype), *moments)


def masked(dtype: torch.dtype, channels: int, groups: int, shape: tuple[int, int], activation: str) -> None:
    """Forward and backward, with vectors as condition and from images whose rows are to be made first."""
    x, weight = torch.zeros(4, channels, 32, 32, dtype=dtype), torch.zeros(256, channels, *shape, dtype=dtype)
    bias, condition = torch.zeros(256, dtype=dtype), torch.zeros(4, 256, dtype=dtype)
    gated, grad = activation == "gated", torch.zeros(4, 256, 32, 32, dtype=dtype)
    masked_conv.masked_conv2d(x, weight, bias, condition, "B", groups, 1, activation, gated)
    masked_conv.masked_conv2d_backward(grad, x, weight, "B", groups, gated, 1, (True, True))


def masked_plain(dtype: torch.dtype, channels: int) -> None:
    masked(dtype, channels, 1, (3, 3), "relu")


def masked_groups(dtype: torch.dtype, channels: int) -> None:
    masked(dtype, channels, 3, (3, 3), "gated")


def masked_tf32(dtype: torch.dtype, channels: int) -> None:
    before = torch.backends.cuda.matmul.allow_tf32
    try:
        torch.backends.cuda.matmul.allow_tf32 = True
        masked_plain(dtype, channels)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def masked_strided(dtype: torch.dtype, channels: int) -> None:
    x, weight = torch.zeros(4, channels, 32, 32, dtype=dtype), torch.zeros(64, channels, 2, 3, dtype=dtype)
    y = masked_conv.masked_conv2d(x, weight, None, torch.zeros(4, 64, 16, 16, dtype=dtype), "rows", 1, 2, "none", False)
    masked_conv.masked_conv2d_backward(y, x, weight, "rows", 1, False, 2, (True, True))


def gates(dtype: torch.dtype, channels: int) -> None:
    x = torch.zeros(4, channels, 32, 32, dtype=dtype)
    y = masked_conv.gated_activation(x, "tanh")
    masked_conv.gated_activation_backward(y, x, "tanh")
    masked_conv.concat_elu_backward(masked_conv.concat_elu(x), x)


CASES: dict[str, Callable[[torch.dtype, int], None]] = {
    each.__name__: each
    for each in (
        *(laplacian, laplacian_adjoint, collapse, gaussian, collapse_adjoint, loss, circular, table),
        *(bits, uniform, normal, mixture, grey_mixture, vector_quantize, parzen),
        *(reparameterize, reparameterize_kl, reparameterize_kl_backward, learned_prior, nll),
        *(masked_plain, masked_groups, masked_tf32, masked_strided, gates),
    )
}


def main(architecture: str, *cases: str) -> None:
    """Every case is NAME:DTYPE:SIDE."""
    report = {}
    for case in cases:
        name, dtype, side = case.split(":")
        with compiling(int(architecture)) as kernels:
            CASES[name](getattr(torch, dtype), int(side))
        for kernel in kernels:
            used = resources(kernel.asm["cubin"])
            used["VECTORS"] = len(re.findall(r"(?:ld|st)\.global\S*\.v4\.b32", kernel.asm["ptx"]))
            used["TENSOR"] = len(re.findall(r"\b(?:wgmma\.mma_async|mma\.sync|tcgen05\.mma)", kernel.asm["ptx"]))
            used["ASYNC"] = len(re.findall(r"cp\.async\.cg\.shared\.global .*, 0x10,", kernel.asm["ptx"]))
            report[f"{case} {kernel.name} {kernel.hash[:8]}"] = used
    print(json.dumps(report))


if __name__ == "__main__":
    main(*sys.argv[1:])
