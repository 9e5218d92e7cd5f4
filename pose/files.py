"""Atomic file writes, and the search for the newest file of a name."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pose.errors import MediaError


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary path next to ``path``; rename it to ``path`` at the end, or remove it after an exception.

    The content reaches the disk before the rename, so that ``path`` always holds the old or the new file as a whole.

    Raises:
        MediaError: the folder cannot be written.
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
        MediaError: the folder cannot be written.
    """
    with replacing(path) as temporary, writing(Path(path)):
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the system's refusal to write ``path`` into a message that names it.

    Raises:
        MediaError: an `OSError` occurred inside.
    """
    try:
        yield
    except OSError as error:
        raise MediaError(
            f"{path}: cannot write it ({error.strerror or error}); free the disk or choose another place"
        ) from None


def newest_below(folder: Path, name: str) -> Path | None:
    """Return the most recently modified file called ``name`` below a folder, or None where there is none."""
    return max(folder.rglob(name), key=lambda file: file.stat().st_mtime, default=None)
