"""torch.func, forward mode, vmap, and what is refused: tracing that would record raw pointers, tangents that would be lost."""

from __future__ import annotations

import threading

import pytest
import torch
from torch.autograd import forward_ad

import lapcore
from lapcore import backends

PYRAMIDS = {
    "pyr_down": lapcore.pyr_down,
    "pyr_up": lapcore.pyr_up,
    "laplacian_pyramid": lambda x: lapcore.laplacian_pyramid(x, 2)[0],
    "gaussian_pyramid": lambda x: lapcore.gaussian_pyramid(x, 2)[2],
    "collapse": lambda x: lapcore.collapse((x, x[..., ::2, ::2])),
    "pyr_down half_pixel": lambda x: lapcore.pyr_down(x, (4, 5), filter="half_pixel", border="replicate"),
    "pyr_up area": lambda x: lapcore.pyr_up(x, (9, 13), filter="area"),
    "laplacian_pyramid half_pixel": lambda x: lapcore.laplacian_pyramid(x, 2, filter="half_pixel")[1],
    "blend": lambda x: lapcore.blend(x, torch.zeros_like(x), torch.full_like(x, 0.25), 2),
}
GAUSSIANS = {
    "gaussian_kl": lambda m: lapcore.gaussian_kl(m, m),
    "gaussian_nll": lambda m: lapcore.gaussian_nll(m, m, m),
    "reparameterize": lambda m: lapcore.reparameterize(m, m, 1),
}


@pytest.mark.parametrize("name", PYRAMIDS)
def test_jacobians_of_both_modes_are_the_op_itself(name: str) -> None:
    """The ops are linear: J x = op(x), by rows and by columns."""
    x = torch.randn(5, 6, dtype=torch.float64)
    op = PYRAMIDS[name]
    forward, reverse = torch.func.jacfwd(op)(x), torch.func.jacrev(op)(x)
    torch.testing.assert_close(forward, reverse, rtol=0, atol=1e-14)
    torch.testing.assert_close(torch.tensordot(forward, x, 2), op(x), rtol=0, atol=1e-13)
    _, tangent = torch.func.jvp(op, (x,), (x,))
    torch.testing.assert_close(tangent, op(x), rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", PYRAMIDS)
def test_hessian_of_a_square(name: str) -> None:
    x = torch.randn(3, 4, dtype=torch.float64)
    op = PYRAMIDS[name]
    jacobian = torch.func.jacrev(op)(x).flatten(0, 1)
    hessian = torch.func.hessian(lambda x: op(x).square().sum())(x)
    torch.testing.assert_close(hessian, 2 * torch.einsum("kab,kcd->abcd", jacobian, jacobian), rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", PYRAMIDS)
def test_vmap_is_a_loop(name: str) -> None:
    x = torch.randn(4, 5, 6)
    looped = torch.stack([PYRAMIDS[name](image) for image in x.unbind(1)], 2)
    assert torch.equal(torch.vmap(PYRAMIDS[name], in_dims=1, out_dims=2)(x), looped)


def test_the_loss_of_each_sample_by_vmap_and_its_gradient() -> None:
    """As torch.func's users take per-sample gradients."""
    a, b = torch.randn(2, 4, 3, 5, 6, dtype=torch.float64)

    def loss(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return lapcore.laplacian_loss(a[None], b[None], 2)

    losses = lapcore.laplacian_loss(a, b, 2, reduction="none")
    torch.testing.assert_close(torch.vmap(loss)(a, b), losses, rtol=1e-12, atol=0)
    leaf = a.clone().requires_grad_()
    (want,) = torch.autograd.grad(lapcore.laplacian_loss(leaf, b, 2, reduction="none").sum(), leaf)
    torch.testing.assert_close(torch.func.grad(loss)(a[0], b[0]), want[0], rtol=1e-12, atol=0)
    torch.testing.assert_close(torch.vmap(torch.func.grad(loss))(a, b), want, rtol=1e-12, atol=0)


def test_the_tangent_of_the_loss() -> None:
    """Of degree one: along the images themselves the loss grows by itself."""
    a, b = torch.randn(2, 2, 1, 9, 6, dtype=torch.float64).unbind()
    loss, tangent = torch.func.jvp(lambda a, b: lapcore.laplacian_loss(a, b, 2, weights="pow2"), (a, b), (a, b))
    torch.testing.assert_close(tangent, loss)


def test_jit_trace_of_the_loss_is_refused() -> None:
    x = torch.randn(1, 1, 4, 4)
    with pytest.raises(RuntimeError, match=r"torch\.jit\.trace"), pytest.warns(Warning):
        torch.jit.trace(lambda x: lapcore.laplacian_loss(x, x * 2, 2), x)


@pytest.mark.parametrize("name", PYRAMIDS)
def test_jit_trace_is_refused(name: str) -> None:
    with pytest.raises(RuntimeError, match=r"torch\.jit\.trace"), pytest.warns(Warning):
        torch.jit.trace(PYRAMIDS[name], torch.randn(4, 4))


@pytest.mark.parametrize("name", GAUSSIANS)
def test_gaussians_refuse_forward_mode(name: str) -> None:
    x = torch.randn(3, 4)
    with pytest.raises(RuntimeError, match="forward-mode"):
        torch.func.jvp(GAUSSIANS[name], (x,), (x,))
    with forward_ad.dual_level(), pytest.raises(RuntimeError, match="forward-mode"):
        GAUSSIANS[name](forward_ad.make_dual(x, x))


def test_the_backward_runs_where_the_forward_did() -> None:
    """Autograd may call it from a thread of its own, to which the `with` block does not reach."""
    seen = []
    select = backends.select

    def spy(family, tensors):
        seen.append((backends.asked_for(), threading.current_thread()))
        return select(family, tensors)

    x = torch.randn(4, 4, requires_grad=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backends, "select", spy)
        with lapcore.backend("reference"):
            y = lapcore.pyr_down(x)
        thread = threading.Thread(target=y.sum().backward)
        thread.start()
        thread.join()
    assert x.grad is not None
    assert [name for name, _ in seen] == ["reference", "reference"] and seen[1][1] is thread
