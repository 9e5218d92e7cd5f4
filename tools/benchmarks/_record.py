"""A measurement as a JSON file: the rows of a suite, with command, date, commit and machine."""

import shlex
import subprocess
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from pose.json_file import read_json

ROOT = Path(__file__).resolve().parents[2]
CODE = ("pose", "tools", "data", "configs", "setup.cfg")
"""Paths whose changes may change what is measured; measurements themselves, in docs/, do not."""
OPTIONS_OF_THE_FILE = ("--json", "--conditions")
"""Options that are not part of the command: they do not change what is measured."""

Positive = Annotated[float, Meta(gt=0)]
Name = Annotated[str, Meta(min_length=1)]


class Row(Struct, frozen=True, forbid_unknown_fields=True):
    """One comparison; `pose.tools.benchmarks.Comparison` documents the values, which are medians.

    Attributes:
        suite: name of the suite.
        case: what was measured.
        ours: in ``unit``.
        against: of the baseline, in ``unit``.
        against_name: name of the baseline.
        unit: such as ``ms``.
        ratio: ours over against.
        bar: target of the ratio, if there is one.
    """

    suite: Name
    case: Name
    ours: Positive
    against: Positive
    against_name: Name
    unit: Name
    ratio: Positive
    bar: Positive | None


class Record(Struct, frozen=True, forbid_unknown_fields=True):
    """A run of a suite.

    Attributes:
        suite: its name.
        command: command line, without the options that name or describe the file.
        date: UTC, YYYY-MM-DD.
        commit: abbreviated commit, with ``-dirty`` if code or configs differed from it.
        machine: processor, number of cores and load before.
        versions: of the libraries.
        conditions: what else ran on the machine, in the words of who measured; may be empty.
        rows: at least one.
    """

    suite: Name
    command: Name
    date: Annotated[str, Meta(pattern=r"^\d{4}-\d\d-\d\d$")]
    commit: Name
    machine: Name
    versions: Name
    conditions: str
    rows: Annotated[list[Row], Meta(min_length=1)]


def read_record(path: Path) -> Record:
    """Read a file that ``tools/benchmark.py SUITE --json`` wrote.

    Raises:
        DataError: it is missing, not JSON, or has other content.
    """
    return read_json(path, Record, "a measurement", "; measure it again with tools/benchmark.py SUITE --json FILE")


def command_line(arguments: Sequence[str]) -> str:
    """Return the command that measures; of paths outside the working folder only the names are kept.

    Args:
        arguments: of ``tools/benchmark.py``.
    """
    words, skip = [], False
    for word in arguments:
        option = word.partition("=")[0] in OPTIONS_OF_THE_FILE
        if not (option or skip):
            words.append(Path(word).name if Path(word).is_absolute() or word.startswith("..") else word)
        skip = option and "=" not in word
    return shlex.join(["python", "tools/benchmark.py", *words])


def today() -> str:
    """Return the date in UTC, YYYY-MM-DD."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%d")


def current_commit() -> str:
    """Return the abbreviated commit, with ``-dirty`` if code or configs differ from it; ``unknown`` without git."""
    try:
        commit = _git("rev-parse", "--short=8", "HEAD").stdout.strip()
        differs = _git("diff", "--quiet", "HEAD", "--", *CODE, check=False).returncode
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{commit}-dirty" if differs else commit


def _git(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=check)
