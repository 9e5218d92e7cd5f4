"""Command-line helpers and the ``dyconv-pose`` command: exit codes, shared arguments, process settings, sub-commands.

A command is a module of `pose.tools` or `pose.data` with a docstring, whose first line `dyconv-pose --help` lists, and
a function ``main(argv: Sequence[str] | None = None) -> None``. It ends with::

    if __name__ == "__main__":
        run(main)

To add a command, add such a file. The file name gives the command name (``demo_video.py``: ``dyconv-pose demo-video``).
"""

import argparse
import ast
import ctypes
import errno
import importlib
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from pose import __version__
from pose.cli.arguments import ToolParser as ToolParser
from pose.cli.arguments import finite_number, fraction, output_folder, positive_count
from pose.errors import MAX_LINE, PoseError, near_name, one_line
from pose.packaged import weights_path

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130
"""128 + SIGINT, the convention of shells."""
EXIT_TERMINATED = 143
"""128 + SIGTERM."""

NEWEST = Path()
"""Value of ``--resume`` without a file: resume from the newest checkpoint."""

COMMAND_PACKAGES = ("pose.tools", "pose.data")
"""Packages whose modules are commands of ``dyconv-pose``."""

_WRITE_ERRORS = (errno.ENOSPC, errno.EFBIG, errno.EIO, errno.EDQUOT)
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # glibc, malloc.h
_KEEP_BYTES = 1 << 30

Main = Callable[[Sequence[str] | None], None]


# --- running a command


class Terminated(KeyboardInterrupt):
    """SIGTERM; raised like Ctrl-C, so that a command removes its temporary files."""


def run(main: Main, argv: Sequence[str] | None = None) -> None:
    """Run a command's main function; exit with 2 and one line on stderr after a `PoseError`, with 130 when interrupted.

    SIGTERM raises `Terminated` and exits with 143. A file, a disk or the memory that the operating system refuses is
    one line too. Any other exception is a bug and keeps its traceback.
    """
    limit_thread_spinning()  # before torch is imported, which commands do in their main
    keep_freed_memory()
    try:
        with _raising_on_sigterm(), _checked_stdout():
            main(argv)
    except PoseError as error:
        fail(str(error))
    except MemoryError as error:
        fail(f"out of memory ({str(error) or 'no details'}); use smaller images, a smaller model or a smaller batch")
    except Terminated:
        sys.exit(EXIT_TERMINATED)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:  # the reader closed the pipe (`| head`)
        sys.exit(0)
    except OSError as error:
        # Writers name their file; what is left without a name and fails to be written is a print.
        name = error.filename or ("standard output" if error.errno in _WRITE_ERRORS else "a file")
        fail(f"{name}: {error.strerror or error}; check the path, its rights and the disk space")


@contextmanager
def _checked_stdout() -> Iterator[None]:
    """Write everything to standard output before the block ends; print names that are not UTF-8 with escapes.

    Raises:
        OSError: standard output cannot be written; a pipe that its reader has closed is no error here.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        try:
            if sys.stdout is not None:
                sys.stdout.flush()
        except OSError as error:
            # Python flushes again at exit, which must not fail a second time.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            if not isinstance(error, BrokenPipeError):
                raise


def fail(message: str) -> NoReturn:
    """Print the line of an error on stderr and exit with 2; of torchrun's ranks only the first of a machine prints."""
    if os.environ.get("LOCAL_RANK", "0") == "0":
        print_error(message)
    sys.exit(EXIT_USER_ERROR)


def print_error(message: str) -> None:
    """Print the line of an error on stderr."""
    print(one_line(f"error: {message}", MAX_LINE), file=sys.stderr)


