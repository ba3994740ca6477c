"""Says how many threads a kernel may use: PyTorch's number, but no more than a container may run at once."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path

import torch


def cpu_quota(root: Path = Path("/")) -> float | None:
    """Gives the processors that this process's control groups allow it on average, or None without a limit.

    The least of the group's own limit and of those above it holds. Source: Linux, Documentation/admin-guide/cgroup-v2.rst (cpu.max)
    and Documentation/scheduler/sched-bwc.rst (version 1: cpu.cfs_quota_us).
    """
    try:
        limits = [limit for group in _groups(root) if (limit := _limit(group)) is not None]
    except (OSError, ValueError, IndexError):
        return None
    return min(limits, default=None)


def _groups(root: Path) -> Iterator[Path]:
    """Yields the folders of this process's groups, version 2's and version 1's of the controller "cpu", from each to its mount."""
    paths: dict[str, str] = {}
    for line in (root / "proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        paths |= dict.fromkeys(controllers.split(","), path)
    for line in (root / "proc/self/mountinfo").read_text().splitlines():
        mount, _, source = line.partition(" - ")
        kind, _, options = source.split(" ", 2)
        controller = {"cgroup2": "", "cgroup": "cpu"}.get(kind)
        if controller is None or controller not in paths or (controller and controller not in options.split(",")):
            continue
        inner, place = mount.split()[3:5]
        top = root / place.lstrip("/")
        below = paths[controller].removeprefix(inner.rstrip("/")) if paths[controller].startswith(inner) else ""
        group = top / below.lstrip("/")
        yield group
        while group != top:
            group = group.parent
            yield group


def _limit(group: Path) -> float | None:
    if (group / "cpu.max").is_file():
        quota, period = (group / "cpu.max").read_text().split()
    elif (group / "cpu.cfs_quota_us").is_file():
        quota, period = ((group / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
    else:
        return None
    return None if quota in ("max", "-1") else int(quota) / int(period)


def usable_cpus(quota: float | None) -> int:
    """Says how many threads a quota keeps busy: a part of a processor counts as one."""
    return sys.maxsize if quota is None else max(1, math.ceil(quota))


_USABLE = usable_cpus(cpu_quota())


def threads() -> int:
    """Gives the number that a call hands to its kernel, by `torch.set_num_threads` and the quota at the time of import."""
    return min(torch.get_num_threads(), _USABLE)
