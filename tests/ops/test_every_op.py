"""What is asked of every op in the registry (lapcore.ops.OPS), so that a new one cannot forget.

An op enters by one line in EXAMPLES. Values and gradients are compared with the oracle in the family's own test file. Here it is
asked that there is an oracle, a full docstring and a benchmark, and that autograd, torch.library, torch.compile, torch.export and
every layout agree with plain eager calls.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from importlib import import_module, util
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from functorch.compile import make_boxed_func
from torch._dynamo.backends.common import aot_autograd
from torch.utils import _pytree as pytree

import lapcore
from lapcore.ops import OPS
from tests.layouts import LAYOUTS
from tests.tolerance import assert_close, assert_same_bits, to_numpy

ROOT = Path(__file__).resolve().parents[2]

Tensor = torch.Tensor


class Call(NamedTuple):
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def draw(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed + 1)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def four() -> tuple[Tensor, ...]:
    """mean, logvar, prior_mean, prior_logvar."""
    return tuple(draw(2, 3, 2, 4, seed=i) for i in range(4))


def grid(*shape: int) -> Tensor:
    """An image of 8-bit values, both ends among them."""
    levels = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(9))
    levels.view(-1)[:2] = torch.tensor([0, 255])
    return levels.double() / 127.5 - 1


SEEDS = torch.tensor([3, -(2**40)])

EXAMPLES: dict[str, Callable[[], Call]] = {
    "pyr_down": lambda: Call((draw(2, 3, 5, 6),), {"border": "symmetric"}),
    "pyr_up": lambda: Call((draw(2, 2, 3, 4), (5, 8)), {}),
    "gaussian_pyramid": lambda: Call((draw(2, 2, 5, 6), 2), {}),
    "laplacian_pyramid": lambda: Call((draw(2, 2, 5, 6), 2), {"border": "circular"}),
    "collapse": lambda: Call(([draw(2, 2, 5, 6), draw(2, 2, 3, 3, seed=1), draw(2, 2, 2, 2, seed=2)],), {}),
    "blend": lambda: Call((draw(2, 2, 5, 6), draw(2, 2, 5, 6, seed=1), draw(2, 2, 5, 6, seed=2), 2), {}),
    "laplacian_loss": lambda: Call((draw(2, 2, 5, 6), draw(2, 2, 5, 6, seed=1), 2), {"reduction": "none"}),
    "random.bits": lambda: Call(((2, 3, 4), SEEDS), {"stream": 2**33}),
    "random.uniform": lambda: Call(((2, 3, 4), SEEDS), {}),
    "random.normal": lambda: Call(((2, 3, 4), SEEDS), {}),
    "reparameterize": lambda: Call((*four()[:2], SEEDS), {"stream": 1}),
    "gaussian_kl": lambda: Call(four(), {}),
    "reparameterize_kl": lambda: Call((*four(), SEEDS), {}),
    "gaussian_nll": lambda: Call(four()[:3], {}),
    "vector_quantize": lambda: Call((draw(4, 3, 6), draw(5, 6, seed=1)), {}),
    "parzen_log_likelihood": lambda: Call((draw(4, 2, 3), draw(5, 2, 3, seed=1), [0.7, 1.5]), {}),
    "masked_conv2d": lambda: Call(
        (draw(2, 3, 2, 4), draw(6, 3, 2, 3, seed=1), draw(6, seed=2)),
        {"mask": "B", "color_groups": 3, "condition": draw(2, 6, seed=3), "activation": "gated"},
    ),
    "gated_activation": lambda: Call((draw(2, 4, 3, 5),), {}),
    "concat_elu": lambda: Call((draw(2, 3, 3, 5),), {}),
    "discretized_logistic_mixture_nll": lambda: Call((draw(2, 20, 2, 4), grid(2, 3, 2, 4)), {}),
    "sample_discretized_logistic_mixture": lambda: Call((draw(2, 20, 2, 4), SEEDS), {"stream": 1}),
    "categorical": lambda: Call((draw(4, 5), draw(4, seed=1).sigmoid()), {}),
}
# By op, which of the floating-point inputs are the same for batches of every size.
WEIGHTS = {"masked_conv2d": {1, 2}}
# By op, which of the floating-point inputs get no gradient.
CONSTANT = {"vector_quantize": {1}}
# Ops whose gradient is not the derivative, which is 0 almost everywhere, but the incoming gradient, passed to the first input.
STRAIGHT_THROUGH = {"vector_quantize"}

DRAWS = ("random.bits", "random.uniform", "random.normal", "sample_discretized_logistic_mixture", "categorical")
"""Their results are constants to autograd."""

DIFFERENTIABLE = [name for name in OPS if name not in DRAWS]

every_op = pytest.mark.parametrize("name", OPS)
differentiable = pytest.mark.parametrize("name", DIFFERENTIABLE)


def is_float(value: object) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def map_floats(function: Callable[[Tensor], Tensor], tree: Any) -> Any:
    return pytree.tree_map(lambda leaf: function(leaf) if is_float(leaf) else leaf, tree)


def floats(tree: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(tree) if is_float(leaf)]


def repeated(call: Call, times: int, weights: set[int]) -> Call:
    """A batch of so many times the size; the floating-point inputs numbered in `weights` stay as they are."""
    number = itertools.count()
    return map_floats(lambda t: t if next(number) in weights else t.repeat(times, *[1] * (t.dim() - 1)), call)


def run(name: str, call: Call) -> list[Tensor]:
    return pytree.tree_leaves(OPS[name].public(*call.args, **call.kwargs))


def with_gradients(call: Call) -> Call:
    return map_floats(lambda t: t.detach().clone().requires_grad_(), call)


def incoming(outputs: list[Tensor]) -> list[Tensor]:
    return [draw(*out.shape, seed=50 + i).to(out.dtype) for i, out in enumerate(floats(outputs))]


def gradients(name: str, outputs: list[Tensor], call: Call, grads: list[Tensor]) -> list[Tensor]:
    """At the floating-point inputs of a call, but the constant ones, which must have none."""
    found = torch.autograd.grad(floats(outputs), floats(call), grads, allow_unused=True)
    assert {i for i, grad in enumerate(found) if grad is None} == CONSTANT.get(name, set())
    return [grad for grad in found if grad is not None]


# What belongs to an op -----------------------------------------------------------------------------------------------------------


def test_every_op_has_an_example_and_every_example_an_op() -> None:
    assert set(EXAMPLES) == set(OPS)
    assert [op.name for op in OPS.values()] == list(OPS)


@every_op
def test_public_name(name: str) -> None:
    public: Any = lapcore
    for part in name.split("."):
        public = getattr(public, part)
    assert public is OPS[name].public
    assert name.split(".")[0] in lapcore.__all__


CONVENTIONS = {
    "shapes": r"[Ss]hape|\(N",
    "dtypes": r"[Dd]type|float32",
    "errors": r"Errors?\b|Raises",
    "determinism": r"[Dd]etermin",
    "source": r"Source",
}


@every_op
def test_docstring_states_the_conventions(name: str) -> None:
    text = OPS[name].public.__doc__ or ""
    missing = [what for what, pattern in CONVENTIONS.items() if not re.search(pattern, text)]
    assert not missing, f"the docstring of {name} does not give its {', '.join(missing)}"


@every_op
def test_oracle_exists(name: str) -> None:
    """In its family's file, or in one of its own."""
    own = (ROOT / "tests" / "oracle" / f"{name}.py").is_file()
    oracle = import_module(f"tests.oracle.{name if own else OPS[name].family}")
    assert callable(getattr(oracle, name.split(".")[-1], None))
    imports = re.findall(r"(?:import|from) (lapcore|torch)", Path(str(oracle.__file__)).read_text())
    assert not imports, "an oracle is independent of what it judges"


