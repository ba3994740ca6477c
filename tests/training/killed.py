"""Kills training runs at the n-th sync to disk or the n-th step, resumes them, and prints which did not end in the same bytes.

A process of its own: it forks, which a process whose torch has started threads must not do.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import accelerate.optimizer  # noqa: F401  what the runs import, once, before the forks
import torch
import torch._dynamo
import torch.utils.tensorboard

from tests.training.tiny import die_at, run


def child(work: Callable[[], object]) -> int:
    """The exit status of `work` in a fork; minus the signal that killed it."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def killed_run(out: Path, kind: str, owner: object, name: str, count: int) -> None:
    die_at(owner, name, count)
    run(out, kind=kind)


POINTS: dict[str, list[tuple[object, str, int]]] = {
    "tiny": [(os, "fsync", n) for n in (3, 8, 13, 20)]
    + [(os, "replace", n) for n in (2, 4, 7)]
    + [(torch.optim.AdamW, "step", n) for n in (1, 5, 10, 17)],
    "duel": [(os, "fsync", 9), (os, "replace", 4), (torch.optim.AdamW, "step", 12), (torch.optim.SGD, "step", 9)],
}


def main(folder: Path, kind: str) -> None:
    assert child(lambda: run(folder / "whole", kind=kind)) == 0
    wanted = (folder / "whole/model/model.safetensors").read_bytes()
    wanted_log = losses(folder / "whole")
    for owner, name, count in POINTS[kind]:
        out = folder / f"{owner.__name__}.{name}-{count}"  # type: ignore[attr-defined]
        status = child(lambda out=out, at=(owner, name, count): killed_run(out, kind, *at))  # type: ignore[misc]
        fresh = not (out / "config.yaml").exists()
        again = child(lambda out=out, fresh=fresh: run(out, resume=not fresh, kind=kind))  # type: ignore[misc]
        same = again == 0 and (out / "model/model.safetensors").read_bytes() == wanted and losses(out) == wanted_log
        litter = [path.name for path in out.rglob(".tmp-*")]
        print(json.dumps({"kind": kind, "point": out.name, "status": status, "same": same, "litter": litter}))


def losses(out: Path) -> list[object]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [[line["step"], line["stage"], line["losses"], line["lr"]] for line in lines]


if __name__ == "__main__":
    torch.set_num_threads(1)
    for kind in POINTS:
        main(Path(sys.argv[1]) / kind, kind)
