"""`lapcore bench contention`: every state is measured, goals are judged by means, and no busy process is left behind."""

from __future__ import annotations

import json
import os
import subprocess

import pytest
import torch

from lapcore.bench import contention
from lapcore.bench.harness import LIBRARIES, Case, Peers
from lapcore.cli.main import main
from lapcore.errors import LapcoreError


def test_contention_measures_every_state_and_leaves_nothing_running(tmp_path, capsys):
    def running():
        return subprocess.run(["pgrep", "-P", str(os.getpid())], capture_output=True, text=True).stdout.split()

    before = running()
    threads = torch.get_num_threads()
    arguments = ["--only", "collapse 1x3x256", "--seconds", "0.01", "--json", str(tmp_path / "c.json")]
    assert not main(["bench", "contention", *arguments])
    out = capsys.readouterr().out
    found = json.loads((tmp_path / "c.json").read_text())
    states = [result["state"] for result in found["results"]]
    assert states == ["idle", "after a convolution", "1 busy process", "2 busy processes"]
    for result in found["results"]:
        lines = {line["who"]: line for line in result["lines"]}
        assert {"lapcore", "lapcore: one thread", "opencv: planes", "torch eager: slices"} <= lines.keys()
        assert all(line["mean_ms"] > 0 and 0 < line["median_ms"] <= line["percentile_95_ms"] for line in lines.values())
        assert all(line["calls"] >= contention.FEWEST for line in lines.values())
        alone, opencv = result["goals"]
        assert alone["reached"] == pytest.approx(lines["lapcore"]["mean_ms"] / lines["lapcore: one thread"]["mean_ms"])
        assert opencv["met"] == (opencv["reached"] <= opencv["most"])
        assert result["state"] in out
    assert torch.get_num_threads() == threads
    assert len(running()) == len(before)


def test_goals_beside_load_are_of_means():
    lines = [contention.Line(who, mean, 1, 1, 20) for who, mean in
             (("lapcore", 2.0), ("lapcore: one thread", 4.0), ("torch eager: a", 3.0), ("torch eager: b", 8.0))]  # fmt: skip
    goals = {goal.against: goal for goal in contention.judge(lines, contention.State("busy", busy=1))}
    assert (goals["lapcore: one thread"].reached, goals["lapcore: one thread"].met) == (0.5, True)
    assert (goals["torch eager"].reached, goals["torch eager"].met) == (pytest.approx(2 / 3), False)
    assert "torch eager" not in {goal.against for goal in contention.judge(lines, contention.State("idle"))}


def test_a_wrong_result_gets_no_time():
    case = Case("op", 0, {"lapcore cpu": lambda: torch.zeros(2), "lapcore reference": lambda: torch.ones(2)})
    with pytest.raises(LapcoreError, match="case: lapcore cpu: wrong result"):
        contention.works_of("case", case)


def test_a_library_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(LIBRARIES, "opencv", "no_such_module")
    found = Peers(contention.RIVALS)
    contention.cases(found)["collapse 1x3x256x256"]()
    assert "opencv" in found.missing and "opencv" in contention.describe([], found.missing)["missing_peers"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pyramid"], "contention is measured alone"),
        (["--plot", "a.png"], "contention is measured alone, and not drawn"),
    ],
)
def test_bad_usage(arguments, message, capsys):
    assert main(["bench", "contention", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_no_such_case(refused):
    assert "no case of contention has this in its name" in refused("bench", "contention", "--only", "no such case")
