"""Checksum at the end of the files that an export writes, so that a damaged file is refused instead of run.

Neither ONNX nor OpenVINO's XML has a checksum of its own: one changed bit in a weight gives other keypoints without any
error. The checksum is part of the format, so any program can read the file: in ONNX the last metadata entry (fields of
a protocol buffer may have any order), in XML a comment behind the root element.
"""

import hashlib
import os
from pathlib import Path

from pose.errors import CheckpointError

_HEX = 64
_MARKS = {
    # Field 14 (metadata_props) of ModelProto, 74 bytes: field 1 (key) "sha256", field 2 (value) of 64 bytes.
    ".onnx": (b"\x72\x4a\x0a\x06sha256\x12\x40", b""),
    ".xml": (b"\n<!-- sha256 ", b" -->\n"),
}


def digest(content: bytes) -> str:
    """Return the SHA-256 of bytes as hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def with_digest(content: bytes, suffix: str) -> bytes:
    """Return the content of a file with its checksum appended.

    Args:
        content: without a checksum.
        suffix: ``.onnx`` or ``.xml``.
    """
    before, after = _MARKS[suffix]
    return content + before + digest(content).encode() + after


def has_digest(path: Path) -> bool:
    """Return whether a file ends with a checksum; false if another program wrote it, or if its end is damaged.

    Raises:
        OSError: the file cannot be read.
    """
    return _saved_digest(path) is not None


def verify_digest(path: Path) -> None:
    """Compare a file with the checksum at its end, if it has one.

    Raises:
        CheckpointError: the content is not that of the checksum.
        OSError: the file cannot be read.
    """
    saved = _saved_digest(path)
    if saved is not None and saved != digest(path.read_bytes()[: -_length(path)]):
        raise CheckpointError(f"{path}: damaged, its content is not that of its checksum; copy or export it again")


def _saved_digest(path: Path) -> str | None:
    length = _length(path)
    if not length or path.stat().st_size < length:
        return None
    before, after = _MARKS[path.suffix.lower()]
    with path.open("rb") as file:
        file.seek(-length, os.SEEK_END)
        end = file.read()
    if not (end.startswith(before) and end.endswith(after)):
        return None
    return end[len(before) : len(before) + _HEX].decode("latin-1")


def _length(path: Path) -> int:
    """Return the number of bytes that a checksum takes in this kind of file, 0 if it has none."""
    marks = _MARKS.get(path.suffix.lower())
    return 0 if marks is None else sum(map(len, marks)) + _HEX
