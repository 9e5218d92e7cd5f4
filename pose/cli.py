"""What all command-line tools share: exit codes, ``--cfg`` with overrides, and the command ``dyconv-pose``.

A tool is a module of `pose.tools` with a docstring, whose first line `dyconv-pose --help` shows, and a function
``main(argv: Sequence[str] | None = None) -> None``. It ends with::

    if __name__ == "__main__":
        run(main)

To add a tool, add such a file: the command finds it by its name (``demo_video.py`` is ``dyconv-pose demo-video``).
"""

import argparse
import ast
import ctypes
import importlib
import os
import re
import sys
from collections.abc import Callable, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from pose import __version__
from pose.errors import PoseError, near_name

OVERRIDE = re.compile(r"[a-z_]+(\.[a-z_]+)*=")
USER_MISTAKE = 2
INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""

NEWEST = Path()
"""Stands for ``--resume`` without a file."""

Main = Callable[[Sequence[str] | None], None]


def run(main: Main, argv: Sequence[str] | None = None) -> None:
    """Run a tool and exit: 0 when done, 2 with one line on stderr for a user's mistake, 130 when interrupted.

    Any other exception is our own mistake and keeps its traceback.
    """
    let_threads_sleep()  # tools import torch in their main, after this
    keep_freed_memory()
    try:
        main(argv)
        sys.stdout.flush()
    except PoseError as error:
        print("error:", *str(error).splitlines(), file=sys.stderr)
        sys.exit(USER_MISTAKE)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # The reader has left (`| head`). Python flushes stdout once more on its way out, which must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


class ToolParser(argparse.ArgumentParser):
    """Shows a tool's docstring as it is written, and never takes an override for the value of an option before it.

    Without the latter, ``--resume train.epochs=20`` would resume from a file of that name.
    """

    def __init__(self, description: str | None) -> None:
        super().__init__(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
        self.takes_overrides = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Part the trailing overrides from the options before they are parsed."""
        args = list(sys.argv[1:] if args is None else args)
        count = sum(1 for _ in takewhile(OVERRIDE.match, reversed(args))) if self.takes_overrides else 0
        options, overrides = args[: len(args) - count], args[len(args) - count :]
        namespace, unknown = super().parse_known_args(options, namespace)
        if self.takes_overrides:
            namespace.overrides = [*namespace.overrides, *overrides]
        return namespace, unknown


def add_config_arguments(parser: ToolParser, required: bool = True) -> None:
    """Add ``--cfg FILE`` and the trailing ``key=value`` overrides, for ``load_config(args.cfg, args.overrides)``."""
    parser.takes_overrides = True
    parser.add_argument(
        "--cfg",
        metavar="FILE",
        required=required,
        help="YAML file, or the name of a packaged config",
    )
    parser.add_argument(
        "overrides", metavar="key=value", nargs="*", default=[], help="override a value, such as train.epochs=20"
    )


def add_run_arguments(parser: ToolParser) -> None:
    """Add what all training tools take, for `pose.engine.trainer`: ``--resume [FILE]``, ``--run-dir``, ``--device``."""
    parser.add_argument(
        "--resume",
        nargs="?",
        const=NEWEST,
        type=Path,
        metavar="FILE",
        help="go on from a checkpoint, or from a folder's newest last.pt (default: of this config's runs)",
    )
    parser.add_argument("--run-dir", type=Path, help="folder of the run (default: runs/<config>/<time>)")
    parser.add_argument("--device", help="cpu, cuda, ... (default: a GPU where there is one)")


def positive_count(text: str) -> int:
    """Parse a count of at least 1, as an argument's ``type``."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got '{text}'")
    return int(text)


def dispatch() -> None:
    """Entry point of ``dyconv-pose``: run the tool that the first argument names with the arguments that follow."""
    run(_dispatch, sys.argv[1:])


def _dispatch(argv: Sequence[str] | None = None) -> None:
    argv = list(sys.argv[1:] if argv is None else argv)
    modules = {name.replace("_", "-"): name for name in _tool_files()}
    if not argv or argv[0] in ("-h", "--help"):
        print(_overview())
        return
    if argv[0] == "--version":
        print(f"dyconv-pose {__version__}")
        return
    command = argv[0].replace("_", "-")
    if command not in modules:
        raise PoseError(f"no tool '{argv[0]}'{near_name(command, modules) or ';'} `dyconv-pose --help` lists them")
    sys.argv[0] = f"dyconv-pose {command}"  # the name that argparse shows
    importlib.import_module(f"pose.tools.{modules[command]}").main(argv[1:])


def _tool_files() -> dict[str, Path]:
    """Module name to file of every tool."""
    (folder,) = importlib.import_module("pose.tools").__path__
    return {file.stem: file for file in Path(folder).glob("*.py") if not file.stem.startswith("_")}


def _overview() -> str:
    tools = {name.replace("_", "-"): _first_line(file) for name, file in sorted(_tool_files().items())}
    width = max(map(len, tools), default=0)
    lines = [f"  {name:<{width}}  {line}" for name, line in tools.items()]
    return "\n".join(
        [
            "usage: dyconv-pose [--version] TOOL ...",
            "",
            "Human pose estimation with dynamic convolution. `dyconv-pose TOOL --help` explains a tool.",
            "",
            *lines,
        ]
    )


def _first_line(file: Path) -> str:
    """Read a docstring without importing its module: help must not wait for torch."""
    return (ast.get_docstring(ast.parse(file.read_bytes())) or "").partition("\n")[0]


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc, malloc.h
KEEP_BYTES = 1 << 30


def let_threads_sleep() -> None:
    """Let OpenMP's threads sleep soon while they wait for each other; call it before torch is imported.

    By default they spin for milliseconds, which on cores that have other work to do makes a small model ten times slower.
    Never to spin makes it three times slower on idle ones. A user's own GOMP_SPINCOUNT is kept.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def keep_freed_memory() -> None:
    """Let glibc keep freed blocks of up to 1 GiB instead of handing them back to the kernel.

    By default every activation map above 32 MB, and the top of the heap, is returned when freed, and each step takes
    a page fault for every 4 KB of it again. Does nothing where the C library is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, KEEP_BYTES)
        mallopt(M_TRIM_THRESHOLD, KEEP_BYTES)
