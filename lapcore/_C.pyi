from collections.abc import Sequence

Tensor = tuple[int, Sequence[int], Sequence[int]]

has_cuda: bool

def isa() -> str: ...
def isas() -> list[str]: ...
def use_isa(name: str) -> None: ...
def pyramid_apply(
    op: int,
    dtype: int,
    border: int,
    threads: int,
    src: Tensor,
    dst: int,
    height: int,
    width: int,
    base: Tensor | None,
    alpha: float,
) -> None: ...
def laplacian_pyramid(dtype: int, border: int, threads: int, x: Tensor, out: Sequence[int]) -> None: ...
def cuda_pyramid_apply(
    op: int,
    dtype: int,
    border: int,
    stream: int,
    src: Tensor,
    dst: int,
    height: int,
    width: int,
    base: Tensor | None,
    alpha: float,
) -> None: ...
def collapse(dtype: int, border: int, threads: int, pyramid: Sequence[Tensor], out: int) -> None: ...
