"""Latency of dynamic against static models: MobileNetV2 in PyTorch, batch 1, one thread (paper, Table 12).

Table 12: for each width, the ImageNet classifier at 224x224 as it is trained, batch norms not fused, in contiguous
layout. ``--images 5000`` times each one on as many images as the paper; all images are of the same random pixels, which
do not change the time. Static and dynamic take turns, image by image. Below each classifier is its row of the table in
docs/paper.md: width; static mean and median, dynamic mean and median, in ms; ratio of the means, ratio of the medians
with its 95% interval; the paper's ratio. ``--widths`` runs it in pieces.

Pose models for deployment: for each width, the backbone alone and the whole model with a type-B head, all layers
dynamic against all layers static, fused by `pose.models.fuse`, in both memory layouts; channels_last is the faster for
both.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from pose.cli.arguments import positive_count
from pose.models.fuse import fuse

from . import Comparison, compare
from ._models import CHANNELS_LAST, SIZE_HW, build_imagenet_classifier, build_model, in_both_layouts, infer, noise
from ._timing import Budget, time_interleaved

PARTS = ("classifiers", "pose")
WIDTHS = (1.0, 0.75, 0.5, 0.35)
TARGETS = {("backbone", 1.0): 1.25, ("backbone", 0.5): 1.30, ("type B", 0.5): 1.15}
"""Target ratios by part and width. The paper reports about 1.10, for a static model several times slower than today."""
IMAGENET_HW = (224, 224)
PAPER_RATIO = "about 1.10"
"""Time of the dynamic classifiers relative to the static ones in the paper; its times in ms are not at hand."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--widths``, ``--parts`` and ``--images``."""
    parser.add_argument(
        "--widths", type=float, nargs="+", choices=WIDTHS, default=WIDTHS, metavar="WIDTH",
        help=f"width multipliers among {', '.join(map(str, WIDTHS))} (default: all)",
    )  # fmt: skip
    parser.add_argument(
        "--parts", nargs="+", choices=PARTS, default=PARTS, metavar="PART",
        help=f"what to measure, of {', '.join(PARTS)} (default: all)",
    )  # fmt: skip
    parser.add_argument(
        "--images", type=positive_count,
        help="time each classifier on this many images (paper: 5000), in place of --seconds and --rounds",
    )  # fmt: skip


def measure(
    budget: Budget,
    rng: np.random.Generator,
    *,
    widths: Sequence[float] = WIDTHS,
    parts: Sequence[str] = PARTS,
    images: int | None = None,
    size_hw: tuple[int, int] = SIZE_HW,
    classifier_hw: tuple[int, int] = IMAGENET_HW,
) -> Iterator[Comparison]:
    """Time the classifiers, then the pose models, one budget for each case; yields the comparisons."""
    if "classifiers" in parts:
        classifier_budget = budget if images is None else Budget(rounds=images)
        for width in widths:
            yield _compare_classifiers(width, classifier_budget, rng, classifier_hw)
    if "pose" in parts:
        for width in widths:
            yield from _compare_pose_models(width, budget, rng, size_hw)


def _compare_classifiers(
    width: float, budget: Budget, rng: np.random.Generator, size_hw: tuple[int, int]
) -> Comparison:
    x = noise(1, 3, size_hw)
    calls = {
        name: partial(infer, build_imagenet_classifier(width, name == "dynamic", size_hw), x)
        for name in ("dynamic", "static")
    }
    times = time_interleaved(calls, budget, rng)
    case = f"dynamic MobileNetV2 x{width:g} classifier, {size_hw[0]}x{size_hw[1]}, batch 1"
    comparison = compare(case, times["dynamic"], times["static"], "static", rng)
    static_ms, dynamic_ms = (1e3 * float(times[name].mean()) for name in ("static", "dynamic"))
    ratio = comparison.ratio
    cells = (
        f"x{width:g}", f"{static_ms:.2f}", f"{comparison.against.median:.2f}", f"{dynamic_ms:.2f}",
        f"{comparison.ours.median:.2f}", f"{dynamic_ms / static_ms:.2f}",
        f"{ratio.value:.2f} ({ratio.low:.2f} to {ratio.high:.2f})", PAPER_RATIO,
    )  # fmt: skip
    return replace(comparison, note=f"| {' | '.join(cells)} |")


def _compare_pose_models(
    width: float, budget: Budget, rng: np.random.Generator, size_hw: tuple[int, int]
) -> Iterator[Comparison]:
    """Time the backbone and the whole model of a width; yields a comparison for each layout."""
    x = noise(1, 3, size_hw)
    models = {name: fuse(build_model(width, name == "dynamic", size_hw)) for name in ("dynamic", "static")}
    for part, part_name in (("backbone", "backbone"), ("type B", "+ type B")):
        calls: dict[str, Callable[[], object]] = {}
        for name, model in models.items():
            calls |= in_both_layouts(name, model.backbone if part == "backbone" else model, x, infer)
        times = time_interleaved(calls, budget, rng)
        case = f"MobileNetV2 x{width:g} {part_name}, {size_hw[0]}x{size_hw[1]}, batch 1"
        for layout in ("", CHANNELS_LAST):
            ours, against = f"dynamic{layout}", f"static{layout}"
            yield compare(f"{ours} {case}", times[ours], times[against], against, rng, TARGETS.get((part, width)))
