"""Read JSON: every JSON text that this package reads goes through this module; `pose.files.write_json` writes it.

One pass decodes and checks (msgspec): a type such as ``list[Row]``, with a `msgspec.Struct` for each kind of
row, gives every field a type and a range. Fields without a type are skipped. A number is always finite: NaN, Infinity
and numbers beyond a double are errors.
"""

import codecs
import gc
import json
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec

from pose.errors import DataError, near_name

T = TypeVar("T")

MAX_QUOTED = 40
"""Characters of a wrong value that an error message quotes."""
PIECE_BYTES = 1 << 20
"""Text whose encoding is checked at a time."""

_STEP = re.compile(r"\.(?P<key>[^.\[]+)|\[(?P<index>\d+)\]")
"""A key or an index in the place of an error."""
_WORDS = {
    "int": "an integer",
    "float": "a number",
    "int | float": "a number",
    "bool | int | float": "0 or 1",
    "str": "text",
    "array": "a list",
    "object": "a mapping",
}
"""Types in words, by their names in messages of msgspec."""


@contextmanager
def paused_garbage_collection() -> Iterator[None]:
    """Context manager or decorator for work that makes many objects, none of which is garbage.

    Python looks for cycles of garbage more often the more objects there are: a quarter of the time for 150,000 persons.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def read_json(path: Path, content_type: type[T], what: str, todo: str = "") -> T:
    """Read a JSON file as ``content_type``.

    Args:
        path: regular file of UTF-8 text (with or without byte order mark; UTF-16 and UTF-32 are recognized).
        content_type: type of the content, with the types and ranges of all fields that are used.
        what: what the file should contain, for error messages.
        todo: what to do about content of another type, for error messages.

    Raises:
        DataError: the file is missing, cannot be read, is not JSON, or has content of another type.
    """
    return decode_json(read_bytes(path), content_type, what, path, todo)


def decode_json(content: bytes | str, content_type: type[T], what: str, where: object, todo: str = "") -> T:
    """Decode JSON text as ``content_type``; ``where`` it is from is for error messages, the others as for `read_json`.

    Raises:
        DataError: it is not JSON, or has content of another type.
    """
    content = content.encode(errors="surrogatepass") if isinstance(content, str) else content
    try:
        if (encoding := json.detect_encoding(content)) != "utf-8":
            content = content.decode(encoding).encode()
        _check_utf8(content)
        return msgspec.json.decode(content, type=content_type)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{where}: {_explain(content, error, what, todo)}") from None


def _check_utf8(content: bytes) -> None:
    """Check all text, also what msgspec skips, in pieces, which need no memory; raises `UnicodeDecodeError`."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    for start in range(0, len(content), PIECE_BYTES):
        decoder.decode(content[start : start + PIECE_BYTES])
    decoder.decode(b"", final=True)


