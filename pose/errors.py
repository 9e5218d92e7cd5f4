"""Exceptions for user mistakes. A message is one line: where, what was expected, what was given, what to do.

The command line prints the message without a traceback and exits with status 2. Any other exception is a bug and keeps
its traceback. Raise the most specific class.
"""

import re
from collections.abc import Iterable
from difflib import get_close_matches

MAX_LINE = 300
"""Maximum number of characters of the line that a command prints for an error."""
MAX_MESSAGE = MAX_LINE - len("error: ")
"""Maximum number of characters of an error's message."""


class PoseError(Exception):
    """Base class of user mistakes, with a message that says how to correct them: ``str`` gives it as one line."""

    def __str__(self) -> str:
        return one_line(super().__str__(), MAX_MESSAGE)


class ConfigError(PoseError):
    """A config with unknown options, wrong types or impossible values."""


class DataError(PoseError):
    """Annotations, detector boxes or images that cannot be used."""


class CheckpointError(PoseError):
    """Weights that are missing, damaged or made for another model."""


class TrainingError(PoseError):
    """A training run that cannot continue, such as one with a non-finite loss."""


class MediaError(PoseError):
    """A video, image or camera that cannot be read, or a file that cannot be written."""


def near_name(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the closest name in ``known``, or an empty string."""
    matches = get_close_matches(name, list(known), n=1)
    return f"; did you mean '{matches[0]}'?" if matches else ""


def shorten(text: str, limit: int = 60) -> str:
    """Return a text of at most ``limit`` characters: the middle of a longer one is replaced by ``...``."""
    if len(text) <= limit:
        return text
    last = (limit - 3) // 3
    return f"{text[: limit - 3 - last]}...{text[-last:]}"


def one_line(message: str, limit: int = MAX_LINE) -> str:
    """Return a message as one line of at most ``limit`` printable characters.

    Line breaks become spaces, other characters that a terminal does not print become escapes. In a message that is too
    long, first the words of more than 60 characters are shortened (paths and values), then the message itself.
    """
    line = " ".join(message.splitlines())
    line = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in line)
    if len(line) > limit:
        line = re.sub(r"\S{61,}", lambda word: shorten(word.group()), line)
    return shorten(line, limit)
