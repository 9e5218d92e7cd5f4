"""Dynamic convolution layer by layer, and in whole models: predicting and training, one sample and a batch.

Against static ones in the same memory layout, of which channels_last is the faster, and, with ``--peer``, against a
public layer, which takes one layout only. Whole models predict as `pose.models.fuse` leaves them, where it can: it knows no
public layer. Of a training step also the peak memory, in a process of its own.
"""

import argparse
import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from pose.engine.state import to_channels_last
from pose.models.depthwise import Conv2d
from pose.models.dynamic_conv import DynamicConv2d
from pose.models.fuse import fuse
from pose.models.pose_net import PoseNet

from . import Comparison, compare
from ._memory import peak_bytes
from ._models import LAST, SIZE_HW, build_model, in_both_layouts, infer, noise, train
from ._public_layer import PUBLIC, add_peer_argument, like, load_layer, replace_layers
from ._timing import Budget, time_interleaved

PARTS = ("layers", "nets", "memory")
BATCH = 32


class Layer(NamedTuple):
    """A convolution of MobileNetV2 x1.0 with a type-B head at 256x192, and the map that it meets there."""

    name: str
    in_channels: int
    out_channels: int
    kernel_size: int
    stride: int
    groups: int
    size_hw: tuple[int, int]


LAYERS = (
    Layer("expand 24-144", 24, 144, 1, 1, 1, (64, 48)),
    Layer("depthwise 3x3 144, stride 2", 144, 144, 3, 2, 144, (64, 48)),
    Layer("project 144-32", 144, 32, 1, 1, 1, (32, 24)),
    Layer("expand 64-384", 64, 384, 1, 1, 1, (16, 12)),
    Layer("depthwise 3x3 384", 384, 384, 3, 1, 384, (16, 12)),
    Layer("project 960-160", 960, 160, 1, 1, 1, (8, 6)),
    Layer("head: depthwise 5x5 768", 768, 768, 5, 1, 768, (32, 24)),
    Layer("head: expand 128-384", 128, 384, 1, 1, 1, (64, 48)),
    Layer("ResNet: 3x3 128-128", 128, 128, 3, 1, 1, (32, 24)),
)


class Mode(NamedTuple):
    """What is done with a module, in words and in code."""

    words: str
    batch: int
    use: Callable[[nn.Module, torch.Tensor], object]


MODES = (Mode("inference", 1, infer), Mode("inference", BATCH, infer), Mode("training step", BATCH, train))
NETS = (
    ("backbone", 1.0, MODES[0], None),
    ("backbone", 1.0, MODES[1], 1.20),
    ("backbone", 0.5, MODES[1], 1.20),
    ("+ type B", 0.5, MODES[1], None),
    ("+ type B", 0.5, MODES[2], 1.15),
)
"""Part, width, mode, and the ratio to the static model that we want to stay below."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the peer and what to measure."""
    add_peer_argument(parser)
    parser.add_argument(
        "--parts", nargs="+", choices=PARTS, default=PARTS, metavar="PART",
        help=f"what to measure, of {', '.join(PARTS)} (default: all)",
    )  # fmt: skip


def measure(
    budget: Budget,
    rng: np.random.Generator,
    *,
    peer: Path | None = None,
    parts: Sequence[str] = PARTS,
    layers: Sequence[Layer] = LAYERS,
    size_hw: tuple[int, int] = SIZE_HW,
) -> Iterator[Comparison]:
    """Time each layer and model in each mode, a budget for each; yields a comparison with each other way.

    Raises:
        PoseError: ``peer`` has no layer that can be imported.
    """
    public = load_layer(peer) if peer is not None else None
    if "layers" in parts:
        for layer in layers:
            yield from _compare_layer(layer, public, budget, rng)
    if "nets" in parts:
        for part, width, mode, bar in NETS:
            calls: dict[str, Callable[[], object]] = {}
            for name, model in _models(width, public, size_hw).items():
                if mode.use is train:
                    model.train()
                elif name != PUBLIC:
                    model = fuse(model)
                module: nn.Module = model.backbone if part == "backbone" else model
                calls |= _calls(name, module, noise(mode.batch, 3, size_hw), mode)
            yield from _compare(f"MobileNetV2 x{width:g} {part}", mode, calls, budget, rng, bar)
    if "memory" in parts:
        peaks = {
            name: float(peak_bytes(partial(_train_once, name, peer, size_hw)))
            for name in ("dynamic" + LAST, "static" + LAST, *[PUBLIC] * (peer is not None))
        }
        (ours, found), *others = peaks.items()
        for name, other in others:
            case = f"{ours} MobileNetV2 x0.5 + type B, training step, batch {BATCH}, peak memory"
            yield compare(case, np.array([found]), np.array([other]), name, rng, unit="MB")


def _compare_layer(
    layer: Layer, public: type[nn.Module] | None, budget: Budget, rng: np.random.Generator
) -> Iterator[Comparison]:
    sizes = layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.kernel_size // 2
    dynamic = DynamicConv2d(*sizes, groups=layer.groups, bias=False)
    modules = {"dynamic": dynamic, "static": Conv2d(*sizes, groups=layer.groups, bias=False)}
    if public is not None:
        modules[PUBLIC] = like(dynamic, public)
    for mode in MODES:
        x = noise(mode.batch, layer.in_channels, layer.size_hw)
        calls: dict[str, Callable[[], object]] = {}
        for name, module in modules.items():
            calls |= _calls(name, module, x, mode)
        height, width = layer.size_hw
        yield from _compare(f"{layer.name} on {height}x{width}", mode, calls, budget, rng)


def _calls(name: str, module: nn.Module, x: torch.Tensor, mode: Mode) -> dict[str, Callable[[], object]]:
    if name == PUBLIC:
        return {name: partial(mode.use, module, x)}
    return in_both_layouts(name, module, x, mode.use)


def _compare(
    case: str,
    mode: Mode,
    calls: Mapping[str, Callable[[], object]],
    budget: Budget,
    rng: np.random.Generator,
    bar: float | None = None,
) -> Iterator[Comparison]:
    times = time_interleaved(calls, budget, rng)
    case = f"{case}, {mode.words}, batch {mode.batch}"
    pairs = [(f"dynamic{layout}", f"static{layout}", bar) for layout in ("", LAST)]
    if PUBLIC in calls:
        pairs.append((f"dynamic{LAST}", PUBLIC, None))
    for ours, against, limit in pairs:
        yield compare(f"{ours}: {case}", times[ours], times[against], against, rng, limit)


def _models(width: float, public: type[nn.Module] | None, size_hw: tuple[int, int]) -> dict[str, PoseNet]:
    nets = {name: build_model(width, name == "dynamic", size_hw) for name in ("dynamic", "static")}
    if public is not None:
        nets[PUBLIC] = copy.deepcopy(nets["dynamic"])
        replace_layers(nets[PUBLIC], public)
    return nets


def _train_once(name: str, peer: Path | None, size_hw: tuple[int, int]) -> None:
    model = build_model(0.5, not name.startswith("static"), size_hw).train()
    if name == PUBLIC and peer is not None:
        replace_layers(model, load_layer(peer))
    x = noise(BATCH, 3, size_hw)
    if name.endswith(LAST):
        to_channels_last(model)
        x = x.to(memory_format=torch.channels_last)
    train(model, x)
