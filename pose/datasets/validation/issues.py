"""A finding of `pose.datasets.validation.checks`, and the few tools that its checks are written with."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Severity = Literal["error", "warning", "info"]
EXAMPLES = 3
"""Records that a finding names."""


@dataclass(frozen=True)
class Issue:
    """Something to know about a data set.

    Attributes:
        severity: ``error`` stops or spoils training or testing, ``warning`` deserves a look, ``info`` is a count.
        where: the file or folder.
        what: what was found, with how many records and the first few.
        todo: what to do about it; empty for an ``info``.
    """

    severity: Severity
    where: Path
    what: str
    todo: str = ""

    def __str__(self) -> str:
        return f"{self.severity}: {self.where}: {self.what}{f'; {self.todo}' if self.todo else ''}"


def found(
    severity: Severity, where: Path, wrong: ArrayLike, names: Sequence[Any], what: str, todo: str = ""
) -> Iterator[Issue]:
    """Yield a finding if any record is wrong; ``names`` are the records' ids, for the examples."""
    rows = np.flatnonzero(np.asarray(wrong, dtype=bool))
    if len(rows):
        shown = ", ".join(str(names[row]) for row in rows[:EXAMPLES]) + (", ..." if len(rows) > EXAMPLES else "")
        yield Issue(severity, where, f"{len(rows)} of {len(names)} {what} ({shown})", todo)


def repeated(values: Sequence[Any]) -> list[bool]:
    counts = Counter(values)
    return [counts[value] > 1 for value in values]


def numbers(rows: Sequence[Any], length: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return rows as (N, length) with NaN where a row is not that many numbers, and which rows those are (N,)."""
    blank = [np.nan] * length
    fits = [isinstance(row, list) and len(row) == length for row in rows]
    try:
        table = np.array([row if fit else blank for row, fit in zip(rows, fits, strict=True)], dtype=np.float64)
    except (TypeError, ValueError):
        fits = [fit and all(type(x) in (int, float) for x in row) for row, fit in zip(rows, fits, strict=True)]
        table = np.array([row if fit else blank for row, fit in zip(rows, fits, strict=True)], dtype=np.float64)
    return table.reshape(-1, length), ~np.array(fits, dtype=bool)
