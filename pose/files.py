"""Files that are written whole or not at all: under a temporary name, which is moved to the final one at the end."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pose.errors import MediaError


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; move it there at the end, or remove it after an exception.

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
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say which output the system refused, and why."""
    try:
        yield
    except OSError as error:
        raise MediaError(
            f"{path}: cannot write it ({error.strerror or error}); free the disk or choose another place"
        ) from None
