"""The table of commands, and what the shell sees of an error: all in one place."""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import sys
import traceback
from collections.abc import Sequence

import lapcore
from lapcore.errors import LapcoreError

COMMANDS = {
    "train": "train a model on a set of images",
    "join": "make one run of runs that trained different stages of a model",
    "sample": "draw images from a trained model, one per seed",
    "reconstruct": "encode images and decode them again",
    "edit": "paint over a coarse picture and draw the fine detail anew",
    "blend": "make one picture of regions of several, without seams",
    "eval": "measure a trained model on held-out images",
    "faces": "draw labelled cartoon faces to train on",
    "pyramid": "take one picture apart, and prove that it collapses back",
    "bench": "measure the operations against OpenCV, kornia, PyTorch and others",
    "info": "this machine, its backends, why one is missing and how to get it",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns 0 when done, 1 when it failed, 2 for bad usage, 130 when interrupted, 143 when told to end."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    try:
        _dispatch([argument for argument in arguments if argument != "--debug"])
        sys.stdout.flush()
        return 0
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    except BrokenPipeError:
        # The reader of our output has gone: point stdout at nothing, or the interpreter's last flush fails too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt as interruption:
        print(f"lapcore: {str(interruption) or 'interrupted'}", file=sys.stderr)
        return int(getattr(interruption, "exit_code", 130))
    except Exception as error:
        if debug:
            traceback.print_exc()
        print(f"lapcore: {describe(error)}", file=sys.stderr)
        return 1


def describe(error: Exception) -> str:
    """One line for the person at the terminal: what failed and what to do."""
    message = " ".join(str(error).split())
    if isinstance(error, LapcoreError | ValueError | TypeError):
        return message
    if isinstance(error, OSError):
        return _describe_os_error(error) or message
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return f"out of memory: try a smaller batch ({message})"
    return f"unexpected {type(error).__name__}: {message} (add --debug for the traceback)"


def _describe_os_error(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"{where}cannot write, {os.strerror(error.errno)}; free some space or choose another --out"
    return f"{where}{error.strerror}" if error.strerror else ""


def _dispatch(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="lapcore",
        description="Image pyramids, masked convolutions, and generative models built on them.",
        epilog="commands:\n" + "\n".join(f"  {name:<12} {line}" for name, line in COMMANDS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"lapcore {lapcore.__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of a failure (may stand anywhere)")
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="one of the commands below")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...", help="see: lapcore COMMAND --help")
    chosen = parser.parse_args(arguments)
    importlib.import_module(f"lapcore.cli.{chosen.command}").run(chosen.arguments)


if __name__ == "__main__":
    sys.exit(main())
