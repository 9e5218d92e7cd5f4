"""Types of command-line arguments: numbers in their range, and the names of files and folders to write.

A type raises `argparse.ArgumentTypeError`. The arguments whose type is in `OUTPUT_TYPES` are outputs; `ToolParser`
checks that none of them is an input.
"""

import math
import os
from argparse import ArgumentTypeError
from pathlib import Path

from pose.errors import shorten

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
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ArgumentTypeError(f"expected a finite number, got '{shorten(text)}'")
    return number


def fraction(text: str) -> float:
    """Parse a number from 0 to 1."""
    number = finite_number(text)
    if not 0 <= number <= 1:
        raise ArgumentTypeError(f"expected a number from 0 to 1, got '{shorten(text)}'")
    return number


# --- outputs


def output_file(text: str) -> Path:
    """Return the path of a file to write, after checking that a file of this name can be written."""
    path = output_path(text)
    if path.exists() and not path.is_file():
        raise ArgumentTypeError(f"expected the name of a file to write, got the folder or device '{shorten(text)}'")
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


OUTPUT_TYPES = (output_file, output_folder, output_path)
"""Types of arguments that name an output."""