BENCHMARKS = {"pixelcnn_sampler": "sampling"}
"""Where it is not the family's name."""


@every_op
def test_benchmark_exists(name: str) -> None:
    file = BENCHMARKS.get(OPS[name].family, OPS[name].family)
    spec = util.find_spec(f"lapcore.bench.{file}")
    assert spec is not None and spec.origin, f"bench/{file}.py is missing"
    assert re.search(rf"\blapcore\.{re.escape(name)}\b", Path(spec.origin).read_text()), f"no benchmark of {name}"


@every_op
def test_every_family_has_its_file_in_every_room(name: str) -> None:
    family = OPS[name].family
    for room in ("lapcore/ops", "lapcore/reference"):
        assert (ROOT / room / f"{family}.py").is_file()
    assert (ROOT / "tests" / "ops" / f"test_{family}.py").is_file()


def test_the_registry_knows_every_registered_operator() -> None:
    registered = {name for name in torch._C._dispatch_get_all_op_names() if name.startswith("lapcore::")}
    assert registered == {name for op in OPS.values() for name in op.registered}


def test_uninitialised_memory_is_poisoned() -> None:
    x = torch.zeros(2, 3)
    allocated = [torch.empty(2, 3), torch.empty_like(x), x.new_empty(4), torch.empty_strided((2,), (3,))]
    assert all(torch.isnan(t).all() for t in allocated)
    assert (torch.empty(5, dtype=torch.int16) == 32767).all()


