"""Issues found by `pose.datasets.validation.checks`, and helper functions of the checks."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

Severity = Literal["error", "warning", "info"]
MAX_EXAMPLES = 3
"""Number of records that an issue names."""
MAX_NAME = 60
"""Characters of a name that an issue shows."""


@dataclass(frozen=True)
class Issue:
    """One issue of a data set.

    Attributes:
        severity: ``error`` prevents or corrupts training or testing, ``warning`` needs a check, ``info`` is a count.
        where: file or folder.
        what: description, with the number of records and the first few of them.
        todo: how to fix it; empty for ``info``.
    """

    severity: Severity
    where: Path
    what: str
    todo: str = ""

    def __str__(self) -> str:
        return f"{self.severity}: {self.where}: {self.what}{f'; {self.todo}' if self.todo else ''}"


def report_if(
    severity: Severity, where: Path, failing: ArrayLike, names: Sequence[Any], what: str, todo: str = ""
) -> Iterator[Issue]:
    """Yield one issue if any record fails a check.

    Args:
        severity: of the issue.
        where: file or folder.
        failing: (N,) bool, True for each record that fails.
        names: N ids of the records, for the examples.
        what: description, which follows "3 of 4".
        todo: how to fix it.
    """
    rows = np.flatnonzero(np.asarray(failing, dtype=bool))
    if len(rows):
        examples = ", ".join(str(names[row])[:MAX_NAME] for row in rows[:MAX_EXAMPLES])
        examples += ", ..." if len(rows) > MAX_EXAMPLES else ""
        yield Issue(severity, where, f"{len(rows)} of {len(names)} {what} ({examples})", todo)


def duplicated(values: Sequence[Any]) -> list[bool]:
    """Return for each value whether it occurs more than once."""
    counts = Counter(values)
    return [counts[value] > 1 for value in values]
