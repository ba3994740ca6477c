"""`lapcore bench`: what it reports, that its peers do the same work; the steps of bench.gpu."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import lapcore as lib
from lapcore.bench import (
    gaussian,
    gpu,
    gpu_distances,
    gpu_gaussian,
    gpu_masked_conv,
    gpu_pyramid,
    gpu_sampling,
    gpu_steps,
    harness,
    likelihood,
    masked_conv,
    parzen,
    peers,
    plot,
    pyramid,
    random,
    report,
    sampling,
    vector_quantize,
)
from lapcore.bench.harness import Case, Measured, Peers
from lapcore.cli.main import main
from lapcore.models.pixelcnn import PixelCNN
from tests.tolerance import assert_close, to_numpy

ROOT = Path(__file__).parents[2]
# torch.compile needs a C++ compiler and seconds for each case; its peers are the eager ones, compiled.
QUICK = [name for name in harness.LIBRARIES if name != "torch.compile"]
SHAPE = (2, 3, 16, 24)
tiny_pixelcnn = partial(PixelCNN, 5, 1, hidden=4, layers=1, head=4, levels=2)

SMALL = {
    "laplacian": partial(pyramid.laplacian, shape=SHAPE),
    "laplacian uint8": partial(pyramid.laplacian, shape=SHAPE, dtype=torch.uint8),
    "plan": partial(pyramid.laplacian_plan, shape=SHAPE),
    "collapse": partial(pyramid.collapse, shape=SHAPE),
    "gaussian pyramid": partial(pyramid.gaussian, shape=SHAPE),
    "down": partial(pyramid.down, shape=SHAPE, dtype=torch.float32),
    "down uint8": partial(pyramid.down, shape=SHAPE, dtype=torch.uint8),
    "up": partial(pyramid.up, shape=SHAPE, dtype=torch.float32),
    "up uint8": partial(pyramid.up, shape=SHAPE, dtype=torch.uint8),
    "down into": partial(pyramid.interleaved, name="pyr_down", shape=SHAPE[1:], dtype=torch.float32),
    "up into, uint8": partial(pyramid.interleaved, name="pyr_up", shape=SHAPE[1:], dtype=torch.uint8),
    "loss": partial(pyramid.loss, shape=SHAPE, backward=False, levels=2),
    "loss and gradient": partial(pyramid.loss, shape=SHAPE, backward=True, levels=2),
    "blend": partial(pyramid.blend, shape=SHAPE, levels=2),
    "host time": partial(pyramid.host_time, op="laplacian_pyramid", gradient=True, goals=()),
    "host time of pyr_down": partial(pyramid.host_time, op="pyr_down", gradient=False, goals=()),
    "KL": partial(gaussian.case, op="reparameterize_kl", shape=(4, 8), backward=True),
    "NLL": partial(gaussian.case, op="gaussian_nll", shape=(4, 8)),
    "mixture": partial(likelihood.nll, shape=SHAPE, k=2),
    "mixture and gradient": partial(likelihood.nll, shape=SHAPE, k=2, backward=True),
    "draws of a mixture": partial(likelihood.draw, shape=SHAPE, k=2),
    "bits": partial(random.case, op="random.bits"),
    "nearest codes": partial(vector_quantize.case, rows=70, codes=9, size=5),
    "categorical": partial(sampling.draws, rows=9, levels=5),
    "images of a PixelCNN": partial(sampling.sampling, make=tiny_pixelcnn, images=2),
    "masked convolution": partial(masked_conv.convolution, shape=(2, 3, 7, 6), outputs=5, kernel=3, mask="B"),
    "masked convolution and gradient": partial(
        masked_conv.convolution, shape=(2, 3, 7, 6), outputs=5, kernel=3, mask="A", backward=True
    ),
    "gates": partial(masked_conv.activation, op="gated_activation", shape=(2, 4, 5)),
    "concatenated ELUs and gradient": partial(masked_conv.activation, op="concat_elu", shape=(2, 3, 5), backward=True),
    "Parzen windows": partial(parzen.case, rows=20, count=30, size=12, sigmas=[0.3, 1.0]),
}


@pytest.mark.parametrize("name", SMALL)
def test_every_case_is_right_and_everybody_can_do_it(name, monkeypatch):
    monkeypatch.setattr(harness, "SETTLING", 0.0)
    found = Peers(QUICK)
    case = SMALL[name](found)
    assert not harness.wrong_results(case)
    times, failed = harness.interleave({**case.ours, **case.peers}, 1e-4, harness.CPU._replace(sample=1e-4))
    assert not failed
    assert all(len(taken) >= harness.LEAST_SAMPLES and min(taken) > 0 for taken in times.values())
    assert {harness.library(who) for who in case.peers}.isdisjoint(found.missing)
    assert not SMALL[name](Peers(())).peers


def test_the_official_likelihood_is_the_same():
    params, x = likelihood.inputs(SHAPE, 2)
    for case in (params.double(), x.double()), (params, x):
        want = lib.discretized_logistic_mixture_nll(*case, mode="official")
        assert_close(likelihood.official_nll(*case, 2), to_numpy(want), 1e-5 * float(want.abs().max()))


def stacked(images):
    """Images (H, W, C), or pyramids of them -> (N, C, H, W), or a list of such levels."""
    if isinstance(images[0], list):
        return [stacked(level) for level in zip(*images, strict=True)]
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)


SAME = ("opencv: interleaved", "kornia-rs", "torch eager: conv", "torch eager: slices")


@pytest.mark.parametrize("name", ["laplacian", "collapse", "gaussian pyramid", "down", "up", "loss", "blend"])
def test_peers_compute_the_same(name):
    torch.manual_seed(1)
    case = SMALL[name](Peers(QUICK))
    wanted = next(iter(case.ours.values()))()
    exact = [who for who in case.peers if who in (*SAME, "opencv", "RIFE's loss")]
    assert exact
    for who in exact:
        got = case.peers[who]()
        if name == "loss":
            got = sum(got) / len(got) if isinstance(got, list) else got
            assert_close(torch.as_tensor(got, dtype=torch.float32), to_numpy(wanted), 1e-5 * float(wanted))
            continue
        got = stacked(got) if isinstance(got[0], list | np.ndarray) else got
        for a, b in zip(got, wanted, strict=True) if isinstance(wanted, tuple) else ((got, wanted),):
            assert_close(a, to_numpy(b), 1e-5)


def test_planes_are_the_same_work():
    x = torch.rand(SHAPE)
    work = partial(peers.cv2_laplacian, levels=3)
    results = {who: run() for who, run in peers.opencv(Peers(), x, work).items()}
    planes = results["opencv: planes"]
    for level, images in enumerate(stacked(results["opencv: interleaved"])):
        want = torch.stack([torch.from_numpy(plane[level]) for plane in planes]).unflatten(0, SHAPE[:2])
        assert_close(images, to_numpy(want), 1e-6)


def test_a_slow_reference_is_checked_and_not_timed(monkeypatch):
    monkeypatch.setattr(harness, "PATIENCE", 0.0)
    x = torch.rand(3)
    case = Case("op", 0, {"lapcore cpu": lambda: x, "lapcore reference": lambda: x})
    measured = harness.measure_case("f", "n", lambda: case, 1e-4, harness.CPU)
    assert list(measured.times) == ["lapcore cpu"] and not measured.failed
    assert "lapcore reference: not timed" in report.text(report.summarise([measured], [1e9], {}))
    alone = harness.measure_case("f", "n", lambda: Case("op", 0, {"lapcore reference": lambda: x}), 1e-4, harness.CPU)
    assert list(alone.times) == ["lapcore reference"]


# How times and goals are judged -------------------------------------------------------------------------------------


def test_a_wrong_result_gets_no_time():
    x = torch.rand(3)
    case = Case(
        "op", 12, {"lapcore cpu": lambda: x + 1e-3, "lapcore reference": lambda: x}, goals=(harness.at_most("C0", 1),)
    )
    measured = harness.measure_case("family", "name", lambda: case, 1e-4, harness.CPU)
    assert "wrong result" in measured.failed["lapcore cpu"] and "lapcore cpu" not in measured.times
    summary = report.summarise([measured], [1e9, 1e9], {})
    assert summary.cases[0].goals[0].met is None
    assert "lapcore cpu: wrong result" in report.text(summary) and "not measured" in report.text(summary)
    nan = Case("op", 12, {"lapcore cpu": lambda: x * float("nan"), "lapcore reference": lambda: x})
    assert harness.wrong_results(nan)


def test_a_case_that_cannot_be_built_and_a_peer_that_cannot_run_are_reported():
    def broken():
        raise RuntimeError("no\nsuch thing")

    assert harness.measure_case("f", "n", broken, 1e-4, harness.CPU).failed == {
        "lapcore": "RuntimeError: no such thing"
    }
    case = Case("op", 0, {"lapcore reference": lambda: torch.zeros(1)}, {"opencv": broken})
    measured = harness.measure_case("f", "n", lambda: case, 1e-4, harness.CPU)
    assert measured.failed == {"opencv": "RuntimeError: no such thing"} and list(measured.times) == [
        "lapcore reference"
    ]


def measured(ours=1.0, peers=None, goals=(), moved=10**6):
    times = {"lapcore cpu": [ours] * 5, **{who: [taken] * 5 for who, taken in (peers or {}).items()}}
    return Measured("pyramid", "a case", "op", moved, tuple(goals), "lapcore cpu", times, {}, {})


def test_goals_are_judged_against_the_best_of_a_library():
    goals = (
        harness.times("C1", "opencv", 2, aim=4),
        harness.times("C2", "kornia", 2),
        harness.of_ceiling("C3", 50),
        harness.at_most("C4", 1e6),
    )
    taken = {"opencv: planes": 3.0, "opencv: interleaved": 1.5, "kornia-rs": 0.5}
    summary = report.summarise([measured(1.0, taken, goals)], [1e6, 2e6], {"kornia": "no module"})
    reached = {goal.id: (goal.reached, goal.met) for goal in summary.cases[0].goals}
    assert reached == {"C1": (1.5, False), "C2": (None, None), "C3": (50.0, True), "C4": (1e6, True)}
    text = report.text(summary)
    assert "goal C1: 2x opencv (aim 4x) - reached 1.5x: missed" in text
    assert "goal C2: 2x kornia - not measured" in text and "not measured against kornia: no module" in text
    assert "a case: kornia-rs takes 0.50 of our time" in text


def test_operations_are_held_against_the_matrix_product_and_peaks_are_stated():
    x = torch.ones(1 << 22)
    case = Case("op", 0, {"lapcore reference": lambda: x + 1}, operations=10**6, peaks=True, least_samples=2)
    found = harness.measure_case("f", "n", lambda: case, 1e-4, harness.CPU)
    assert found.matrix_rate > 1e8 and len(found.times["lapcore reference"]) >= 2
    summary = report.summarise([found], [1e9], {})
    (line,) = summary.cases[0].lines
    percent = 100 * 10**6 / found.matrix_rate / (1e-3 * line.milliseconds)
    assert line.ceiling_percent == pytest.approx(percent)
    text = report.text(summary)
    assert "% of the matrix rate" in text and "0.001 G operations" in text
    if harness.peak(lambda: None) is not None:
        assert 0.8 * x.nbytes < line.peak_bytes < 2 * x.nbytes and f"peak {line.peak_bytes / 1e6:.4g} MB" in text


def test_missing_peers_are_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "kornia.geometry.transform", None)
    found = Peers()
    assert found.module("kornia") is None and "kornia" in found.missing["kornia"]
    assert Peers(()).module("kornia") is None


def test_the_ones_behind_run_next():
    order = []

    def work(name, seconds):
        return lambda: (order.append(name), time.sleep(seconds))

    times, failed = harness.interleave({"fast": work("fast", 1e-4), "slow": work("slow", 5e-3)}, 0.05, harness.CPU)
    assert not failed and min(map(len, times.values())) >= harness.LEAST_SAMPLES
    half = len(order) // 2
    assert order[half:].count("slow") >= 0.2 * order.count("slow"), "the slow one was not spread over the run"


def test_rotated_inputs_take_turns_and_results_stay():
    inputs = [torch.full((2,), float(i)) for i in range(3)]
    work = harness.rotated(lambda x: x + 1, inputs)
    results = [work() for _ in range(6)]
    assert sorted(float(result[0]) for result in results) == [1, 1, 2, 2, 3, 3]
    assert len({result.data_ptr() for result in results[:3]}) == 3


def test_plot(tmp_path):
    taken = {"opencv: planes": 3.0, "torch eager: conv": 0.5, "someone new": 7.0}
    summary = report.summarise([measured(1.0, taken), measured(2.0, moved=0)], [1e6], {})
    plot.check(tmp_path / "new" / "a.png")
    plot.draw(summary, tmp_path / "new" / "a.png")
    plot.draw(report.summarise([], [1e6], {}), tmp_path / "empty.svg")
    assert (tmp_path / "new" / "a.png").stat().st_size > 5000 and (tmp_path / "empty.svg").exists()
    assert plot.best(summary.cases[0]) == {"opencv": 3.0, "torch eager": 0.5, "someone new": 7.0}


# The command --------------------------------------------------------------------------------------------------------


def test_report_json_and_plot(run, tmp_path):
    wanted = ("bench", "pyramid", "--only", "host time of pyr_down 1x1x4x4", "--seconds", "0.001", "--peers")
    printed = run(*wanted, "--json", tmp_path / "new" / "a.json", "--plot", tmp_path / "a.png")
    written = json.loads((tmp_path / "new" / "a.json").read_text())
    assert [case["name"] for case in written["cases"]] == [
        "host time of pyr_down 1x1x4x4",
        "host time of pyr_down 1x1x4x4 with gradient",
    ]
    for case in written["cases"]:
        assert case["family"] == "pyramid" and case["goals"][0]["id"] == "C11" and not case["failed"]
        for line in case["lines"]:
            low, high = line["quartiles"]
            assert 0 < low <= line["milliseconds"] <= high and line["samples"] >= 5
        assert f"{case['goals'][0]['reached']:.3g} us" in printed
    assert written["versions"]["torch"] == torch.__version__ and written["threads"]["torch"] == torch.get_num_threads()
    assert len(written["copy_ceilings"]) == 2 and min(written["copy_ceilings"]) > 0
    assert (tmp_path / "a.png").exists()
    assert not list(tmp_path.glob("**/tmp*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["nothing"],
            "invalid choice: 'nothing' (choose from pyramid, gaussian, random, likelihood, vector-quantize, parzen, masked-conv, "
            "sampling)",
        ),
        (["--seconds", "0"], "above 0"),
        (["--seconds", "nan"], "above 0"),
    ],
)
def test_bad_usage(arguments, message, capsys):
    assert main(["bench", *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--only", "no such case"],
            "no case of pyramid, gaussian, random, likelihood, vector_quantize, parzen, masked_conv, sampling has this in its name",
        ),
        (["--plot", "a.txt"], "expected a name that ends in one of"),
    ],
)
def test_refusals_come_before_any_measurement(arguments, message, refused):
    assert message in refused("bench", *arguments)


# The machine with a card --------------------------------------------------------------------------------------------


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_without_a_card_one_line_and_exit_1(tmp_path):
    command = [sys.executable, "-m", "bench.gpu", "--json", str(tmp_path / "gpu.json")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 1 and result.stdout == ""
    assert result.stderr.count("\n") == 1 and "nothing to run on" in result.stderr
    assert list(tmp_path.iterdir()) == []


def python(code, **options):
    return gpu.Step("step", [sys.executable, "-c", code], limit=60, **options)


def test_a_step_keeps_its_output_and_result(tmp_path):
    path = tmp_path / "result.json"
    done = gpu.run(python(f"print('hello'); open({str(path)!r}, 'w').write('[1]')", result=path), 60)
    assert (done.passed, done.status, done.output, done.result) == (True, 0, "hello\n", [1])
    failed = gpu.run(python("import sys; print('why', file=sys.stderr); sys.exit(3)"), 60)
    assert (failed.passed, failed.status, failed.why, failed.output) == (False, 3, "exit status 3", "why\n")
    missing = gpu.run(gpu.Step("step", [str(tmp_path / "nothing")], 60), 60)
    assert not missing.passed and "could not be started" in missing.why


def test_a_step_past_its_limit_is_stopped_with_its_children(tmp_path):
    mark = tmp_path / "mark"
    child = [sys.executable, "-c", f"import time; time.sleep(3); open({str(mark)!r}, 'w')"]
    code = f"import subprocess, time; print('so far', flush=True); subprocess.Popen({child!r}); time.sleep(60)"
    started = time.monotonic()
    stopped = gpu.run(python(code), 1.5)
    assert time.monotonic() - started < 30
    assert not stopped.passed and stopped.status is None and "limit" in stopped.why and stopped.output == "so far\n"
    time.sleep(3.5)
    assert not mark.exists()


def test_every_step_is_kept_within_the_budget(tmp_path, monkeypatch):
    def steps(with_cuda, scratch):
        yield python(f"print({with_cuda})")
        yield python("import time; time.sleep(60)", least=1)
        yield python("print('never')")

    monkeypatch.setattr(gpu, "device", lambda: {"name": "a card"})
    monkeypatch.setattr(gpu, "later_steps", steps)
    monkeypatch.setattr(gpu, "build_step", lambda capability, mode="cuda": python("raise SystemExit(1)"))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    assert gpu.run_all(tmp_path / "gpu.json", 5) == 1
    written = json.loads((tmp_path / "gpu.json").read_text())["steps"]
    assert [step["passed"] for step in written] == [False, False, True, False, False]
    assert written[2]["output"] == "False\n"  # without the CUDA kernels
    assert "limit" in written[3]["why"] and written[4]["why"] == "no time was left"


def test_the_steps_for_a_card(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "sanitizer", lambda: "compute-sanitizer")
    build = gpu.build_step((9, 0))
    assert build.environment["CUDAARCHS"] == "90-real" and build.environment["LAPCORE_BUILD"] == "cuda"
    steps = {step.name: step for step in gpu.later_steps(True, tmp_path)}
    measured = ["G1", "G2", "G3", "G4", "G5", "G6, G7", "vector_quantize", "parzen_log_likelihood"]
    assert list(steps)[-len(measured) :] == measured and {"memcheck", "racecheck"} < set(steps)
    assert steps["tests of the kernels"].environment == {
        "LAPCORE_STRICT": "1",
        "LAPCORE_TEST_BACKENDS": "triton,cuda",
    }
    assert sum(step.least for step in steps.values()) + build.limit < 520
    for goal in ("G1", "G2", "G3"):
        assert gpu_pyramid.listed(Peers(()), goal)
    for module, kind in (
        (gpu_gaussian, ""),
        (gpu_masked_conv, ""),
        (gpu_distances, "vector_quantize"),
        (gpu_sampling, ""),
    ):
        assert module.listed(Peers(()), kind)


def test_the_case_of_a_goal_on_a_card():
    for direction in gpu_gaussian.PLANES:
        case = gpu_gaussian.case(Peers(), direction, "cpu", (2, 3, 4, 5))
        values, *others = [work() for work in case.ours.values()]
        assert all(case.difference(values, other) <= case.tolerance for other in others)
        means = [made[0] for made in (values, case.peers["torch eager"]())]
        assert means[0].shape == means[1].shape == (2, 3, 4, 5)
    for direction in gpu_masked_conv.PLANES:
        case = gpu_masked_conv.case(Peers(), 6, direction, "cpu", 2, 5, torch.float32)
        values, *others = [work() for work in (*case.ours.values(), *case.peers.values())]
        assert all(case.difference(values, other) <= 1e-5 for other in others)


@pytest.mark.parametrize(
    ("op", "module"),
    [
        ("laplacian_pyramid", gpu_pyramid),
        ("reparameterize_kl", gpu_gaussian),
        ("masked_conv2d", gpu_masked_conv),
        ("parzen_log_likelihood", gpu_distances),
        pytest.param("sample_program", gpu_sampling, marks=pytest.mark.slow),
    ],
)
def test_the_calls_for_the_sanitizer_are_right_here(op, module, capsys):
    before = torch.are_deterministic_algorithms_enabled()
    try:
        assert gpu_steps.exercise("cpu", op, module.called) == int(lib.explain("pyr_down")["cpu"] is not None)
    finally:
        torch.use_deterministic_algorithms(before)
    assert "failures" in capsys.readouterr().out
