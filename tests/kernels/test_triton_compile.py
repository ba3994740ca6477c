"""What the compiler makes of the Triton kernels for the GPUs we name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="triton is not installed")

ROOT = Path(__file__).resolve().parents[2]

# A few of each family, for the card that the kernels are tuned for, and for the quick suite.
FEW = [
    *("laplacian:float32:256", "laplacian_adjoint:float32:256", "collapse:float32:256", "gaussian:float32:256"),
    *("loss:bfloat16:128", "circular:uint8:256", "bits:int32:64", "uniform:float32:64", "normal:float32:64"),
    *("vector_quantize:float16:64", "parzen:float32:3072", "mixture:float32:32", "nll:float16:64"),
    *("reparameterize_kl:float32:64", "reparameterize_kl_backward:float32:64", "learned_prior:float32:64"),
    *("masked_plain:bfloat16:256", "gates:bfloat16:64"),
]
# name:dtype:side; 256 is cut into strips, 128 fills one, 64 takes one launch for all its levels.
CASES = {
    80: [
        *("laplacian:float32:256", "laplacian_adjoint:bfloat16:64", "circular:float64:256"),
        *("vector_quantize:float32:64", "vector_quantize:bfloat16:64", "parzen:float32:3072"),
        *("normal:float16:64", "mixture:float32:32", "grey_mixture:float32:32"),
        *("masked_plain:bfloat16:3", "masked_groups:float16:96"),
    ],
    90: [
        *FEW,
        *(f"laplacian:{case}" for case in ("bfloat16:256", "uint8:256", "float64:256", "float32:64")),
        *("laplacian_adjoint:float64:64", "collapse_adjoint:bfloat16:128"),
        *(f"collapse:{case}" for case in ("bfloat16:256", "int16:256", "float32:64")),
        *("loss:float32:256", "table:float64:256"),
        *("vector_quantize:float32:64", "vector_quantize:bfloat16:3", "parzen:bfloat16:784", "parzen:float32:3"),
        *("normal:bfloat16:64", "normal:float64:64", "mixture:bfloat16:32", "mixture:float64:32"),
        *(f"grey_mixture:{dtype}:32" for dtype in ("float32", "bfloat16", "float64")),
        *("reparameterize_kl:bfloat16:64", "learned_prior:float64:64", "reparameterize:float32:9"),
        *("nll:float32:64", "nll:float64:64"),
        *(
            "masked_tf32:float32:64",
            "masked_groups:bfloat16:3",
            "masked_strided:float32:32",
            "gates:float32:64",
            "gates:float64:64",
        ),
    ],
    100: [
        *(
            "laplacian:uint8:64",
            "laplacian_adjoint:float32:256",
            "loss:float64:128",
            "mixture:float16:32",
            "grey_mixture:float16:32",
        ),
        *("vector_quantize:float32:64", "vector_quantize:bfloat16:64", "parzen:float32:3072"),
        "learned_prior:bfloat16:9",
        *("masked_plain:bfloat16:256", "masked_groups:float16:96", "gates:float16:64"),
    ],
}
# Where rows are contiguous and long, every access to a fine row is 16 bytes a thread.
WIDE = ("laplacian:float32", "laplacian_adjoint:float32", "collapse:float32", "gaussian:float32")
# One for each of a thread's two blocks of noise.
NOISE = ("bits", "uniform:float32", "normal:float32")
# Products of 16-bit floats, and of TF32: on tensor cores, out of tiles that are copied 16 bytes at a time while others multiply.
PRODUCTS = ("product_kernel", "weight_kernel")


@pytest.mark.parametrize(
    ("architecture", "cases"),
    [
        pytest.param(90, FEW, id="90, a few"),
        *(pytest.param(each, cases, id=str(each), marks=pytest.mark.slow) for each, cases in CASES.items()),
    ],
)
def test_compiles_without_spills(architecture: int, cases: list[str], tmp_path: Path) -> None:
    """Registers that spill lie on the stack, so an empty stack and no local memory mean none do."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"} | {"TRITON_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "tests.kernels.ahead", str(architecture), *cases]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert {name.split()[0] for name in report} == set(cases)
    for name, used in report.items():
        assert used["REG"] > 0 and used["STACK"] == 0 and used["LOCAL"] == 0, f"sm_{architecture}, {name}: {used}"
        if name.startswith(WIDE):
            assert used["VECTORS"] >= 4, f"sm_{architecture}, {name}: {used}"
        if name.startswith(NOISE):
            assert used["VECTORS"] == 2, f"sm_{architecture}, {name}: {used}"
        if name.startswith("masked") and name.split()[1] in PRODUCTS:
            full = "float32" in name and not name.startswith("masked_tf32")
            assert (used["TENSOR"] > 0) != full, f"sm_{architecture}, {name}: {used}"
            copied = not name.startswith("masked_tf32")  # some of those tiles are turned round in registers
            assert not copied or used["ASYNC"] >= 3, f"sm_{architecture}, {name}: {used}"
        if name.startswith("reparameterize_kl:float32"):
            assert used["VECTORS"] == 2 * 3, f"sm_{architecture}, {name}: {used}"  # two tensors read, one written
