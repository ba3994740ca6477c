"""Which backend may run a call, and why the others may not.

| backend   | runs on                                        | made of                   |
| --------- | ---------------------------------------------- | ------------------------- |
| cuda      | CUDA tensors                                   | C++ kernels, csrc/cuda    |
| triton    | CUDA tensors; the interpreter also on the CPU  | Triton kernels, kernels/  |
| cpu       | CPU tensors                                    | C++ kernels, csrc/cpu     |
| reference | any tensor                                     | plain PyTorch             |

The device of the data decides; nothing is copied between devices. By default the first backend in this order that has a kernel
for the call and can run is taken; one that has a kernel and cannot run is passed over with one INFO line, or, with
LAPCORE_STRICT=1, is an error. A backend asked for by name, with `lapcore.backend(...)` or LAPCORE_BACKEND, runs the call or
is an error.
Both variables are read when lapcore is imported.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

import torch
from torch import Tensor

from lapcore import native
from lapcore.errors import BackendError

log = logging.getLogger("lapcore")

ROOMS = {
    "cuda": "lapcore.native.cuda",
    "triton": "lapcore.kernels",
    "cpu": "lapcore.native",
    "reference": "lapcore.reference",
}
NAMES = tuple(ROOMS)
# The families that have kernels; `reference` has all of them.
_EVERYWHERE = frozenset({"gaussian", "likelihood", "masked_conv", "parzen", "pyramid", "random", "vector_quantize"})
FAMILIES: dict[str, frozenset[str]] = {
    "cuda": _EVERYWHERE | {"pixelcnn_sampler"},
    "triton": _EVERYWHERE,
    "cpu": _EVERYWHERE | {"pixelcnn_sampler"},
}
STRICT = os.environ.get("LAPCORE_STRICT", "0") not in ("", "0")

_asked_for: ContextVar[str | None] = ContextVar("lapcore_backend", default=os.environ.get("LAPCORE_BACKEND") or None)
_chosen: dict[tuple[str, torch.device, str | None], ModuleType] = {}


@contextmanager
def backend(name: str) -> Iterator[None]:
    """Runs every lapcore call inside the `with` block on the backend `name`, or raises BackendError where it cannot.

    `name` is "cuda", "triton", "cpu" or "reference". Holds for the current thread or task only.
    """
    check_name(name)
    with asking_for(name):
        yield


def asked_for() -> str | None:
    """The backend that was asked for by name here; None leaves the choice to the device."""
    return _asked_for.get()


@contextmanager
def asking_for(name: str | None) -> Iterator[None]:
    """As `backend`, or, with None, without asking. A gradient is so computed where its forward was, in autograd's threads too."""
    token = _asked_for.set(name)
    try:
        yield
    finally:
        _asked_for.reset(token)


def check_name(name: str) -> None:
    if name not in ROOMS:
        raise ValueError(f"backend: expected one of {', '.join(NAMES)}, got {name!r}")


def interpreting() -> bool:
    """Whether Triton was told to interpret its kernels, which it does on CPU tensors."""
    return os.environ.get("TRITON_INTERPRET", "0") not in ("", "0")


@cache
def have_triton() -> bool:
    return find_spec("triton") is not None


def missing(name: str) -> str | None:
    """Why a backend cannot run anything in this process, and what to do about it; None when it can."""
    if name == "cpu":
        return native.missing()
    if name == "triton":
        if not have_triton():
            return 'triton is not installed; get it with: pip install "lapcore[triton]"'
        if not interpreting() and not torch.cuda.is_available():
            return "no CUDA device, and TRITON_INTERPRET is not set"
    if name == "cuda":
        if reason := native.missing():
            return reason
        if not native.has_cuda():
            return native.missing_cuda()
        if not torch.cuda.is_available():
            return "torch sees no CUDA device"
    return None


def devices(name: str) -> tuple[str, ...]:
    """The types of device whose tensors a backend takes; empty for all of them."""
    if name == "triton" and interpreting():
        return ("cpu", "cuda")
    return {"cuda": ("cuda",), "triton": ("cuda",), "cpu": ("cpu",), "reference": ()}[name]


def can_run(name: str, family: str, device: str) -> str | None:
    """None if backend `name` can run `family` on tensors of that type of device, or why not."""
    if name == "reference":
        return None
    if family not in FAMILIES[name]:
        return f"has no {family} kernels"
    if device not in devices(name):
        return f"runs on {' and '.join(devices(name))} tensors, got a tensor on {device}"
    return missing(name)


def select(family: str, tensors: Sequence[Tensor]) -> ModuleType:
    """The module of the backend that runs a call of `family` on these tensors, which are on one device."""
    return select_for(family, tensors[0].device)


def select_for(family: str, device: torch.device) -> ModuleType:
    """The same for a call that makes tensors on a device."""
    key = family, device, _asked_for.get()
    module = _chosen.get(key)
    if module is None:
        name = _choose(family, key[1].type, key[2])
        module = _chosen[key] = import_module(f"{ROOMS[name]}.{family}")
    return module


def _choose(family: str, device: str, asked_for: str | None) -> str:
    if asked_for is not None:
        check_name(asked_for)
        if reason := can_run(asked_for, family, device):
            raise BackendError(f"backend {asked_for!r} cannot run this {family} call: {reason}")
        return asked_for
    for name in NAMES:
        if name == "triton" and device == "cpu":
            continue  # the interpreter is for tests, which ask for it by name
        reason = can_run(name, family, device)
        if reason is None:
            return name
        if family in FAMILIES[name] and device in devices(name):
            message = f"backend {name!r} was passed over for {family}: {reason}"
            if STRICT:
                raise BackendError(f"{message} (LAPCORE_STRICT=1 makes this an error)")
            log.info(message)
    raise AssertionError("reference runs everything")


def explain(family: str, device: str) -> dict[str, str | None]:
    """Each backend by name, with None if it can run a family's call on such a device, or why it cannot."""
    return {name: can_run(name, family, device) for name in NAMES}
