"""The threads that kernels share: every task is called once, forked children compute, and limits are kept."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from lapcore import native
from lapcore.native.threads import cpu_quota, usable_cpus
from tests.native.building import ROOT, run

CHECKS = ("counts", "callers", "nested", "exceptions", "pauses", "affinity")
needs_native = pytest.mark.skipif(native.missing() is not None, reason=f"no native code: {native.missing()}")


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """driver(SANITIZER) compiles the pool without Python, and gives the program."""
    if shutil.which("g++") is None:
        pytest.skip("g++ is not on PATH, which compiles the pool without Python")
    folder = tmp_path_factory.mktemp("pool")

    @cache
    def build(sanitizer: str) -> Path:
        sources = (str(ROOT / "tests/native/pool.cpp"), str(ROOT / "csrc/cpu/threads.cpp"))
        options = ("-std=c++17", "-O1", "-g1", "-pthread", f"-fsanitize={sanitizer}", f"-I{ROOT / 'csrc'}")
        done = run("g++", *options, *sources, "-o", str(folder / sanitizer))
        assert done.returncode == 0, done.stdout
        return folder / sanitizer

    return build


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("sanitizer", ["thread", "address,undefined"])
def test_the_pool_alone_under_a_sanitizer(driver: Callable[[str], Path], sanitizer: str, check: str) -> None:
    done = run(str(driver(sanitizer)), check)
    assert done.returncode == 0, done.stdout


def test_a_forked_child_of_the_pool_alone(driver: Callable[[str], Path]) -> None:
    """The other sanitizers have locks of their own, which a child that is forked meanwhile never gets."""
    done = run(str(driver("undefined")), "forks")
    assert done.returncode == 0, done.stdout


COUNT = """
lapcore.laplacian_pyramid(x, 3)
for threads in {threads}:
    if os.fork() == 0:
        torch.set_num_threads(threads)
        lapcore.laplacian_pyramid(x, 3)
        time.sleep(0.1)
        names = [open(f"/proc/self/task/{{task}}/comm").read().strip() for task in os.listdir("/proc/self/task")]
        print(names.count("lapcore"), flush=True)
        os._exit(0)
    os.wait()
"""
"""Counts the pool's threads in forked children, which have these alone."""


def python(code: str) -> subprocess.CompletedProcess[str]:
    prelude = (
        "import os, sys, threading, time, torch, lapcore\ntorch.set_num_threads(3)\nx = torch.rand(2, 3, 300, 300)\n"
    )
    return subprocess.run([sys.executable, "-c", prelude + code], capture_output=True, text=True, timeout=30, cwd=ROOT)


@needs_native
def test_a_child_that_is_forked_after_parallel_calls_computes_the_same() -> None:
    done = python("""
def bands(x):
    return [band.numpy().tobytes() for band in lapcore.laplacian_pyramid(x, 3)]
want = bands(x)
children = []
for _ in range(5):
    child = os.fork()
    if child == 0:
        os._exit(0 if bands(x) == want else 1)
    children.append(child)
print([os.waitpid(child, 0)[1] for child in children])
""")
    assert done.stdout == "[0, 0, 0, 0, 0]\n", done.stderr


@needs_native
def test_a_child_that_is_forked_during_the_calls_of_other_threads_computes() -> None:
    """Their outputs are small, and large ones, whose memory is kept under a lock."""
    done = python("""
lapcore.collapse(lapcore.laplacian_pyramid(x, 3))
stop = False
def busy(x):
    while not stop:
        lapcore.laplacian_pyramid(x, 3)
threads = [threading.Thread(target=busy, args=(each,), daemon=True) for each in (x, torch.rand(1, 3, 1200, 1200))]
for thread in threads:
    thread.start()
codes = []
for _ in range(20):
    child = os.fork()
    if child == 0:
        for each in (x, torch.rand(1, 3, 800, 800)):
            lapcore.collapse(lapcore.laplacian_pyramid(each, 2))
        os._exit(0)
    codes.append(os.waitpid(child, 0)[1])
stop = True
print(set(codes))
""")
    assert done.stdout == "{0}\n", done.stderr


@needs_native
def test_a_child_computes_that_is_forked_before_the_kernels_are_loaded() -> None:
    """Its parent has used PyTorch's threads, which the child has not."""
    done = python("""
(x * 2).sum()
child = os.fork()
if child == 0:
    assert "lapcore._C" not in sys.modules
    lapcore.laplacian_pyramid(x, 3)
    os._exit(0)
print(os.waitpid(child, 0)[1])
""")
    assert done.stdout == "0\n", done.stderr


