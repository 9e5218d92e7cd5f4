"""Cache of exported models: one file for each weight file, runtime and set of versions. Imports no PyTorch.

The name of an entry holds a checksum of all that determines its content, so an entry is never out of date: other
weights or another version have another name. Entries are renamed into place when they are complete, so processes may
look for an entry and make it at the same time.
"""

import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path

from pose import __version__
from pose.inference.file_digest import digest

SUFFIXES = {"onnxruntime": ".onnx", "openvino": ".xml"}
"""Suffix of the exported files of each runtime; the runtime's name is that of its package."""
MAX_ENTRIES = 16
"""Number of exported models that the cache keeps: those that were used last."""
PARTIAL_S = 3600
"""Age in seconds from which an unfinished file belongs to a process that was killed."""
SOURCES = ("models", "export", "inference")
"""Packages whose code determines an export; their source is part of the checksum, for work on the project itself."""
_KEY_DIGITS = 24
_ENTRY = re.compile(rf".*-[0-9a-f]{{{_KEY_DIGITS}}}-(static|dynamic)(\.\d+\.partial)?\.(onnx|xml|bin)")


def cache_folder() -> Path | None:
    """Return the folder of cached exports: ``DYCONV_POSE_CACHE``, or ``dyconv-pose`` in the user's cache folder.

    That is ``$XDG_CACHE_HOME``, else the usual one of the system.

    None if the user has no home folder.
    """
    own = os.environ.get("DYCONV_POSE_CACHE", "")
    if own:
        return Path(own)
    xdg = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if xdg.is_absolute():
        return xdg / "dyconv-pose"
    try:
        home = Path.home()
    except RuntimeError:
        return None
    return home / {"win32": "AppData/Local", "darwin": "Library/Caches"}.get(sys.platform, ".cache") / "dyconv-pose"


def entry_name(weights_digest: str, runtime: str, dynamic: bool, stem: str) -> str:
    """Return the file name of a cached export.

    Args:
        weights_digest: of the weight file, which holds the config, too.
        runtime: a key of `SUFFIXES`.
        dynamic: whether the model has dynamic convolutions.
        stem: first part of the name, for people who look into the folder.
    """
    versions = (__version__, _source_digest(), _version("torch"), _version("onnx"), _version(runtime))
    key = digest("\n".join((weights_digest, *versions)).encode())[:_KEY_DIGITS]
    return f"{stem}-{key}-{'dynamic' if dynamic else 'static'}{SUFFIXES[runtime]}"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"


@cache
def _source_digest() -> str:
    root = Path(__file__).parents[1]
    files = sorted(file for name in SOURCES for file in (root / name).rglob("*.py"))
    return digest(b"\0".join(file.read_bytes() for file in files))


def mark_used(entry: Path) -> None:
    """Set the time of an entry, by which `prune` decides."""
    with suppress(OSError):
        os.utime(entry)


def prune(folder: Path, max_entries: int = MAX_ENTRIES) -> None:
    """Remove the entries of a cache folder that were not used for the longest time, and what killed processes left."""
    with suppress(OSError):
        for file in [file for file in _entries(folder) if ".partial." in file.name]:
            if time.time() - file.stat().st_mtime > PARTIAL_S:
                file.unlink(missing_ok=True)
        entries = [file for file in _entries(folder) if file.suffix != ".bin" and ".partial." not in file.name]
        for file in sorted(entries, key=lambda entry: entry.stat().st_mtime, reverse=True)[max_entries:]:
            file.unlink(missing_ok=True)
            file.with_suffix(".bin").unlink(missing_ok=True)


def _entries(folder: Path) -> Iterator[Path]:
    return (file for file in folder.iterdir() if _ENTRY.fullmatch(file.name))
