"""Benchmark suites: each public module of this package is a suite that tools/benchmark.py finds by its name.

To add a suite, add a module with a docstring, whose first line appears in ``--help``, and two functions::

    def add_arguments(parser: argparse.ArgumentParser) -> None: ...
    def measure(budget: Budget, rng: np.random.Generator, **options) -> Iterator[Comparison]: ...

``options`` are the arguments from `add_arguments`, by name. A suite times its calls with
`pose.tools.benchmarks._timing.time_interleaved` and yields a `compare` of each pair as soon as it is available;
`compare_first` does both. Times are processor time: other processes on the core interrupt a long call but run between
two short calls, which would distort the ratio. Only whole videos, whose threads overlap, are timed by the clock.
Everything runs on one thread. Modules with a leading underscore are shared code, not suites.
"""

import os
import platform
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from pkgutil import iter_modules

import numpy as np
from numpy.typing import ArrayLike

from pose import __version__
from pose.errors import PoseError

from ._timing import Budget, Quartiles, Ratio, Seconds, quartiles, ratio_of_medians, time_interleaved

LIBRARIES = ("torch", "numpy", "opencv-python-headless", "onnxruntime", "openvino")
"""Libraries whose versions affect the timings."""

UNITS = {"ms": 1e3, "MB": 1e-6, "AP": 1e2}
"""Factor from seconds, from bytes, or from AP as a fraction, to each unit."""

Row = dict[str, str | float | None]
"""One comparison in the file of ``--json``."""


@dataclass(frozen=True)
class Comparison:
    """Our time, memory or AP against a baseline for the same work.

    Attributes:
        case: what was measured.
        against_name: name of the baseline.
        ours: in ``unit``.
        against: of the baseline, in ``unit``.
        ratio: ours over against; lower is better, except for AP.
        rounds: how often each was measured.
        target: the ratio to reach, for a latency target ("bar" in the output); None: no target.
        unit: one of `UNITS`.
        note: printed on a line of its own, if there is one.
    """

    case: str
    against_name: str
    ours: Quartiles
    against: Quartiles
    ratio: Ratio
    rounds: int
    target: float | None
    unit: str = "ms"
    note: str = ""

    def row(self, suite: str) -> Row:
        """Return the row for ``--json``, with the medians."""
        return {
            "suite": suite,
            "case": self.case,
            "ours": self.ours.median,
            "against": self.against.median,
            "against_name": self.against_name,
            "unit": self.unit,
            "ratio": self.ratio.value,
            "bar": self.target,
        }

    def line(self) -> str:
        """Return the row of the printed table, in the columns of `HEADING`, and the note on a second line."""
        target = "" if self.target is None else f"{self.target:.2f}"
        ratio = f"{self.ratio.value:.3f} ({self.ratio.low:.3f}-{self.ratio.high:.3f})"
        case = f"{self.case} / {self.against_name}"
        ours, against = _format_quartiles(self.ours), _format_quartiles(self.against)
        line = f"{ours:>28}{against:>28}{self.unit:>5}{ratio:>22}{target:>6}{self.rounds:>8}  {case}"
        return f"{line}\n{self.note}" if self.note else line


HEADING = (
    f"{'ours (quartiles)':>28}{'against (quartiles)':>28}{'unit':>5}{'ratio (95%)':>22}{'bar':>6}{'rounds':>8}  case"
)
"""Header of the printed table."""


def _format_quartiles(values: Quartiles) -> str:
    digits = 2 if values.high < 1000 else 0
    return f"{values.median:.{digits}f} ({values.low:.{digits}f}-{values.high:.{digits}f})"


def compare(
    case: str,
    ours: Seconds,
    against: Seconds,
    against_name: str,
    rng: np.random.Generator,
    target: float | None = None,
    unit: str = "ms",
) -> Comparison:
    """Summarize interleaved measurements of ours and a baseline.

    Args:
        case: what was measured.
        ours: (rounds,) seconds, or bytes.
        against: of the baseline, from the same rounds.
        against_name: name of the baseline.
        rng: for the bootstrap interval of the ratio.
        target: see `Comparison`.
        unit: see `Comparison`.
    """
    ratio = ratio_of_medians(ours, against, rng)
    ours, against = ours * UNITS[unit], against * UNITS[unit]
    return Comparison(case, against_name, quartiles(ours), quartiles(against), ratio, len(ours), target, unit)


def compare_first(
    case: str,
    calls: Mapping[str, Callable[[], object]],
    budget: Budget,
    rng: np.random.Generator,
    targets: Mapping[str, float],
    items: int = 1,
) -> Iterator[Comparison]:
    """Time calls interleaved; yields a comparison of the first, which is ours, with each of the others.

    Args:
        case: what the calls do.
        calls: by name, at least two.
        budget: of all calls together, in processor time.
        rng: draws the orders.
        targets: target ratios by the names of the others.
        items: number of equal work items per call; times are per item.
    """
    ours, *others = time_interleaved(calls, budget, rng).items()
    for name, times in others:
        yield compare(case, ours[1] / items, times / items, name, rng, targets.get(name))


def require_same(quantity: str, name: str, ours: ArrayLike, others: ArrayLike, tolerance: float) -> None:
    """Refuse to time calls that compute different results.

    Args:
        quantity: what was computed, for the message.
        name: of the other call.
        ours: our result.
        others: the other result, expected in the same shape.
        tolerance: largest allowed absolute difference.

    Raises:
        PoseError: the shapes differ or the difference exceeds the tolerance.
    """
    expected, actual = np.asarray(ours, dtype=np.float64), np.asarray(others, dtype=np.float64)
    if expected.shape != actual.shape:
        got = f"shape {actual.shape} for {expected.shape}"
    else:
        difference = float(np.abs(expected - actual).max(initial=0))
        if difference <= tolerance:
            return
        got = f"a difference of {difference:g}"
    raise PoseError(
        f"{name}: expected {quantity} within {tolerance:g} of ours, got {got}; nothing was timed, because the results "
        "differ: is this the right code?"
    )


def suite_names() -> list[str]:
    """Return the names of the suites, which are the names of their modules."""
    return sorted(module.name for module in iter_modules(__path__) if not module.name.startswith("_"))


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit torch and OpenCV to one thread; restore the number of threads at the end."""
    import cv2
    import torch

    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])


def describe_machine() -> tuple[str, str]:
    """Return two texts: processor, cores and their current load; library versions."""
    load = f", load {os.getloadavg()[0]:.1f} before" if hasattr(os, "getloadavg") else ""
    return (
        f"{_processor()}, {os.cpu_count()} cores{load}",
        f"dyconv-pose {__version__}, Python {platform.python_version()}, {', '.join(_versions())}",
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _versions() -> Iterator[str]:
    for name in LIBRARIES:
        try:
            yield f"{name} {metadata.version(name)}"
        except metadata.PackageNotFoundError:
            yield f"no {name}"
