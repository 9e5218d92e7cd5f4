"""Forward pass of public models as they are and after `pose.make_dynamic`, batch 1 and 32, one thread.

Models of torchvision with random weights at 224x224, in evaluation mode, as they are and fused by `pose.models.fuse`.
"""

import argparse
from collections.abc import Iterator, Sequence
from functools import partial
from importlib import import_module

import numpy as np
from torch import nn

from pose.models.fuse import fuse
from pose.models.make_dynamic import make_dynamic

from . import Comparison, compare
from ._models import infer, noise, with_statistics
from ._timing import Budget, time_interleaved

MODELS = ("mobilenet_v2", "resnet18", "shufflenet_v2_x0_5")
BATCHES = (1, 32)
SIZE_HW = (224, 224)
FUSED = ", fused"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--models`` and ``--batches``."""
    parser.add_argument(
        "--models", nargs="+", default=MODELS, metavar="NAME",
        help=f"classifiers of torchvision.models by name (default: {', '.join(MODELS)})",
    )  # fmt: skip
    parser.add_argument(
        "--batches", type=int, nargs="+", default=BATCHES, metavar="N",
        help=f"images per forward pass (default: {', '.join(map(str, BATCHES))})",
    )  # fmt: skip


def measure(
    budget: Budget,
    rng: np.random.Generator,
    *,
    models: Sequence[str] = MODELS,
    batches: Sequence[int] = BATCHES,
    size_hw: tuple[int, int] = SIZE_HW,
) -> Iterator[Comparison]:
    """Time each model at each batch size, one budget each; yields two comparisons: as it is, and fused."""
    for model_name in models:
        static = build_model(model_name, size_hw)
        variants = {"dynamic": make_dynamic(static), "static": static}
        variants |= {name + FUSED: fuse(model, strict=False) for name, model in variants.items()}
        for batch in batches:
            images = noise(batch, 3, size_hw)
            calls = {name: partial(infer, model, images) for name, model in variants.items()}
            times = time_interleaved(calls, budget, rng)
            for form in ("", FUSED):
                case = f"dynamic{form}: {model_name}, {size_hw[0]}x{size_hw[1]}, batch {batch}"
                yield compare(case, times["dynamic" + form], times["static" + form], "static" + form, rng)


def build_model(name: str, size_hw: tuple[int, int]) -> nn.Module:
    """Return a classifier of torchvision with random weights and batch norm statistics of one random batch."""
    model: nn.Module = getattr(import_module("torchvision.models"), name)(weights=None)
    return with_statistics(model, size_hw)
