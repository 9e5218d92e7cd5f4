"""A trained model of ours against a MoveNet, one person at a time on one core, from the crop's pixels to keypoints.

The peer's ONNX file takes pixels and gives keypoints, so ours is timed with normalization and decoding: in PyTorch
as `PosePredictor` has it, and, where the package onnx is installed, exported and run by ONNX Runtime as the peer is.
"""

import argparse
import logging
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pose.config.pose import Config
from pose.errors import CheckpointError
from pose.export.onnx import Heatmaps, heatmap_fn, to_onnx
from pose.export.verify import check_export
from pose.heatmap import decode
from pose.inference.backends import open_session
from pose.inference.pytorch import normalize, predict_heatmaps, prepare_for_inference
from pose.models.pose_net import PoseNet
from pose.models.weights import load_pose_net

from . import Comparison, compare
from ._timing import Budget, time_interleaved

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the two models."""
    parser.add_argument("--weights", type=Path, required=True, help="ours: a weight file, or a folder of runs")
    parser.add_argument(
        "--peer", type=Path, required=True, metavar="ONNX", help="MoveNet: int32 RGB (1, H, W, 3) to keypoints"
    )


def measure(budget: Budget, rng: np.random.Generator, *, weights: Path, peer: Path) -> Iterator[Comparison]:
    """Time the peer and every way to run ours in one budget; yields one comparison a way.

    Raises:
        CheckpointError: either file is missing, damaged, or another kind of model.
        PoseError: onnxruntime is not installed.
    """
    movenet, movenet_hw = _open_movenet(peer)
    net, config = load_pose_net(weights)
    crop_rgb = _noise(rng, config.input.size_hw)
    pairs = config.keypoints.flip_pairs
    ours = {}
    for engine, heatmaps in _engines(net, config.input.size_hw, torch.from_numpy(crop_rgb)).items():
        for flip, flip_pairs in (("no flip", None), ("flip average", pairs)):
            name = f"{_describe(config)}, {engine}, {flip}"
            ours[name] = partial(_find_keypoints, heatmaps, crop_rgb, flip_pairs, config.test.flip_shift)
    against_name = f"{peer.stem} {movenet_hw[0]}x{movenet_hw[1]}, onnxruntime"
    calls = {**ours, against_name: partial(_run_movenet, movenet, _noise(rng, movenet_hw))}
    times = time_interleaved(calls, budget, rng)
    for name in ours:
        yield compare(name, times[name], times[against_name], against_name, rng)


def _engines(net: PoseNet, size_hw: tuple[int, int], crop_rgb: torch.Tensor) -> dict[str, Heatmaps]:
    """Return ours in PyTorch and, where it can be exported, in ONNX Runtime, which is compared with the former."""
    engines: dict[str, Heatmaps] = {"PyTorch": prepare_for_inference(torch.device("cpu"), net).heatmaps}
    if find_spec("onnx") is None:
        logger.warning("ours is not timed in ONNX Runtime: the package onnx is not installed")
        return engines
    engines["onnxruntime"] = heatmap_fn(open_session(to_onnx(net, size_hw), threads=1))
    check_export(engines["onnxruntime"], net.heatmaps, normalize(crop_rgb).contiguous())
    return engines


def _find_keypoints(
    heatmaps: Heatmaps,
    crop_rgb: NDArray[np.uint8],
    flip_pairs: tuple[tuple[int, int], ...] | None,
    flip_shift: int,
) -> object:
    return decode(predict_heatmaps(heatmaps, torch.from_numpy(crop_rgb), flip_pairs, flip_shift).numpy())


def _open_movenet(path: Path) -> tuple[Any, tuple[int, int]]:
    """Return a session of one thread, and the height and width of its input."""
    session = open_session(path, threads=1)
    entries = session.get_inputs()
    match [entry.shape for entry in entries]:
        case [[1, int(height), int(width), 3]] if entries[0].type == "tensor(int32)":
            return session, (height, width)
    found = ", ".join(f"{entry.type} {entry.shape}" for entry in entries)
    raise CheckpointError(
        f"{path}: expected a MoveNet, whose input is tensor(int32) [1, height, width, 3], got {found}"
    )


def _run_movenet(session: Any, crop_rgb: NDArray[np.uint8]) -> object:
    return session.run(None, {session.get_inputs()[0].name: crop_rgb.astype(np.int32)})


def _noise(rng: np.random.Generator, size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Draw the pixels of one (1, h, w, 3) crop: no model's time depends on what it shows."""
    return rng.integers(0, 256, (1, *size_hw, 3), dtype=np.uint8)


def _describe(config: Config) -> str:
    model = config.model
    parts = [part for part, dynamic in (("backbone", model.dynamic_backbone), ("head", model.dynamic_head)) if dynamic]
    kind = {0: "static", 1: f"dynamic {''.join(parts)}", 2: "dynamic"}[len(parts)]
    height, width = config.input.size_hw
    return f"{kind} {model.backbone} x{model.width:g} + {model.head} {height}x{width}"
