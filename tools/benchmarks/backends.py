"""Exported models in ONNX Runtime and OpenVINO, batch 1: dynamic against static, int8 and bfloat16 against float32.

The files are written as tools/export.py writes them, from crop pixels to heatmaps: MobileNetV2 x0.5 with a type-B head,
all layers dynamic against all layers static, also with fewer dynamic kernels, and the packaged model. A backend that is
not installed is skipped, and bfloat16 on a processor without it.
"""

import argparse
import logging
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from pose.config.pose import InputConfig
from pose.export.quantization import quantize
from pose.export.verify import synthetic_crops
from pose.export.write import build_onnx, write_export
from pose.images import Image
from pose.inference.backends import InferenceSession, open_exported
from pose.inference.metadata import ExportMetadata
from pose.inference.openvino_cpu import openvino_has_bf16
from pose.models.pose_net import PoseNet
from pose.models.weights import DEFAULT_WEIGHTS, load_pose_net
from pose.skeleton import COCO

from . import Comparison, compare
from ._models import SIZE_HW, build_model
from ._timing import Budget, time_interleaved

logger = logging.getLogger(__name__)

BACKENDS = {"onnxruntime": (".onnx", 1.40), "openvino": (".xml", 1.30)}
"""By package name: file suffix, and target ratio of dynamic to static models."""
WIDTH = 0.5
FEWER_KERNELS: dict[str, dict[str, Any]] = {"K = 2": {"num_kernels": 2}, "head static": {"dynamic_head": False}}
"""Options of dynamic models that cost less."""
CALIBRATION_CROPS = 20
"""Enough for timing, which does not depend on the quantization scales."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add no arguments."""


def measure(budget: Budget, rng: np.random.Generator, *, size_hw: tuple[int, int] = SIZE_HW) -> Iterator[Comparison]:
    """Time the models in each backend, one budget per pair; yields a comparison for each pair."""
    input_config = InputConfig(size_hw=size_hw)
    static, dynamic = (build_model(WIDTH, is_dynamic, size_hw) for is_dynamic in (False, True))
    default, config = load_pose_net(DEFAULT_WEIGHTS)
    for backend, (suffix, target) in BACKENDS.items():
        if find_spec(backend) is None:
            logger.warning("%s is skipped: it is not installed", backend)
            continue
        case = f"dynamic MobileNetV2 x{WIDTH:g} + type B, {size_hw[0]}x{size_hw[1]}, {backend}"
        ours, against = (_export_and_open(suffix, model, input_config) for model in (dynamic, static))
        yield _compare(case, ours, "static", against, input_config, budget, rng, target)
        for name, options in FEWER_KERNELS.items():
            ours = _export_and_open(suffix, build_model(WIDTH, True, size_hw, **options), input_config)
            yield _compare(f"{case}, {name}", ours, "static", against, input_config, budget, rng)
        ours, against = (_export_and_open(suffix, default, config.input, int8) for int8 in (True, False))
        yield _compare(f"default model, int8, {backend}", ours, "float32", against, config.input, budget, rng)
        if suffix == ".xml" and openvino_has_bf16():
            ours = _export_and_open(suffix, default, config.input, bf16=True)
            yield _compare(f"default model, bfloat16, {backend}", ours, "float32", against, config.input, budget, rng)


def _export_and_open(
    suffix: str, model: PoseNet, input_config: InputConfig, int8: bool = False, bf16: bool = False
) -> InferenceSession:
    metadata = ExportMetadata(input_config, COCO, flip_shift=None, licence="not stated")
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"model{suffix}"
        content = build_onnx(path, model, metadata, decodes=False)
        if int8:
            content = quantize(content, synthetic_crops(input_config, CALIBRATION_CROPS))
        with write_export(path, content, metadata):
            pass
        return open_exported(path, threads=1, bf16=bf16)


def _compare(
    case: str,
    ours: InferenceSession,
    against_name: str,
    against: InferenceSession,
    input_config: InputConfig,
    budget: Budget,
    rng: np.random.Generator,
    target: float | None = None,
) -> Comparison:
    crop_rgb: Image = rng.integers(0, 256, (1, *input_config.size_hw, 3), dtype=np.uint8)
    calls = {case: partial(ours.run, crop_rgb), against_name: partial(against.run, crop_rgb)}
    times = time_interleaved(calls, budget, rng)
    return compare(f"{case}, batch 1", times[case], times[against_name], against_name, rng, target)