def read_bytes(path: Path) -> bytes:
    """Read a regular file.

    Raises:
        DataError: it is missing, is no regular file (a device or pipe could be endless), or cannot be read.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise DataError(f"{path}: cannot be read: expected a regular file, got a folder, pipe or device")
        return path.read_bytes()
    except FileNotFoundError:
        siblings = (sibling.name for sibling in path.parent.glob("*.json")) if path.parent.is_dir() else ()
        raise DataError(
            f"{path}: no such file{near_name(path.name, siblings)}; check the path, or data.root: COCO has "
            "annotations/, train2017/ and val2017/ below it"
        ) from None
    except (OSError, ValueError) as error:  # a path with a NUL character is a ValueError
        raise DataError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None


def _explain(content: bytes, error: Exception, what: str, todo: str) -> str:
    """Say what is wrong with content that could not be decoded."""
    try:
        content.decode()
        msgspec.json.decode(content, type=msgspec.Raw)  # a wrong type may come before an error of the syntax
        if isinstance(error, msgspec.ValidationError):
            return _explain_content(content, str(error), what) + (f"; {todo}" if todo else "")
    except UnicodeDecodeError:
        return "expected JSON text, got binary data (is it damaged, or still compressed?)"
    except (msgspec.DecodeError, RecursionError) as syntax_error:
        error = syntax_error
    if isinstance(error, RecursionError):
        return f"expected {what}, got lists or mappings that are nested too deeply; write it again"
    return _explain_syntax(content, str(error))


def _explain_syntax(content: bytes, error: str) -> str:
    malformed = re.search(r": (.*) \(byte (\d+)\)", error)
    position = int(malformed[2]) if malformed else len(content)
    line, column = content.count(b"\n", 0, position) + 1, position - content.rfind(b"\n", 0, position)
    reason = f"{malformed[1]} {_quote(content[position:])}" if malformed else "the text ends early"
    not_finite = content[position : position + 8].startswith((b"NaN", b"Infinity"))
    todo = "write finite numbers" if not_finite else "is the file complete?"
    return f"not JSON at line {line}, column {column} ({reason}); {todo}"


def _explain_content(content: bytes, error: str, what: str) -> str:
    """Say where content differs from its type: place, what is expected, and the beginning of what is there."""
    reason, _, place = error.rpartition(" - at `$") if " - at `$" in error else (error, "", "")
    place = place.removesuffix("`")
    value, row = _value_at(content, place)
    missing = re.fullmatch(r"Object missing required field `(.*)`", reason)
    if missing:
        keys = msgspec.json.decode(value, type=dict[str, msgspec.Raw])
        text = f"expected '{missing[1]}', got {_quote(', '.join(keys).encode())}{near_name(missing[1], keys)}"
        return f"{_in_words(place)}{row}: {text}" if place else f"expected {what}: {text}"
    if reason.startswith("Expected"):
        reason, _, kind = reason.partition(", got ")
        if not place:
            return f"expected {what}, got {_in_words(kind)}"
        return f"{_in_words(place)}{row}: e{_in_words(reason)[1:]}, got {_quote(value)}"
    if reason.startswith(("Number out", "Integer value out")):
        return f"{_in_words(place)}{row}: expected a finite number, got {_quote(value)}"
    return f"{_in_words(place)}{row}: {reason}" if place else reason  # of a check of our own


def _in_words(text: str) -> str:
    """Replace the type names of msgspec, and name the row of a list: ``[3].score`` is ``row 3, score``."""
    text = re.sub(r"`([^`]+)`", lambda found: _WORDS.get(found[1], found[1]), text)
    return re.sub(r"^\[(\d+)\]\.?", r"row \1, ", text).removesuffix(", ").removeprefix(".")


def _value_at(content: bytes, place: str) -> tuple[msgspec.Raw | bytes, str]:
    """Return the JSON text at a place, and in words the id of the innermost row around it."""
    value: msgspec.Raw | bytes = content
    row = ""
    for key, index in _STEP.findall(place):
        if index:
            value = msgspec.json.decode(value, type=list[msgspec.Raw])[int(index)]
        else:
            value = msgspec.json.decode(value, type=dict[str, msgspec.Raw])[key]
        if bytes(value)[:1] == b"{":
            keys = msgspec.json.decode(value, type=dict[str, msgspec.Raw])
            row = next((f" ({name} {_quote(keys[name])})" for name in ("id", "image_id") if name in keys), row)
    return value, row


def _quote(value: msgspec.Raw | bytes) -> str:
    """Return the beginning of JSON text as one printable line."""
    text = bytes(value)[: 4 * MAX_QUOTED].decode(errors="replace").strip()
    line = "".join(character if character.isprintable() else " " for character in text)
    return line if len(line) <= MAX_QUOTED else f"{line[:MAX_QUOTED]}..."


def raw_text(content: Mapping[str, msgspec.Raw | Sequence[msgspec.Raw]]) -> str:
    """Return a mapping of JSON texts, as `read_json` gives them for ``dict[str, msgspec.Raw]``, as JSON text."""
    return msgspec.json.encode(content).decode()