# Autograd ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in DIFFERENTIABLE if name not in STRAIGHT_THROUGH])
def test_gradcheck(name: str) -> None:
    call = with_gradients(EXAMPLES[name]())
    flat, spec = pytree.tree_flatten(call)

    def function(*leaves: object) -> tuple[Tensor, ...]:
        return tuple(run(name, pytree.tree_unflatten(list(leaves), spec)))

    assert torch.autograd.gradcheck(function, flat)
    assert torch.autograd.gradgradcheck(function, flat, fast_mode=True)


@pytest.mark.parametrize("name", STRAIGHT_THROUGH)
def test_straight_through(name: str) -> None:
    call = with_gradients(EXAMPLES[name]())
    outputs = run(name, call)
    grads = incoming(outputs)
    (got,) = gradients(name, outputs, call, grads)
    assert_same_bits(got, grads[0])


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
@differentiable
def test_layouts(name: str, layout: Callable[[Tensor], Tensor]) -> None:
    """Strided inputs and incoming gradients give what contiguous copies of them give."""
    strided = map_floats(lambda t: (layout(t) if t.dim() > 1 else t).detach().requires_grad_(), EXAMPLES[name]())
    plain = map_floats(lambda t: t.detach().contiguous().requires_grad_(), strided)
    got, want = run(name, strided), run(name, plain)
    for a, b in zip(got, want, strict=True):
        assert_same_bits(a, b)
    grads = [layout(g) if g.dim() > 1 else g[:1].expand(g.shape) for g in incoming(want)]
    got_grads = gradients(name, got, strided, grads)
    want_grads = gradients(name, want, plain, [g.contiguous() for g in grads])
    for a, b in zip(got_grads, want_grads, strict=True):
        assert_close(a, to_numpy(b), 1e-13)


@every_op
def test_the_default_device_plays_no_part(name: str) -> None:
    call = EXAMPLES[name]()
    call = call if name in DRAWS else with_gradients(call)
    want = run(name, call)
    grads = [] if name in DRAWS else incoming(want)
    if grads:
        want += gradients(name, want, call, grads)
    with torch.device("meta"):
        got = run(name, call)
        if grads:
            got += gradients(name, got, call, grads)
    for a, b in zip(got, want, strict=True):
        assert_same_bits(a, b)


@every_op
def test_the_same_call_gives_the_same_bits(name: str) -> None:
    for a, b in zip(run(name, EXAMPLES[name]()), run(name, EXAMPLES[name]()), strict=True):
        assert_same_bits(a, b)


# torch.compile, torch.library, torch.export ---------------------------------------------------------------------------------------


class Recorder:
    """A torch.compile backend that runs the graphs as they are and remembers every call of a lapcore operator."""

    def __init__(self) -> None:
        self.calls: list[tuple[torch._ops.OpOverload, tuple[Any, ...], dict[str, Any]]] = []

    def compile(self, graph: torch.fx.GraphModule, _inputs: list[Any]) -> Callable[..., Any]:
        calls = self.calls

        class Run(torch.fx.Interpreter):
            def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
                if str(target).startswith("lapcore."):
                    calls.append((target, *pytree.tree_map_only(Tensor, torch.clone, (args, kwargs))))
                return super().call_function(target, args, kwargs)

        return make_boxed_func(Run(graph).run)

    def run(self, name: str, call: Call, dynamic: bool | None = None) -> list[Tensor]:
        torch.compiler.reset()
        backend = aot_autograd(fw_compiler=self.compile, bw_compiler=self.compile)
        compiled = torch.compile(OPS[name].public, fullgraph=True, backend=backend, dynamic=dynamic)
        return pytree.tree_leaves(compiled(*call.args, **call.kwargs))


@every_op
def test_compile_fullgraph_equals_eager(name: str) -> None:
    recorder, call = Recorder(), EXAMPLES[name]()
    for a, b in zip(recorder.run(name, call), run(name, call), strict=True):
        assert_same_bits(a, b)
    assert recorder.calls, "the graph holds none of lapcore's operators"


@differentiable
def test_compiled_gradients_equal_eager(name: str) -> None:
    compiled, eager = with_gradients(EXAMPLES[name]()), with_gradients(EXAMPLES[name]())
    got, want = Recorder().run(name, compiled), run(name, eager)
    got_grads = gradients(name, got, compiled, incoming(got))
    for a, b in zip(got_grads, gradients(name, want, eager, incoming(want)), strict=True):
        assert_same_bits(a, b)


