"""The published names and signatures: what users write must go on working."""

from __future__ import annotations

import inspect
from importlib import metadata

import pytest
import torch

import lapcore
from lapcore import errors

# Name -> parameters in order; "*" starts the keyword-only ones, "=" gives a default's repr. More keywords may be added.
SIGNATURES = {
    "pyr_down": "x size=None * filter='binomial' border='reflect'",
    "pyr_up": "x size=None * filter='binomial' border='reflect'",
    "gaussian_pyramid": "x levels * filter='binomial' border='reflect'",
    "laplacian_pyramid": "x levels * filter='binomial' border='reflect'",
    "collapse": "pyramid * filter='binomial' border='reflect'",
    "laplacian_loss": "input target levels=5 * weights='uniform' mask=None include_residual=False reduction='mean' odd='exact'",
    "blend": "a b mask levels * filter='binomial' border='reflect'",
    "PyramidPlan": "shape levels * dtype=torch.float32 device='cpu' kind='laplacian'",
    "random.bits": "shape seeds * stream=0 device=None",
    "random.uniform": "shape seeds * stream=0 device=None dtype=torch.float32",
    "random.normal": "shape seeds * stream=0 device=None dtype=torch.float32",
    "reparameterize": "mean logvar seeds=None * stream=0",
    "gaussian_kl": "mean logvar prior_mean=None prior_logvar=None",
    "reparameterize_kl": "mean logvar prior_mean=None prior_logvar=None seeds=None * stream=0",
    "gaussian_nll": "x mean logvar",
    "DiagonalGaussian": "mean logvar",
    "vector_quantize": "z codebook",
    "parzen_log_likelihood": "x samples sigma",
    "discretized_logistic_mixture_nll": "params x * mode='exact'",
    "sample_discretized_logistic_mixture": "params seeds * channels=3 snap=True stream=0",
    "masked_conv2d": "x weight bias=None * mask color_groups=1 condition=None stride=1 activation='none' gated_layout=False",
    "mask_of": "mask kernel_size in_channels out_channels color_groups=1 * gated_layout=False device=None",
    "gated_activation": "x * first='tanh'",
    "concat_elu": "x",
    "categorical": "logits u",
    "sample_program": "program seeds conditions=() * given=None known=None",
    "backend": "name",
}


def lookup(name: str) -> object:
    found: object = lapcore
    for part in name.split("."):
        found = getattr(found, part)
    return found


def spelled(callable_: object) -> str:
    words, keyword_only = [], False
    for parameter in inspect.signature(callable_).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not keyword_only:
            words.append("*")
            keyword_only = True
        default = "" if parameter.default is parameter.empty else f"={parameter.default!r}"
        words.append(parameter.name + default)
    return " ".join(words)


@pytest.mark.parametrize("name", SIGNATURES)
def test_signature(name: str) -> None:
    got, want = spelled(lookup(name)), SIGNATURES[name]
    assert got == want or got.startswith(want + " " if "*" in want else want + " * ")


@pytest.mark.parametrize("name", SIGNATURES)
def test_every_parameter_and_result_is_typed_and_documented(name: str) -> None:
    public = lookup(name)
    signature = inspect.signature(public)
    assert all(parameter.annotation is not parameter.empty for parameter in signature.parameters.values())
    if not isinstance(public, type):
        assert signature.return_annotation is not signature.empty
    assert public.__doc__ and len(public.__doc__) > 60


def test_explain_takes_an_op_and_its_tensors() -> None:
    parameters = list(inspect.signature(lapcore.explain).parameters.values())
    assert parameters[0].kind is parameters[0].POSITIONAL_OR_KEYWORD
    assert parameters[1].kind is parameters[1].VAR_POSITIONAL


def test_all_lists_what_there_is() -> None:
    assert {name.split(".")[0] for name in SIGNATURES} | {"explain", "errors", "random"} <= set(lapcore.__all__)
    for name in lapcore.__all__:
        assert getattr(lapcore, name) is not None
    assert set(lapcore.__all__) <= set(dir(lapcore))
    assert not hasattr(lapcore, "no_such_name")


def test_version_is_that_of_the_distribution() -> None:
    try:
        installed = metadata.version("lapcore")
    except metadata.PackageNotFoundError:
        pytest.skip("lapcore is on the path but not installed")
    assert lapcore.__version__ == installed


def test_diagonal_gaussian_offers_its_methods() -> None:
    q = lapcore.DiagonalGaussian(torch.zeros(2, 3), torch.zeros(2, 3))
    for name in ("sample", "mode", "kl", "nll"):
        assert callable(getattr(q, name))
    for name in ("mean", "logvar", "std", "var"):
        assert isinstance(getattr(q, name), torch.Tensor)
    assert callable(lapcore.DiagonalGaussian.from_moments)


def test_errors_can_be_caught_by_what_they_are() -> None:
    assert issubclass(errors.LapcoreError, Exception)
    for name, builtin in (
        ("DataError", ValueError),
        ("CheckpointError", ValueError),
        ("BackendError", RuntimeError),
        ("MissingDependencyError", ImportError),
    ):
        error = getattr(errors, name)
        assert issubclass(error, errors.LapcoreError) and issubclass(error, builtin)


def test_a_missing_dependency_says_what_to_install() -> None:
    assert errors.require("json", "train").dumps([1]) == "[1]"
    with pytest.raises(errors.MissingDependencyError) as caught:
        errors.require("no_such_library_for_lapcore", "train")
    assert "no_such_library_for_lapcore" in str(caught.value)
    assert 'pip install "lapcore[train]"' in str(caught.value)


def test_a_broken_dependency_is_not_called_missing(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that is there but fails to import keeps its own exception in sight."""
    from pathlib import Path

    folder = Path(str(tmp_path))
    (folder / "lapcore_broken_library.py").write_text("raise ImportError('its own reason')\n")
    monkeypatch.syspath_prepend(str(folder))
    with pytest.raises(ImportError) as caught:
        errors.require("lapcore_broken_library", "train")
    assert "its own reason" in str(caught.value) + str(caught.value.__cause__)


def test_backend_is_a_context_manager() -> None:
    with lapcore.backend("reference"):
        lapcore.pyr_down(torch.zeros(2, 2))
