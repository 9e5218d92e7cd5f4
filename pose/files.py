"""Files that are written: atomically, as text or JSON, and never over an input of the same command."""

import errno
import json
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from glob import escape
from pathlib import Path
from typing import Any

from pose.errors import DataError, MediaError

# --- checks before long work


def check_outputs(outputs: Iterable[str | Path | None], inputs: Iterable[str | Path | None]) -> None:
    """Check that no output is the same file as another output or as an input, also through links of any kind.

    Raises:
        MediaError: two of the paths are the same.
    """
    used = {_identity(path): "an input" for path in inputs if path is not None}
    for path in outputs:
        if path is None:
            continue
        if (role := used.get(_identity(path))) is not None:
            raise MediaError(f"{path}: is {role} of the same command; give the output another name")
        used[_identity(path)] = "another output"


def _identity(path: str | Path) -> object:
    """Return what all paths of one file have in common: device and inode, or of a new file the path without links."""
    try:
        status = os.stat(path)
    except OSError:
        return os.path.realpath(path)
    except ValueError:  # no file can have this name
        return str(path)
    return status.st_dev, status.st_ino


# --- writing

_PARTIAL = re.compile(r"\.(\d+)\.partial")


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Write a file atomically: yield a temporary path next to ``path``, then rename it, or remove it on an exception.

    The content is flushed to disk before the rename, so ``path`` always holds either the complete old or the complete
    new content.

    Raises:
        MediaError: the file cannot be written, or ``path`` is a folder or a device.
    """
    path = Path(path)
    # Shortened, as a name must not have more than 255 bytes; the suffix is kept, by which libraries choose a format.
    stem = path.stem[:40]
    with writing(path):
        _require_file(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_partial_files(path.parent, stem)
    temporary = path.with_name(f".{stem}.{os.getpid()}.partial{path.suffix[-10:]}")
    try:
        yield temporary
        with writing(path):
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
    except OSError as error:
        # A failed write has no file name, like a failed print to standard output, whose closed pipe is no error.
        if error.filename in (None, str(temporary)) and error.errno != errno.EPIPE:
            raise _cannot_write(path, error) from None
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_with(path: Path, renames: ExitStack | None) -> Iterator[Path]:
    """As `replacing`, but ``path`` is renamed when ``renames`` ends: files of one stack are renamed all or none."""
    if renames is not None:
        yield renames.enter_context(replacing(path))
        return
    with replacing(path) as temporary:
        yield temporary


def _require_file(path: Path) -> None:
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    except ValueError:
        raise MediaError(f"{path}: no file can have this name; choose another path") from None
    if not stat.S_ISREG(mode):
        raise MediaError(f"{path}: expected the name of a file to write, got a folder or a device")


def remove_partial_files(folder: Path, stem: str = "*") -> None:
    """Remove temporary files of `replacing` whose process has been killed; ``stem`` is that of the path, or all."""
    for file in folder.glob(f".{stem if stem == '*' else escape(stem)}.*.partial*"):
        match = _PARTIAL.search(file.name)
        if match is not None and not _is_running(int(match[1])):
            file.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    if os.name == "nt":
        return True  # not known: os.kill would end it
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def write_text(path: str | Path, text: str) -> None:
    """Write a UTF-8 text file atomically.

    Raises:
        MediaError: the file cannot be written.
    """
    write_texts({Path(path): text})


def write_texts(texts: Mapping[Path, str]) -> None:
    """Write several UTF-8 text files, all or none of them.

    A file name that is not UTF-8 is written with escapes.

    Raises:
        MediaError: a file cannot be written.
    """
    with ExitStack() as stack:
        temporaries = {path: stack.enter_context(replacing(path)) for path in texts}
        for path, temporary in temporaries.items():
            with writing(path), temporary.open("wb") as file:
                file.write(texts[path].encode("utf-8", "backslashreplace"))
                file.flush()
                os.fsync(file.fileno())  # a full disk shows here at the latest, before any file is renamed


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
        raise _cannot_write(path, error) from None


def _cannot_write(path: Path, error: OSError) -> MediaError:
    return MediaError(f"{path}: cannot write it ({error.strerror or error}); free disk space or choose another path")


# --- finding


def newest_below(folder: Path, name: str) -> Path | None:
    """Return the most recently modified file called ``name`` in a folder or its subfolders, or None."""
    return max(folder.rglob(name), key=lambda file: file.stat().st_mtime, default=None)
