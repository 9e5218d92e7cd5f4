"""Exceptions for user mistakes. A message is one line: where, what was expected, what was given, what to do.

The command line prints the message without a traceback and exits with status 2. Any other exception is a bug and keeps
its traceback. Raise the most specific class.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class PoseError(Exception):
    """Base class of user mistakes, with a message that says how to correct them."""


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
