"""The README's times are those of the committed results, and its Python runs from top to bottom."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from lapcore.bench import readme
from lapcore.models import LapCVAE


@pytest.mark.parametrize("name", readme.TABLES)
def test_times_come_from_the_committed_results(name: str) -> None:
    assert readme.section(name) in readme.README.read_text(), "write them again with: python -m lapcore.bench.readme"


@pytest.mark.slow
def test_the_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    LapCVAE(image_size=32).save_pretrained("run/model")
    blocks = re.findall(r"```python\n(.*?)```", readme.README.read_text(), re.DOTALL)
    assert len(blocks) == 5
    names: dict[str, Any] = {}
    for block in blocks:
        exec(block, names)
    assert names["whole"].shape == names["images"].shape
