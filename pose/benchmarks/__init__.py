"""Benchmarks: each module of this package is a suite that tools/benchmark.py finds by its name.

To add one, add such a module. It has a docstring, whose first line is shown in help, and two functions::

    def add_arguments(parser: argparse.ArgumentParser) -> None: ...
    def measure(budget: Budget, rng: np.random.Generator, **options) -> Iterator[Comparison]: ...

``options`` are what `add_arguments` adds, by their names. A suite times its calls with `pose.timing.time_interleaved`
and yields a `compare` of each pair as soon as it is known. All run on one thread.
"""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from pkgutil import iter_modules

import numpy as np

from pose import __version__
from pose.timing import Quartiles, Ratio, Seconds, quartiles, ratio_of_medians

LIBRARIES = ("torch", "numpy", "opencv-python-headless", "onnxruntime")
"""Whose versions matter to a time."""

Row = dict[str, str | float | None]


@dataclass(frozen=True)
class Comparison:
    """Our time against another for the same work.

    Attributes:
        case: what was done, and what was ours.
        against_name: the other.
        ours: in milliseconds.
        against: in milliseconds.
        ratio: ours over against; lower is better.
        rounds: how often each was timed.
        bar: the ratio that we want to stay below, if there is one.
    """

    case: str
    against_name: str
    ours: Quartiles
    against: Quartiles
    ratio: Ratio
    rounds: int
    bar: float | None

    def row(self, suite: str) -> Row:
        """Return the row for ``--json``, times as medians."""
        return {
            "suite": suite,
            "case": self.case,
            "ours": self.ours.median,
            "against": self.against.median,
            "against_name": self.against_name,
            "unit": "ms",
            "ratio": self.ratio.value,
            "bar": self.bar,
        }

    def line(self) -> str:
        """Return the row of the table under `HEADING`."""
        bar = "" if self.bar is None else f"{self.bar:.2f}"
        ratio = f"{self.ratio.value:.3f} ({self.ratio.low:.3f}-{self.ratio.high:.3f})"
        what = f"{self.case} / {self.against_name}"
        return f"{_shown(self.ours):>28}{_shown(self.against):>28}{ratio:>22}{bar:>6}{self.rounds:>8}  {what}"


HEADING = f"{'ours ms (quartiles)':>28}{'against ms (quartiles)':>28}{'ratio (95%)':>22}{'bar':>6}{'rounds':>8}  case"


def _shown(times: Quartiles) -> str:
    return f"{times.median:.2f} ({times.low:.2f}-{times.high:.2f})"


def compare(
    case: str,
    ours: Seconds,
    against: Seconds,
    against_name: str,
    rng: np.random.Generator,
    bar: float | None = None,
) -> Comparison:
    """Summarise (rounds,) times in seconds that were measured in turns; see `Comparison`."""
    ratio = ratio_of_medians(ours, against, rng)
    return Comparison(case, against_name, quartiles(ours * 1e3), quartiles(against * 1e3), ratio, len(ours), bar)


def suite_names() -> list[str]:
    """Return the names of the suites, which are those of their modules."""
    return sorted(module.name for module in iter_modules(__path__))


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute on one thread, and afterwards on as many as before."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


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