@contextmanager
def _raising_on_sigterm() -> Iterator[None]:
    """Raise `Terminated` in the block on SIGTERM; does nothing in a thread other than the main one."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(number: int, frame: FrameType | None) -> NoReturn:
        raise Terminated

    handler = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)


def limit_thread_spinning() -> None:
    """Make idle OpenMP threads sleep after a short spin. Call it before torch is imported.

    By default they spin for milliseconds, which makes a small model ten times slower on cores that run other processes.
    No spinning at all makes it three times slower on idle cores. GOMP_SPINCOUNT, if set by the user, is kept.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def keep_freed_memory() -> None:
    """Make glibc keep freed blocks of up to 1 GiB instead of returning them to the kernel.

    By default every activation map above 32 MB, and the top of the heap, is returned when freed, and each step takes
    a page fault for every 4 KB of it again. Does nothing where the C library is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _KEEP_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEEP_BYTES)


# --- arguments


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
        "overrides", metavar="key=value", nargs="*", default=[], help="override an option, such as train.epochs=20"
    )


def add_run_arguments(parser: ToolParser) -> None:
    """Add the arguments of the training tools, for `pose.engine.trainer`: ``--resume``, ``--run-dir``, ``--device``."""
    parser.add_argument(
        "--resume",
        nargs="?",
        const=NEWEST,
        type=Path,
        metavar="FILE",
        help="resume from a checkpoint, or from the newest last.pt in a folder (default: in the runs of this config)",
    )
    parser.add_argument("--run-dir", type=output_folder, help="folder of the run (default: runs/<config>/<time>)")
    parser.add_argument("--device", help="cpu, cuda, ... (default: a GPU if there is one)")
    parser.add_argument(
        "--timeout",
        type=positive_count,
        default=600,
        metavar="SECONDS",
        help="under torchrun: end when a rank does not answer for this time (default: %(default)s)",
    )


def add_pipeline_arguments(parser: ToolParser) -> None:
    """Add the arguments of the pose pipeline, for `pose.video.estimation`: model, detector, tracking, thresholds."""
    parser.add_argument(
        "--weights", type=weights_path, help="weight file, run folder or exported model (default: the packaged model)"
    )
    parser.add_argument(
        "--detector",
        default="auto",
        metavar="auto|FILE|NAME|pose|none",
        help="person detector: an .onnx file, a torchvision detector (ssdlite320_mobilenet_v3_large), pose (the pose "
        "model itself finds the most visible person), none (the whole image is one person), or auto (default)",
    )
    parser.add_argument(
        "--detect-every",
        type=positive_count,
        default=1,
        metavar="N",
        help="run the detector in every Nth frame; in between, boxes come from the last keypoints (default: 1)",
    )
    parser.add_argument(
        "--track",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="number the persons of a video, each the same in all frames (default: on)",
    )
    parser.add_argument("--smooth", action="store_true", help="smooth the keypoints of a video over time")
    parser.add_argument("--score", type=fraction, default=0.3, help="minimum box score (default: %(default)s)")
    parser.add_argument(
        "--keypoint-score",
        type=finite_number,
        default=0.3,
        help="minimum score of keypoints to draw (default: %(default)s)",
    )
    parser.add_argument("--device", help="cpu, cuda, ... (default: a GPU if there is one)")
    add_runtime_argument(parser, default="auto")
    parser.add_argument("--no-flip", dest="flip", action="store_false", help="no flip averaging: twice as fast")
    parser.add_argument(
        "--bf16", action="store_true", help="compute in bfloat16: up to twice as fast if the processor supports it"
    )
    parser.add_argument("--max-frames", type=positive_count, help="stop each input after this number of frames")


def add_runtime_argument(parser: argparse.ArgumentParser, default: str) -> None:
    """Add ``--runtime``, for `pose.PosePredictor`."""
    parser.add_argument(
        "--runtime",
        choices=["auto", "pytorch", "onnxruntime", "openvino"],
        default=default,
        help="what runs a weight file's model; auto: on a CPU the fastest that is installed, for which the model is "
        "exported once and cached (default: %(default)s)",
    )


# --- dyconv-pose


def dispatch() -> None:
    """Run the command named by the first argument with the remaining arguments: the entry point of ``dyconv-pose``."""
    run(_dispatch, sys.argv[1:])


def _dispatch(argv: Sequence[str] | None = None) -> None:
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ("-h", "--help"):
        print(_overview())
        return
    if argv[0] == "--version":
        print(f"dyconv-pose {__version__}")
        return
    command = argv[0].replace("_", "-")
    commands = _find_commands()
    if command not in commands:
        hint = near_name(command, commands) or ";"
        raise PoseError(f"unknown command '{argv[0]}'{hint} `dyconv-pose --help` lists all commands")
    module, _ = commands[command]
    sys.argv[0] = f"dyconv-pose {command}"  # argparse shows it in the usage line
    importlib.import_module(module).main(argv[1:])


def _find_commands() -> dict[str, tuple[str, Path]]:
    """Map the name of each command to its module and source file."""
    folders = {package: Path(importlib.import_module(package).__path__[0]) for package in COMMAND_PACKAGES}
    return {
        file.stem.replace("_", "-"): (f"{package}.{file.stem}", file)
        for package, folder in folders.items()
        for file in folder.glob("*.py")
        if not file.stem.startswith("_")
    }


def _overview() -> str:
    commands = {name: _first_line(file) for name, (_, file) in sorted(_find_commands().items())}
    width = max(map(len, commands), default=0)
    head = "usage: dyconv-pose [--version] COMMAND ...\n\nHuman pose estimation with dynamic convolution. "
    head += "`dyconv-pose COMMAND --help` explains a command.\n"
    return "\n".join([head, *(f"  {name:<{width}}  {line}" for name, line in commands.items())])


def _first_line(file: Path) -> str:
    """Return the first line of a module's docstring without importing the module: help must not wait for torch."""
    return (ast.get_docstring(ast.parse(file.read_bytes())) or "").partition("\n")[0]
