"""Benchmarks: each module of this package is a suite that tools/benchmark.py finds by its name.

To add one, add such a module. It has a docstring, whose first line is shown in help, and two functions::

    def add_arguments(parser: argparse.ArgumentParser) -> None: ...
    def measure(budget: Budget, rng: np.random.Generator, **options) -> Iterator[Comparison]: ...

``options`` are what `add_arguments` adds, by their names. A suite times its calls with `pose.tools.benchmarks._timing.time_interleaved`
and yields a `compare` of each pair as soon as it is known; `compare_first` does both, by the processor's time. All run
on one thread. Modules whose name begins with an underscore are no suites: they hold what several share.
"""

import os
import platform
import time
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
"""Whose versions matter to a time."""

UNITS = {"ms": 1e3, "MB": 1e-6}
"""How many of each a second, or a byte, is."""

Row = dict[str, str | float | None]


@dataclass(frozen=True)
class Comparison:
    """Our time, or memory, against another's for the same work.

    Attributes:
        case: what was done, and what was ours.
        against_name: the other.
        ours: in ``unit``.
        against: in ``unit``.
        ratio: ours over against; lower is better.
        rounds: how often each was measured.
        bar: the ratio that we want to stay below, if there is one.
        unit: ``ms`` or ``MB``.
    """

    case: str
    against_name: str
    ours: Quartiles
    against: Quartiles
    ratio: Ratio
    rounds: int
    bar: float | None
    unit: str = "ms"

    def row(self, suite: str) -> Row:
        """Return the row for ``--json``, with medians."""
        return {
            "suite": suite,
            "case": self.case,
            "ours": self.ours.median,
            "against": self.against.median,
            "against_name": self.against_name,
            "unit": self.unit,
            "ratio": self.ratio.value,
            "bar": self.bar,
        }

    def line(self) -> str:
        """Return the row of the table under `HEADING`."""
        bar = "" if self.bar is None else f"{self.bar:.2f}"
        ratio = f"{self.ratio.value:.3f} ({self.ratio.low:.3f}-{self.ratio.high:.3f})"
        what = f"{self.case} / {self.against_name}"
        ours, against = _shown(self.ours), _shown(self.against)
        return f"{ours:>28}{against:>28}{self.unit:>5}{ratio:>22}{bar:>6}{self.rounds:>8}  {what}"


HEADING = (
    f"{'ours (quartiles)':>28}{'against (quartiles)':>28}{'unit':>5}{'ratio (95%)':>22}{'bar':>6}{'rounds':>8}  case"
)


def _shown(times: Quartiles) -> str:
    digits = 2 if times.high < 1000 else 0
    return f"{times.median:.{digits}f} ({times.low:.{digits}f}-{times.high:.{digits}f})"


def compare(
    case: str,
    ours: Seconds,
    against: Seconds,
    against_name: str,
    rng: np.random.Generator,
    bar: float | None = None,
    unit: str = "ms",
) -> Comparison:
    """Summarize (rounds,) seconds that were measured in turns, or bytes, in ``unit``; see `Comparison`."""
    ratio = ratio_of_medians(ours, against, rng)
    ours, against = ours * UNITS[unit], against * UNITS[unit]
    return Comparison(case, against_name, quartiles(ours), quartiles(against), ratio, len(ours), bar, unit)


def compare_first(
    case: str,
    calls: Mapping[str, Callable[[], object]],
    budget: Budget,
    rng: np.random.Generator,
    bars: Mapping[str, float],
    pieces: int = 1,
) -> Iterator[Comparison]:
    """Time calls in turns; yields a comparison of the first, which is ours, with each of the others.

    Times are the processor's on this process, and not the wall's: when others want the core too, their turns fall into
    a long call and between two short ones, and the ratio would be theirs.

    Args:
        case: what they do.
        calls: name to call, at least two.
        budget: how much to measure, of all calls together, in the processor's time.
        rng: draws the orders.
        bars: by the others' names.
        pieces: how many equal pieces of work a call does; times are of one.
    """
    ours, *others = time_interleaved(calls, budget, rng, time.process_time).items()
    for name, times in others:
        yield compare(case, ours[1] / pieces, times / pieces, name, rng, bars.get(name))


def require_same(what: str, name: str, ours: ArrayLike, others: ArrayLike, tolerance: float) -> None:
    """Refuse to compare what does not give the same answer.

    Args:
        what: was computed, in words.
        name: of the other.
        ours: any numbers.
        others: the same numbers, in the same shape.
        tolerance: the largest difference allowed.

    Raises:
        PoseError: they differ by more.
    """
    first, second = np.asarray(ours, dtype=np.float64), np.asarray(others, dtype=np.float64)
    if first.shape != second.shape:
        got = f"shape {second.shape} for {first.shape}"
    else:
        difference = float(np.abs(first - second).max(initial=0))
        if difference <= tolerance:
            return
        got = f"a difference of {difference:g}"
    raise PoseError(
        f"{name}: expected the {what} of ours within {tolerance:g}, got {got}; nothing was timed, because this is "
        "other work: is it the right code?"
    )


def suite_names() -> list[str]:
    """Return the names of the suites, which are those of their modules."""
    return sorted(module.name for module in iter_modules(__path__) if not module.name.startswith("_"))


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch and OpenCV compute on one thread, and afterwards on as many as before."""
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


def describe_machine() -> str:
    """Return two lines: processor, cores and how busy they are already, and versions."""
    load = f", load {os.getloadavg()[0]:.1f} before" if hasattr(os, "getloadavg") else ""
    return (
        f"machine   {_processor()}, {os.cpu_count()} cores{load}\n"
        f"versions  dyconv-pose {__version__}, Python {platform.python_version()}, {', '.join(_versions())}"
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
