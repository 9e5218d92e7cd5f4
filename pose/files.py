"""Atomic file writes, and the newest file of a given name."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pose.errors import DataError, MediaError


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Write a file atomically: yield a temporary path next to ``path``, then rename it, or remove it on an exception.

    The content is flushed to disk before the rename, so ``path`` always holds either the complete old or the complete
    new content.

    Raises:
        MediaError: the file cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield temporary
        with writing(path):
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a UTF-8 text file atomically.

    Raises:
        MediaError: the file cannot be written.
    """
    with replacing(path) as temporary, writing(Path(path)):
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, content: Any, indent: int | None = None) -> None:
    """Write a JSON file atomically.

    Raises:
        MediaError: the file cannot be written.
        DataError: a number is not finite.
    """
    write_text(path, to_json(content, path, indent))


def to_json(content: Any, path: object, indent: int | None = None) -> str:
    """Return a value as JSON text; ``path`` names it in the error.

    Raises:
        DataError: a number is not finite.
    """
    try:
        return json.dumps(content, indent=indent, allow_nan=False) + ("" if indent is None else "\n")
    except ValueError:
        raise DataError(
            f"{path}: not written, because a number in it is infinite or not a number (NaN); check the weights"
        ) from None


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Convert an `OSError` in the block into a `MediaError` that names ``path``.

    Raises:
        MediaError: an `OSError` occurred inside.
    """
    try:
        yield
    except OSError as error:
        raise MediaError(
            f"{path}: cannot write it ({error.strerror or error}); free disk space or choose another path"
        ) from None


def newest_below(folder: Path, name: str) -> Path | None:
    """Return the most recently modified file called ``name`` in a folder or its subfolders, or None."""
    return max(folder.rglob(name), key=lambda file: file.stat().st_mtime, default=None)
