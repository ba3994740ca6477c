"""The folder of a run: whether it may be begun there, and made ready."""

from __future__ import annotations

from pathlib import Path

from lapcore.data.files import TEMPORARY
from lapcore.errors import CheckpointError
from lapcore.models.running import checkpoints
from lapcore.training.checkpoint import discard, remove_leftovers
from lapcore.training.lock import LOCK
from lapcore.training.run import RunConfig

CONFIG = "config.yaml"


def check_free(out: Path) -> None:
    """CheckpointError unless a new run may use the folder `out`."""
    if out.exists() and (not out.is_dir() or any(not _passing(entry.name) for entry in out.iterdir())):
        raise CheckpointError(f"{out}: already there; resume that run, or choose another folder")


def _passing(name: str) -> bool:
    """Tells whether an entry is what a run leaves that was killed before its first file."""
    return name == LOCK or name.startswith(TEMPORARY)


def newest_checkpoint(out: Path) -> Path | None:
    """Returns None when the run was killed before its first checkpoint, that of step 0."""
    found = checkpoints(out / "checkpoints")
    log = out / "log.jsonl"
    if not found and log.exists() and log.stat().st_size:
        raise CheckpointError(f"{out / 'checkpoints'}: expected a checkpoint to resume from, found none")
    return found[-1] if found else None


def prepare(out: Path, run: RunConfig | None) -> None:
    """Writes the settings of a run with new ones, and clears away what a killed one was in the middle of writing.

    And the model of a finished run that is trained further: it is in the newest checkpoint too, until there is a newer one.
    """
    remove_leftovers(out)
    remove_leftovers(out / "checkpoints")
    if run:
        run.save(out / CONFIG)
    if (out / "model").exists():
        discard(out / "model")
