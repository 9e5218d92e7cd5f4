"""Dynamic nets against static ones: MobileNetV2 in PyTorch, one crop at a time on one core (paper, Table 12).

Of each width the backbone alone and the whole net with its type-B head, all of it dynamic against all of it static.
There are two static floors: in the dynamic net's memory layout, and in channels_last, which is the faster.
"""

import argparse
import copy
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import torch
from torch import nn

from pose.benchmarks import Comparison, compare
from pose.config import Config, ModelConfig
from pose.models import build_pose_net
from pose.models.networks import PoseNet
from pose.timing import Budget, time_interleaved

WIDTHS = (1.0, 0.75, 0.5, 0.35)
SIZE_HW = (256, 192)
BARS = {("backbone", 1.0): 1.25, ("backbone", 0.5): 1.30, ("type B", 0.5): 1.15}
"""Of the same layout. The paper reports about 1.10, on a static net several times slower than today's."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the widths."""
    parser.add_argument(
        "--widths", type=float, nargs="+", choices=WIDTHS, default=WIDTHS, metavar="WIDTH",
        help=f"width multipliers among {', '.join(map(str, WIDTHS))} (default: all)",
    )  # fmt: skip


def measure(
    budget: Budget, rng: np.random.Generator, *, widths: Sequence[float] = WIDTHS, size_hw: tuple[int, int] = SIZE_HW
) -> Iterator[Comparison]:
    """Time every width's backbone and net, a budget for each; yields a comparison with either floor."""
    for width in widths:
        static, dynamic = (_build(width, is_dynamic, size_hw) for is_dynamic in (False, True))
        parts = {"backbone": (static.backbone, dynamic.backbone), "type B": (static, dynamic)}
        for part, nets in parts.items():
            yield from _compare(width, part, *nets, size_hw, budget, rng)


def _compare(
    width: float,
    part: str,
    static: nn.Module,
    dynamic: nn.Module,
    size_hw: tuple[int, int],
    budget: Budget,
    rng: np.random.Generator,
) -> Iterator[Comparison]:
    images = _noise(1, size_hw)
    images_last = images.to(memory_format=torch.channels_last)
    # A copy: modules keep their parameters in one layout.
    static_last: nn.Module = copy.deepcopy(static).to(memory_format=torch.channels_last)
    calls = {
        "dynamic": partial(dynamic, images),
        "static": partial(static, images),
        "static in channels_last": partial(static_last, images_last),
    }
    with torch.inference_mode():
        times = time_interleaved(calls, budget, rng)
    what = "backbone" if part == "backbone" else f"+ {part}"
    case = f"dynamic MobileNetV2 x{width:g} {what}, {size_hw[0]}x{size_hw[1]}, batch 1"
    yield compare(case, times["dynamic"], times["static"], "static", rng, BARS.get((part, width)))
    yield compare(case, times["dynamic"], times["static in channels_last"], "static in channels_last", rng)


def _build(width: float, dynamic: bool, size_hw: tuple[int, int]) -> PoseNet:
    """Return a net whose activations are of the size that a trained one's are.

    The batch norms of a new net pass activations on that fade to 1e-20; much smaller, and the processor takes many
    times longer for each.
    """
    net = build_pose_net(Config(model=ModelConfig(width=width, dynamic_backbone=dynamic, dynamic_head=dynamic)))
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 1.0  # takes the statistics of the one batch that comes now
    with torch.no_grad():
        net.train()(_noise(4, size_hw))
    return net.eval()


def _noise(batch: int, size_hw: tuple[int, int]) -> torch.Tensor:
    return torch.randn((batch, 3, *size_hw), generator=torch.Generator().manual_seed(0))
