"""Latency of dynamic against static models: MobileNetV2 in PyTorch, batch 1, one thread (paper, Table 12).

For each width, the backbone alone and the whole model with a type-B head: all layers dynamic against all layers static,
fused by `pose.models.fuse`, in both memory layouts; channels_last is the faster for both.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from pose.models.fuse import fuse

from . import Comparison, compare
from ._models import CHANNELS_LAST, SIZE_HW, build_model, in_both_layouts, infer, noise
from ._timing import Budget, time_interleaved

WIDTHS = (1.0, 0.75, 0.5, 0.35)
TARGETS = {("backbone", 1.0): 1.25, ("backbone", 0.5): 1.30, ("type B", 0.5): 1.15}
"""Target ratios by part and width. The paper reports about 1.10, for a static model several times slower than today."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--widths``."""
    parser.add_argument(
        "--widths", type=float, nargs="+", choices=WIDTHS, default=WIDTHS, metavar="WIDTH",
        help=f"width multipliers among {', '.join(map(str, WIDTHS))} (default: all)",
    )  # fmt: skip


def measure(
    budget: Budget, rng: np.random.Generator, *, widths: Sequence[float] = WIDTHS, size_hw: tuple[int, int] = SIZE_HW
) -> Iterator[Comparison]:
    """Time the backbone and the model of each width, one budget each; yields a comparison for each layout."""
    images = noise(1, 3, size_hw)
    for width in widths:
        models = {name: fuse(build_model(width, name == "dynamic", size_hw)) for name in ("dynamic", "static")}
        for part, part_name in (("backbone", "backbone"), ("type B", "+ type B")):
            calls: dict[str, Callable[[], object]] = {}
            for name, model in models.items():
                calls |= in_both_layouts(name, model.backbone if part == "backbone" else model, images, infer)
            times = time_interleaved(calls, budget, rng)
            case = f"MobileNetV2 x{width:g} {part_name}, {size_hw[0]}x{size_hw[1]}, batch 1"
            for layout in ("", CHANNELS_LAST):
                ours, against = f"dynamic{layout}", f"static{layout}"
                yield compare(f"{ours} {case}", times[ours], times[against], against, rng, TARGETS.get((part, width)))
