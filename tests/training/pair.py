"""Runs of two processes each, all forked from this one, which imports what they need once. Prints the exit statuses of each run.

    python -m tests.training.pair [[OPTIONS, ...], ...]

OPTIONS are those of tests.training.tiny; the runs of an inner list go on in turn. What a launcher does is done here: it names the
ranks, keeps the store at which they meet, and ends the one that outlives the other.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from typing import Any

import accelerate.optimizer  # noqa: F401  what the runs import, once, before the forks
import torch
import torch._dynamo
import torch.distributed
import torch.utils.tensorboard

from tests.training.tiny import main


def rank(number: int, store: torch.distributed.TCPStore, options: dict[str, Any]) -> int:
    """The id of a process that runs as one of two."""
    pid = os.fork()
    if pid == 0:
        names = {"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": store.port, "TORCHELASTIC_USE_AGENT_STORE": True}
        os.environ |= {name: str(value) for name, value in (names | meeting).items()}
        try:
            main(options)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    return pid


def pair(options: dict[str, Any]) -> list[int]:
    """The exit statuses of both ranks; minus the signal that killed one."""
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    ranks = [rank(number, store, options) for number in range(2)]
    statuses = {}
    while len(statuses) < 2:
        pid, status = os.waitpid(-1, 0)
        statuses[pid] = os.waitstatus_to_exitcode(status)
        if status and len(statuses) == 1:
            os.kill(next(other for other in ranks if other != pid), signal.SIGTERM)
    return [statuses[pid] for pid in ranks]


if __name__ == "__main__":
    torch.set_num_threads(1)
    for run in json.loads(sys.argv[1]):
        print(json.dumps([pair(options) for options in run]), flush=True)
