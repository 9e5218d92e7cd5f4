"""The argument parser of the commands, and types of arguments: numbers in their range, files and folders to write.

A type raises `argparse.ArgumentTypeError`. The arguments whose type is in `OUTPUT_TYPES` are outputs; `ToolParser`
checks that none of them is an input.
"""

import argparse
import math
import os
import re
import sys
from argparse import ArgumentTypeError
from itertools import takewhile
from pathlib import Path
from typing import Any, NoReturn

from pose.errors import PoseError, shorten
from pose.files import check_outputs

_OVERRIDE = re.compile(r"[a-z_]+(\.[a-z_]+)*=")

MAX_COUNT = 2**31 - 1
MAX_NAME_BYTES = 255
"""Maximum length of a file name on Linux, macOS and Windows."""

# --- numbers


def positive_count(text: str) -> int:
    """Parse an integer from 1 to `MAX_COUNT`."""
    if not (text.isascii() and text.isdecimal() and len(text) <= 10 and 1 <= int(text) <= MAX_COUNT):
        raise ArgumentTypeError(f"expected a whole number from 1 to {MAX_COUNT}, got '{shorten(text)}'")
    return int(text)


def seed_number(text: str) -> int:
    """Parse an integer from 0 to `MAX_COUNT`."""
    return 0 if text == "0" else positive_count(text)


def finite_number(text: str) -> float:
    """Parse a number that is neither infinite nor NaN."""
    number = _number(text)
    if not math.isfinite(number):
        raise ArgumentTypeError(f"expected a finite number, got '{shorten(text)}'")
    return number


def fraction(text: str) -> float:
    """Parse a number from 0 to 1."""
    number = _number(text)
    if not 0 <= number <= 1:
        raise ArgumentTypeError(f"expected a number between 0 and 1, got '{shorten(text)}'")
    return number


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


# --- outputs


def output_file(text: str) -> Path:
    """Return the path of a file to write, after checking that a file of this name can be written."""
    path = output_path(text)
    if path.exists() and not path.is_file():
        raise ArgumentTypeError(f"expected the name of a file to write, got the folder or device '{shorten(text)}'")
    return path


def output_page(text: str) -> Path:
    """Return the path of an HTML page to write, see `output_file`."""
    return _with_suffix(output_file(text), ".html")


def output_weights(text: str) -> Path:
    """Return the path of a weight file to write, see `output_file`."""
    return _with_suffix(output_file(text), ".pt")


def _with_suffix(path: Path, suffix: str) -> Path:
    if path.suffix.lower() != suffix:
        raise ArgumentTypeError(f"expected the name of a {suffix} file to write, got '{shorten(str(path))}'")
    return path


def output_folder(text: str) -> Path:
    """Return the path of a folder to write into, after checking that a folder of this name can be written."""
    path = output_path(text)
    if path.exists() and not path.is_dir():
        raise ArgumentTypeError(f"expected a folder to write into, got the file '{shorten(text)}'")
    return path


def output_path(text: str) -> Path:
    """Return the path of a file or folder to write, after checking that its folder or a folder above it is writable."""
    path = Path(text)
    if any(len(os.fsencode(part)) > MAX_NAME_BYTES for part in path.parts):
        raise ArgumentTypeError(f"expected names of at most {MAX_NAME_BYTES} bytes, got '{shorten(text)}'")
    for existing in (path, *path.parents):
        try:
            os.stat(existing)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise ArgumentTypeError(f"cannot write '{shorten(text)}' ({error.strerror})") from None
        folder = existing if existing.is_dir() else existing.parent
        if not os.access(folder, os.W_OK):
            raise ArgumentTypeError(f"cannot write '{shorten(text)}' (no permission to write into '{folder}')")
        break
    return path


OUTPUT_TYPES = (output_file, output_folder, output_page, output_path, output_weights)
"""Types of arguments that name an output."""


# --- the parser


class ToolParser(argparse.ArgumentParser):
    """Argument parser that prints the docstring unchanged and never parses an override as an option's value.

    Without the latter, ``--resume train.epochs=20`` would resume from a file of that name.
    """

    def __init__(self, description: str | None = None, **options: Any) -> None:
        options = {"formatter_class": argparse.RawDescriptionHelpFormatter, **options}
        super().__init__(description=description, **options)
        self.takes_overrides = False

    def error(self, message: str) -> NoReturn:
        """Raise a `PoseError`, of which `pose.cli.run` prints one line."""
        raise PoseError(f"{message}; see {self.prog} --help")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Split off the trailing overrides, parse the options, and check that no output is an input."""
        args = list(sys.argv[1:] if args is None else args)
        if any(arg == "" or (arg.startswith("--") and arg.endswith("=")) for arg in args):
            self.error("an argument is empty; is a variable of the shell not set?")
        count = sum(1 for _ in takewhile(_OVERRIDE.match, reversed(args))) if self.takes_overrides else 0
        options, overrides = args[: len(args) - count], args[len(args) - count :]
        namespace, unknown = super().parse_known_args(options, namespace)
        if self.takes_overrides:
            namespace.overrides = [*namespace.overrides, *overrides]
        self._check_paths(namespace)
        return namespace, unknown

    def _check_paths(self, namespace: argparse.Namespace) -> None:
        """Check that no output is the file of another argument (a folder may be both), and that no input is endless.

        Raises:
            PoseError: one is.
        """
        outputs: list[str | Path] = []
        inputs: list[str | Path] = []
        for action in self._actions:
            value = getattr(namespace, action.dest, None)
            for path in value if isinstance(value, list) else [value]:
                if isinstance(path, Path) and path.is_char_device():
                    self.error(f"{path}: expected a file, got a device")
                if isinstance(path, str | Path) and not os.path.isdir(path):
                    (outputs if action.type in OUTPUT_TYPES else inputs).append(path)
        check_outputs(outputs, inputs)