@needs_native
def test_data_loaders_workers_compute_after_their_parent_did() -> None:
    done = python("""
from torch.utils.data import DataLoader, Dataset
class Bands(Dataset):
    def __len__(self): return 8
    def __getitem__(self, i): return lapcore.laplacian_pyramid(x[0] * i, 2)[0].sum()
lapcore.laplacian_pyramid(x, 3)
print(len(list(DataLoader(Bands(), num_workers=2, multiprocessing_context="fork"))))
""")
    assert done.stdout == "8\n", done.stderr


@needs_native
def test_no_more_threads_than_pytorch_was_told() -> None:
    told = (1, 2, 4)
    done = python(COUNT.format(threads=told))
    usable = [min(threads, len(os.sched_getaffinity(0)), usable_cpus(cpu_quota())) for threads in told]
    assert done.stdout == "".join(f"{count - 1}\n" for count in usable), done.stderr


@needs_native
def test_one_processor_of_the_affinity_mask_means_no_further_threads() -> None:
    done = python("os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})" + COUNT.format(threads=[3]))
    assert done.stdout == "0\n", done.stderr


@needs_native
def test_the_interpreter_ends_while_daemon_threads_are_in_kernels() -> None:
    """PyTorch is kept out: its own wait for the GIL ends the process."""
    done = python("""
from lapcore import _C
from lapcore.native.memory import DTYPES
logits, u, indices = torch.rand(4096, 256), torch.rand(4096), torch.empty(4096, dtype=torch.int64)
arguments = (DTYPES[torch.float32], 2, 4096, 256, logits.data_ptr(), u.data_ptr(), indices.data_ptr())
def busy():
    while True:
        _C.categorical(*arguments)
for _ in range(3):
    threading.Thread(target=busy, daemon=True).start()
time.sleep(0.2)
print("end")
""")
    assert (done.returncode, done.stdout) == (0, "end\n"), done.stderr


def group(root: Path, mounts: str, groups: str, files: dict[str, str]) -> Path:
    """Writes a system's files as far as they tell a quota."""
    for name, content in {"proc/self/mountinfo": mounts, "proc/self/cgroup": groups, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


VERSION_2 = "30 20 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
VERSION_1 = (
    "29 20 0:25 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "30 20 0:26 {root} /sys/fs/cgroup/cpu,cpuacct rw,nosuid - cgroup cgroup rw,cpu,cpuacct\n"
)


def version_1(folder: str, quota: int, period: int = 100000) -> dict[str, str]:
    name = f"sys/fs/cgroup/cpu,cpuacct{folder}/cpu.cfs"
    return {f"{name}_quota_us": f"{quota}\n", f"{name}_period_us": f"{period}\n"}


def version_2(a: str, b: str) -> dict[str, str]:
    return {"sys/fs/cgroup/a/cpu.max": f"{a}\n", "sys/fs/cgroup/a/b/cpu.max": f"{b}\n"}


@pytest.mark.parametrize(
    ("mounts", "groups", "files", "quota"),
    [
        (VERSION_2, "0::/\n", {"sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1.5),
        (VERSION_2, "0::/\n", {"sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
        (VERSION_2, "0::/a/b\n", version_2(a="400000 100000", b="max 100000"), 4),
        (VERSION_2, "0::/a/b\n", version_2(a="400000 100000", b="50000 100000"), 0.5),
        (VERSION_1.format(root="/"), "4:memory:/m\n3:cpu,cpuacct:/job\n", version_1("/job", 200000), 2),
        (VERSION_1.format(root="/"), "3:cpu,cpuacct:/job\n", version_1("/job", -1), None),
        (VERSION_1.format(root="/docker/1"), "3:cpu,cpuacct:/docker/1\n", version_1("", 300000, 50000), 6),
        (VERSION_1.format(root="/docker/1"), "3:cpu,cpuacct:/other\n", version_1("", 300000), 3),
        (VERSION_1.format(root="/") + VERSION_2, "0::/\n3:cpu,cpuacct:/job\n", version_1("/job", 100000), 1),
        ("", "0::/\n", {}, None),
        (VERSION_2, "0::/\n", {"sys/fs/cgroup/cpu.max": "what\n"}, None),
    ],
)  # fmt: skip
def test_the_quota_of_control_groups(
    tmp_path: Path, mounts: str, groups: str, files: dict[str, str], quota: float | None
) -> None:
    assert cpu_quota(group(tmp_path, mounts, groups, files)) == quota


def test_a_system_without_control_groups_has_no_quota(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path) is None


def test_a_part_of_a_processor_counts_as_one() -> None:
    assert [usable_cpus(quota) for quota in (0.1, 1, 1.5, 4)] == [1, 1, 2, 4]
    assert usable_cpus(None) > (os.cpu_count() or 1)
