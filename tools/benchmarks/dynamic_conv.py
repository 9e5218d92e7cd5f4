"""Dynamic convolution per layer and in whole models: inference and training, batch 1 and 32.

Compared with static layers and models in the same memory layout, of which channels_last is the faster, and with --peer
also with a public layer, which supports one layout only. Models for inference are fused by `pose.models.fuse`, except
with the public layer, which it cannot fuse. Also compares a training step on small images, and the peak memory
of a training step, in a process of its own.
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

from pose.models.depthwise import Conv2d
from pose.models.dynamic_conv import DynamicConv2d
from pose.models.fuse import fuse
from pose.models.pose_net import PoseNet

from . import Comparison, compare
from ._memory import peak_bytes
from ._models import (
    CHANNELS_LAST,
    SIZE_HW,
    build_imagenet_classifier,
    build_model,
    in_both_layouts,
    infer,
    noise,
    training_step,
)
from ._public_layer import PUBLIC, add_peer_argument, layer_like, load_layer, replace_layers
from ._timing import Budget, time_interleaved

PARTS = ("layers", "nets", "small", "memory")
BATCH = 32
SMALL_BATCH = 64
SMALL_IMAGES = {32: 2.0, 64: 1.25}
"""Side of the images of part ``small``, and the target ratio to the static model."""


class Layer(NamedTuple):
    """A convolution of MobileNetV2 x1.0 with a type-B head at 256x192, and the size of its input there."""

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
    """What to time of a module: name, batch size and the function that runs it."""

    name: str
    batch: int
    step: Callable[[nn.Module, torch.Tensor], object]


MODES = (Mode("inference", 1, infer), Mode("inference", BATCH, infer), Mode("training step", BATCH, training_step))
MODELS = (
    ("backbone", 1.0, MODES[0], None),
    ("backbone", 1.0, MODES[1], 1.20),
    ("backbone", 0.5, MODES[1], 1.20),
    ("+ type B", 0.5, MODES[1], None),
    ("+ type B", 0.5, MODES[2], 1.15),
)
"""Part, width, mode, and the target ratio to the static model."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--peer`` and ``--parts``."""
    add_peer_argument(parser)
    parser.add_argument(
        "--parts", nargs="+", choices=PARTS, default=PARTS, metavar="PART",
        help=f"parts to measure, among {', '.join(PARTS)} (default: all)",
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
    """Time each layer and model in each mode, one budget each; yields comparisons with static and public layers.

    Raises:
        PoseError: ``peer`` has no such layer or cannot be imported.
    """
    public = load_layer(peer) if peer is not None else None
    if "layers" in parts:
        for layer in layers:
            yield from _compare_layer(layer, public, budget, rng)
    if "nets" in parts:
        for part, width, mode, target in MODELS:
            calls: dict[str, Callable[[], object]] = {}
            for name, model in _models(width, public, size_hw).items():
                if mode.step is training_step:
                    model.train()
                elif name != PUBLIC:
                    model = fuse(model)
                module: nn.Module = model.backbone if part == "backbone" else model
                calls |= _calls(name, module, noise(mode.batch, 3, size_hw), mode)
            yield from _compare(f"MobileNetV2 x{width:g} {part}", mode, calls, budget, rng, target)
    if "small" in parts:
        for side, target in SMALL_IMAGES.items():
            mode, x = Mode("training step", SMALL_BATCH, training_step), noise(SMALL_BATCH, 3, (side, side))
            calls = {}
            for name in ("dynamic", "static"):
                classifier = build_imagenet_classifier(0.35, name == "dynamic", (side, side)).train()
                calls |= _calls(name, classifier, x, mode)
            yield from _compare(f"MobileNetV2 x0.35 classifier on {side}x{side}", mode, calls, budget, rng, target)
    if "memory" in parts:
        peaks = {
            name: float(peak_bytes(partial(_train_one_step, name, peer, size_hw)))
            for name in ("dynamic" + CHANNELS_LAST, "static" + CHANNELS_LAST, *[PUBLIC] * (peer is not None))
        }
        (ours, our_peak), *others = peaks.items()
        for name, other_peak in others:
            case = f"{ours} MobileNetV2 x0.5 + type B, training step, batch {BATCH}, peak memory"
            yield compare(case, np.array([our_peak]), np.array([other_peak]), name, rng, unit="MB")


def _compare_layer(
    layer: Layer, public: type[nn.Module] | None, budget: Budget, rng: np.random.Generator
) -> Iterator[Comparison]:
    sizes = layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.kernel_size // 2
    dynamic = DynamicConv2d(*sizes, groups=layer.groups, bias=False)
    modules = {"dynamic": dynamic, "static": Conv2d(*sizes, groups=layer.groups, bias=False)}
    if public is not None:
        modules[PUBLIC] = layer_like(dynamic, public)
    for mode in MODES:
        x = noise(mode.batch, layer.in_channels, layer.size_hw)
        calls: dict[str, Callable[[], object]] = {}
        for name, module in modules.items():
            calls |= _calls(name, module, x, mode)
        height, width = layer.size_hw
        yield from _compare(f"{layer.name} on {height}x{width}", mode, calls, budget, rng)


def _calls(name: str, module: nn.Module, x: torch.Tensor, mode: Mode) -> dict[str, Callable[[], object]]:
    if name == PUBLIC:
        return {name: partial(mode.step, module, x)}
    return in_both_layouts(name, module, x, mode.step)


def _compare(
    case: str,
    mode: Mode,
    calls: Mapping[str, Callable[[], object]],
    budget: Budget,
    rng: np.random.Generator,
    target: float | None = None,
) -> Iterator[Comparison]:
    times = time_interleaved(calls, budget, rng)
    case = f"{case}, {mode.name}, batch {mode.batch}"
    pairs = [(f"dynamic{layout}", f"static{layout}", target) for layout in ("", CHANNELS_LAST)]
    if PUBLIC in calls:
        pairs.append((f"dynamic{CHANNELS_LAST}", PUBLIC, None))
    for ours, against, pair_target in pairs:
        yield compare(f"{ours}: {case}", times[ours], times[against], against, rng, pair_target)


def _models(width: float, public: type[nn.Module] | None, size_hw: tuple[int, int]) -> dict[str, PoseNet]:
    models = {name: build_model(width, name == "dynamic", size_hw) for name in ("dynamic", "static")}
    if public is not None:
        models[PUBLIC] = copy.deepcopy(models["dynamic"])
        replace_layers(models[PUBLIC], public)
    return models


def _train_one_step(name: str, peer: Path | None, size_hw: tuple[int, int]) -> None:
    model = build_model(0.5, not name.startswith("static"), size_hw).train()
    if name == PUBLIC and peer is not None:
        replace_layers(model, load_layer(peer))
    x = noise(BATCH, 3, size_hw)
    if name.endswith(CHANNELS_LAST):
        model.to(memory_format=torch.channels_last)
        x = x.to(memory_format=torch.channels_last)
    training_step(model, x)
