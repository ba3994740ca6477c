from collections.abc import Sequence

Tensor = tuple[int, tuple[int, ...], tuple[int, ...]]
Taps = tuple[int, int, int]  # addresses of index and weight, taps per output

Rows = tuple[int, int]  # address, stride of a row of contiguous elements
Seeds = tuple[int, int, bool, int]  # address, stride, whether there is one for each row, stream

has_cuda: bool

class Block:
    def __init__(self, bytes: int) -> None: ...
    def __buffer__(self, flags: int) -> memoryview: ...

def release_kept_blocks() -> int: ...
def isa() -> str: ...
def isas() -> list[str]: ...
def use_isa(name: str) -> None: ...
def pyramid_apply(
    op: int,
    dtype: int,
    border: int,
    threads: int,
    src: Tensor,
    dst: Tensor,
    base: Tensor | None,
    alpha: float,
    tables: tuple[Taps, Taps] | None,
) -> None: ...
def gaussian_pyramid(dtype: int, border: int, threads: int, x: Tensor, out: Sequence[Tensor]) -> None: ...
def laplacian_pyramid(
    dtype: int, border: int, threads: int, x: Tensor, out: Sequence[Tensor], work: Sequence[int]
) -> None: ...
def collapse(
    dtype: int, border: int, threads: int, pyramid: Sequence[Tensor], out: Tensor, work: Sequence[int]
) -> None: ...
def laplacian_loss(
    dtype: int,
    border: int,
    threads: int,
    input: Tensor,
    target: Tensor,
    masks: Sequence[Tensor],
    sizes: Sequence[Sequence[int]],
    samples: int,
    weighted: int,
    coefficients: int,
    loss: int,
    grad: Tensor | None,
) -> None: ...

class PixelProgram:
    def run(
        self,
        threads: int,
        images: int,
        noise: int,
        noise_rows: int,
        given: int,
        known: int,
        conditions: Sequence[tuple[int, int, bool]],
        out: int,
    ) -> None: ...

def compile_pixel_program(
    size: tuple[int, int],
    channels: int,
    groups: int,
    maps: Sequence[Sequence[int]],
    steps: Sequence[Sequence[int]],
    weights: int,
    head: tuple[bool, int, int],
) -> PixelProgram: ...
def categorical(dtype: int, threads: int, rows: int, levels: int, logits: int, u: int, indices: int) -> None: ...
def random_draw(
    distribution: int, dtype: int, threads: int, seeds: Seeds, rows: int, length: int, out: int
) -> None: ...
def gaussian_forward(
    dtype: int, threads: int, shape: tuple[int, int], moments: Sequence[Rows | None], seeds: Seeds, z: int, kl: int
) -> None: ...
def gaussian_backward(
    dtype: int,
    threads: int,
    shape: tuple[int, int],
    grad_z: Rows | None,
    grad_kl: int,
    moments: Sequence[Rows | None],
    seeds: Seeds,
    gradients: Sequence[Rows | None],
) -> None: ...
def gaussian_nll(
    dtype: int, threads: int, shape: tuple[int, int], x: Rows, mean: Rows, logvar: Rows, out: int
) -> None: ...
def gaussian_nll_backward(
    dtype: int,
    threads: int,
    shape: tuple[int, int],
    grad: int,
    x: Rows,
    mean: Rows,
    logvar: Rows,
    d_x: int,
    d_mean: int,
    d_logvar: int,
) -> None: ...
def parzen_log_likelihood(
    dtype: int, threads: int, x: Tensor, samples: Tensor, sigmas: Sequence[float], result: int
) -> None: ...
def vector_quantize(dtype: int, threads: int, z: Tensor, codebook: Tensor, quantized: int, indices: int) -> None: ...

Live = tuple[int, Sequence[int]]  # how many taps are whole, the input channels of the next for each output channel

def masked_conv2d(
    dtype: int,
    threads: int,
    live: Live,
    stride: int,
    x: Tensor,
    weight: Tensor,
    bias: int,
    condition: int,
    per_pixel: bool,
    activation: int,
    y: Tensor,
) -> None: ...
def masked_conv2d_backward_input(
    dtype: int, threads: int, live: Live, grad: Tensor, weight: Tensor, dx: Tensor
) -> None: ...
def masked_conv2d_backward_weight(
    dtype: int, threads: int, live: Live, stride: int, grad: Tensor, x: Tensor, d_weight: Tensor
) -> None: ...
def gated_activation(dtype: int, threads: int, first: int, rows: int, half: int, x: int, y: int) -> None: ...
def gated_activation_backward(
    dtype: int, threads: int, first: int, rows: int, half: int, grad: int, x: int, dx: int
) -> None: ...
def concat_elu(dtype: int, threads: int, rows: int, half: int, x: int, y: int) -> None: ...
def concat_elu_backward(dtype: int, threads: int, rows: int, half: int, grad: int, x: int, dx: int) -> None: ...
def mixture_nll(
    dtype: int, threads: int, channels: int, official: bool, params: Tensor, x: Tensor, out: int
) -> None: ...
def mixture_nll_backward(
    dtype: int,
    threads: int,
    channels: int,
    official: bool,
    grad: int,
    params: Tensor,
    x: Tensor,
    d_params: int,
    d_x: int,
) -> None: ...
def mixture_sample(
    dtype: int, threads: int, channels: int, snap: bool, params: Tensor, seeds: Seeds, out: int
) -> None: ...
def cuda_gaussian_parts(rows: int, length: int) -> int: ...
def cuda_gaussian_forward(
    dtype: int,
    stream: int,
    shape: tuple[int, int],
    moments: Sequence[Rows | None],
    seeds: Seeds,
    z: int,
    kl: int,
    parts: int,
) -> None: ...
def cuda_gaussian_backward(
    dtype: int,
    stream: int,
    shape: tuple[int, int],
    grad_z: Rows | None,
    grad_kl: int,
    moments: Sequence[Rows | None],
    seeds: Seeds,
    gradients: Sequence[Rows | None],
) -> None: ...
def cuda_gaussian_nll(
    dtype: int, stream: int, shape: tuple[int, int], x: Rows, mean: Rows, logvar: Rows, out: int, parts: int
) -> None: ...
def cuda_gaussian_nll_backward(
    dtype: int,
    stream: int,
    shape: tuple[int, int],
    grad: int,
    x: Rows,
    mean: Rows,
    logvar: Rows,
    d_x: int,
    d_mean: int,
    d_logvar: int,
) -> None: ...

