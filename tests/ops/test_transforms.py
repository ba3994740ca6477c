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
