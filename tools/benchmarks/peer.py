"""Our trained model against a MoveNet, one person at a time on one thread, from crop pixels to keypoints.

The peer's ONNX file takes pixels and returns keypoints, so ours is timed with normalization and decoding: in PyTorch,
as in `PosePredictor`, and, if the package onnx is installed, exported to ONNX Runtime like the peer.
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

from pose.config.pose import Config
from pose.errors import CheckpointError
from pose.export.onnx import session_heatmap_fn, to_onnx
from pose.export.verify import check_export
from pose.heatmap import decode
from pose.images import Image
from pose.inference.backends import open_session
from pose.inference.pytorch import HeatmapFn, normalize, predict_heatmaps, prepare_for_inference
from pose.models.pose_net import PoseNet
from pose.models.weights import load_pose_net
from pose.packaged import weights_path

from . import Comparison, compare
from ._timing import Budget, time_interleaved

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--weights`` and ``--peer``."""
    parser.add_argument(
        "--weights", type=weights_path, required=True, help="our weight file, folder of runs or packaged model"
    )
    parser.add_argument(
        "--peer", type=Path, required=True, metavar="ONNX", help="MoveNet: int32 RGB (1, H, W, 3) to keypoints"
    )


def measure(budget: Budget, rng: np.random.Generator, *, weights: Path, peer: Path) -> Iterator[Comparison]:
    """Time the peer and ours, in each backend with and without flip, in one budget; yields a comparison for each.

    Raises:
        CheckpointError: either file is missing, damaged, or another kind of model.
        PoseError: onnxruntime is not installed.
    """
    movenet, movenet_hw = _open_movenet(peer)
    model, config = load_pose_net(weights)
    crop_rgb = _noise(rng, config.input.size_hw)
    ours = {}
    for backend, heatmap_fn in _backends(model, config.input.size_hw, torch.from_numpy(crop_rgb)).items():
        for flip, flip_pairs in (("no flip", None), ("flip average", config.keypoints.flip_pairs)):
            name = f"{_describe(config)}, {backend}, {flip}"
            ours[name] = partial(_predict_keypoints, heatmap_fn, crop_rgb, flip_pairs, config.test.flip_shift)
    against_name = f"{peer.stem} {movenet_hw[0]}x{movenet_hw[1]}, onnxruntime"
    calls = {**ours, against_name: partial(_run_movenet, movenet, _noise(rng, movenet_hw))}
    times = time_interleaved(calls, budget, rng)
    for name in ours:
        yield compare(name, times[name], times[against_name], against_name, rng)


def _backends(model: PoseNet, size_hw: tuple[int, int], crop_rgb: torch.Tensor) -> dict[str, HeatmapFn]:
    """Return our model in PyTorch and, if it can be exported, in ONNX Runtime, verified against PyTorch."""
    backends: dict[str, HeatmapFn] = {"PyTorch": prepare_for_inference(torch.device("cpu"), model).heatmaps}
    if find_spec("onnx") is None:
        logger.warning("ours is not timed in ONNX Runtime: the package onnx is not installed")
        return backends
    backends["onnxruntime"] = session_heatmap_fn(open_session(to_onnx(model, size_hw), threads=1))
    check_export(backends["onnxruntime"], model.heatmaps, normalize(crop_rgb).contiguous())
    return backends


def _predict_keypoints(
    heatmap_fn: HeatmapFn,
    crop_rgb: Image,
    flip_pairs: tuple[tuple[int, int], ...] | None,
    flip_shift: int,
) -> object:
    return decode(predict_heatmaps(heatmap_fn, torch.from_numpy(crop_rgb), flip_pairs, flip_shift).numpy())


def _open_movenet(path: Path) -> tuple[Any, tuple[int, int]]:
    """Return a session with one thread, and the height and width of its input."""
    session = open_session(path, threads=1)
    inputs = session.get_inputs()
    match [entry.shape for entry in inputs]:
        case [[1, int(height), int(width), 3]] if inputs[0].type == "tensor(int32)":
            return session, (height, width)
    got = ", ".join(f"{entry.type} {entry.shape}" for entry in inputs)
    raise CheckpointError(f"{path}: expected a MoveNet, whose input is tensor(int32) [1, height, width, 3], got {got}")


def _run_movenet(session: Any, crop_rgb: Image) -> object:
    return session.run(None, {session.get_inputs()[0].name: crop_rgb.astype(np.int32)})


def _noise(rng: np.random.Generator, size_hw: tuple[int, int]) -> Image:
    """Return one crop (1, h, w, 3) of random pixels: inference time does not depend on the content."""
    return rng.integers(0, 256, (1, *size_hw, 3), dtype=np.uint8)


def _describe(config: Config) -> str:
    model = config.model
    parts = [part for part, dynamic in (("backbone", model.dynamic_backbone), ("head", model.dynamic_head)) if dynamic]
    kind = {0: "static", 1: f"dynamic {''.join(parts)}", 2: "dynamic"}[len(parts)]
    height, width = config.input.size_hw
    return f"{kind} {model.backbone} x{model.width:g} + {model.head} {height}x{width}"
