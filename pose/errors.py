"""Errors a user can cause, each one line: where, what was expected, what came, what to do.

The command line prints these without a traceback and exits with status 2; anything else is our own mistake and
keeps its traceback. Raise the most specific class.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class PoseError(Exception):
    """A mistake in what the project was given, with a message a user can act on."""


class ConfigError(PoseError):
    """A configuration that is misspelt, mistyped or impossible."""


class DataError(PoseError):
    """Annotations, detector boxes or images that cannot be used as they are."""


class CheckpointError(PoseError):
    """Weights that are missing, damaged, or made for another model."""


class TrainingError(PoseError):
    """A training run that cannot go on, such as one whose loss is not finite."""


class MediaError(PoseError):
    """A video, image or camera that cannot be read or written."""


def near_name(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the closest of ``known``, or an empty string."""
    matches = get_close_matches(name, list(known), n=1)
    return f"; did you mean '{matches[0]}'?" if matches else ""