def opcheck(call: tuple[Any, ...], grad: bool, *checks: str) -> None:
    """torch.library's own checks, by default all."""
    target, args, kwargs = call
    args, kwargs = map_floats(lambda t: t.detach().requires_grad_(grad), (args, kwargs))
    torch.library.opcheck(target, args, kwargs, **({"test_utils": checks} if checks else {}))


def recorded(name: str) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    """The calls that the compiled op makes, forward and backward."""
    recorder, call = Recorder(), with_gradients(EXAMPLES[name]())
    outputs = recorder.run(name, call)
    forward = len(recorder.calls)
    if name not in DRAWS:
        gradients(name, outputs, call, incoming(outputs))
    assert set(OPS[name].registered) <= {target.name() for target, _, _ in recorder.calls}
    return recorder.calls[:forward], recorder.calls[forward:]


@every_op
def test_opcheck(name: str) -> None:
    """Second derivatives, with whose formulas a tracer of symbolic shapes takes long, are traced with the shapes there are."""
    forward, backward = recorded(name)
    for call in forward:
        opcheck(call, bool(floats(EXAMPLES[name]())))
    for call in backward:
        opcheck(call, False)
        opcheck(call, True, "test_autograd_registration", "test_aot_dispatch_static")


@pytest.mark.slow
@differentiable
def test_opcheck_of_second_derivatives(name: str) -> None:
    for call in recorded(name)[1]:
        opcheck(call, True)


@every_op
def test_compile_with_dynamic_shapes(name: str) -> None:
    """One compiled function serves batches of two sizes."""
    torch.compiler.reset()
    compiled = torch.compile(OPS[name].public, fullgraph=True, backend="aot_eager", dynamic=True)
    for batch in (2, 5):
        call = repeated(EXAMPLES[name](), batch, WEIGHTS.get(name, set()))
        call = pytree.tree_map_only(
            Tensor, lambda t, batch=batch: t.repeat(batch) if t.dtype is torch.int64 else t, call
        )
        if OPS[name].family == "random":
            call = Call(((2 * batch, 3, 4), *call.args[1:]), call.kwargs)
        got = pytree.tree_leaves(compiled(*call.args, **call.kwargs))
        for a, b in zip(got, run(name, call), strict=True):
            assert_same_bits(a, b)


@every_op
def test_export(name: str) -> None:
    call = EXAMPLES[name]()
    tensors = {i: leaf for i, leaf in enumerate(pytree.tree_leaves(call)) if isinstance(leaf, Tensor)}
    flat, spec = pytree.tree_flatten(call)

    class Module(torch.nn.Module):
        def forward(self, *given: Tensor) -> list[Tensor]:
            leaves = list(flat)
            for i, tensor in zip(tensors, given, strict=True):
                leaves[i] = tensor
            return run(name, pytree.tree_unflatten(leaves, spec))

    inputs = tuple(t.clone() for t in tensors.values())
    exported = torch.export.export(Module(), inputs).module()
    for a, b in zip(exported(*inputs), run(name, call), strict=True):
        assert_same_bits(a, b)


def test_inductor_fuses_around_the_ops() -> None:
    """The default compiler, with its own kernels before and after ours, forward and backward."""
    from torch._inductor.exc import InductorError

    def function(x: Tensor, logvar: Tensor) -> Tensor:
        bands = lapcore.laplacian_pyramid(torch.tanh(x), 2)
        z, kl = lapcore.reparameterize_kl(bands[0] * 2, logvar, seeds=SEEDS)
        return lapcore.collapse([z, *bands[1:]]).square().mean() + kl.sum()

    torch.compiler.reset()
    inputs = [draw(2, 3, 9, 7, seed=i).float().requires_grad_() for i in range(2)]
    try:
        got = torch.compile(function, fullgraph=True)(*inputs)
        got_grads = torch.autograd.grad(got, inputs)
    except InductorError as error:
        if "InvalidCxxCompiler" in str(error) or "No working C++ compiler" in str(error):
            pytest.skip("torch.compile's default backend needs a C++ compiler")
        raise
    want = function(*inputs)
    assert_close(got, to_numpy(want), 1e-5 * abs(want.item()))
    for a, b in zip(got_grads, torch.autograd.grad(want, inputs), strict=True):
        assert_close(a, to_numpy(b), 1e-5 * float(b.abs().max()))