Masked = tuple[int, int, bool, bool, int]  # whole taps, groups of the next, own, halves, stride

def cuda_masked_conv2d_work(dtype: int, masked: Masked, weight: Tensor) -> int: ...
def cuda_masked_conv2d(
    dtype: int,
    stream: int,
    masked: Masked,
    x: Tensor,
    weight: Tensor,
    bias: int,
    condition: Tensor | None,
    activation: int,
    out: Tensor,
    work: int,
) -> None: ...
def cuda_masked_conv2d_backward_input(
    dtype: int, stream: int, masked: Masked, grad: Tensor, weight: Tensor, dx: Tensor, work: int
) -> None: ...
def cuda_masked_conv2d_backward_weight_work(dtype: int, masked: Masked, weight: Tensor, pixels: int) -> int: ...
def cuda_masked_conv2d_backward_weight(
    dtype: int, stream: int, masked: Masked, grad: Tensor, x: Tensor, dw: Tensor, work: int
) -> None: ...
def cuda_gated_activation(dtype: int, stream: int, shape: tuple[int, int], first: int, x: Rows, y: int) -> None: ...
def cuda_gated_activation_backward(
    dtype: int, stream: int, shape: tuple[int, int], first: int, grad: Rows, x: Rows, dx: int
) -> None: ...
def cuda_concat_elu(dtype: int, stream: int, shape: tuple[int, int], x: Rows, y: int) -> None: ...
def cuda_concat_elu_backward(dtype: int, stream: int, shape: tuple[int, int], grad: Rows, x: Rows, dx: int) -> None: ...
def cuda_sample_program_work(numbers: Sequence[int], one_place: Sequence[int], images: int) -> int: ...
def cuda_sample_program(
    stream: int,
    numbers: Sequence[int],
    one_place: Sequence[int],
    tables: Sequence[int],
    images: int,
    seeds: Seeds,
    conditions: int,
    given: int,
    known: int,
    out: int,
    work: int,
) -> None: ...
def cuda_categorical(dtype: int, stream: int, rows: int, levels: int, logits: int, u: int, indices: int) -> None: ...
def cuda_mixture_parts(pixels: int) -> int: ...
def cuda_mixture_nll(
    dtype: int, stream: int, channels: int, official: bool, params: Tensor, x: Tensor, parts: int, out: int
) -> None: ...
def cuda_mixture_nll_backward(
    dtype: int,
    stream: int,
    channels: int,
    official: bool,
    grad: int,
    params: Tensor,
    x: Tensor,
    d_params: int,
    d_x: int,
) -> None: ...
def cuda_mixture_sample(
    dtype: int, stream: int, channels: int, snap: bool, params: Tensor, seeds: Seeds, out: int
) -> None: ...
def cuda_random_draw(
    distribution: int, dtype: int, stream: int, seeds: Seeds, rows: int, length: int, out: int
) -> None: ...
def cuda_pyramid_apply(
    op: int,
    dtype: int,
    border: int,
    stream: int,
    src: Tensor,
    dst: Tensor,
    base: Tensor | None,
    alpha: float,
    tables: tuple[Taps, Taps] | None,
) -> None: ...
def cuda_pyramid(
    name: str, dtype: int, border: int, stream: int, image: Tensor, levels: Sequence[Tensor], work: Sequence[Tensor]
) -> None: ...
def cuda_loss_parts(input: Tensor, fine: Sequence[Tensor], terms: int) -> int: ...
def cuda_laplacian_loss(
    dtype: int,
    border: int,
    stream: int,
    input: Tensor,
    target: Tensor,
    masks: Sequence[Tensor],
    fine: Sequence[Tensor],
    lows: Sequence[Tensor],
    signs: Sequence[Tensor],
    totals: Sequence[Tensor],
    below: Sequence[Tensor],
    coefficients: Tensor,
    parts: Tensor,
    loss: Tensor,
) -> None: ...
def cuda_vector_quantize_work(dtype: int, rows: int, codes: int) -> int: ...
def cuda_vector_quantize(
    dtype: int, stream: int, z: Tensor, codebook: Tensor, quantized: Tensor, indices: int, work: int
) -> None: ...
def cuda_parzen_work(dtype: int, rows: int, samples: int, sigmas: int) -> int: ...
def cuda_parzen_log_likelihood(
    dtype: int, stream: int, x: Tensor, samples: Tensor, sigmas: Sequence[float], out: int, work: int
) -> None: ...
