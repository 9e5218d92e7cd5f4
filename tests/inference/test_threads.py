"""A predictor that several threads call at the same time gives each of them its own keypoints."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
import torch

from pose.config.pose import Config, InputConfig, ModelConfig
from pose.export.write import build_onnx, write_export
from pose.inference.exported import ExportedPredictor
from pose.inference.metadata import ExportMetadata
from pose.inference.predictor import CropPredictor, Poses
from pose.inference.pytorch import PyTorchPredictor
from pose.models import build_pose_net
from pose.models.weights import write_weights
from pose.runtime.pose_predictor import PosePredictor, Runtime

THREADS, CALLS = 8, 125
CONFIG = Config(
    model=ModelConfig(width=0.35, depth=0.1, head_width=0.25, dynamic_backbone=True),
    input=InputConfig(size_hw=(64, 64)),
)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = build_pose_net(CONFIG)
    torch.nn.init.normal_(model.head[-1].weight, std=0.1)
    return model.eval()


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(1)
    return [rng.integers(0, 256, (90 + 3 * index, 80, 3), dtype=np.uint8) for index in range(THREADS)]


def assert_threads_get_the_serial_keypoints(predictor: CropPredictor, images: list[np.ndarray]) -> None:
    serial = [predictor(image, "image") for image in images]
    assert len({poses.keypoints.tobytes() for poses in serial}) == THREADS
    barrier = Barrier(THREADS)

    def call(index: int) -> list[Poses]:
        barrier.wait()
        return [predictor(images[index], "image") for _ in range(CALLS)]

    with ThreadPoolExecutor(THREADS) as pool:
        for expected, results in zip(serial, pool.map(call, range(THREADS)), strict=True):
            for poses in results:
                np.testing.assert_array_equal(poses.keypoints, expected.keypoints)
                np.testing.assert_array_equal(poses.scores, expected.scores)


@pytest.mark.parametrize("decodes", [False, True], ids=["heatmaps", "decoded"])
def test_eight_threads_get_the_keypoints_of_serial_calls_from_an_exported_model(
    suffix: str, model: torch.nn.Module, images: list[np.ndarray], tmp_path: Path, decodes: bool
) -> None:
    path, metadata = tmp_path / f"model{suffix}", ExportMetadata(CONFIG.input, CONFIG.keypoints, None, "of the test")
    with write_export(path, build_onnx(path, model, metadata, decodes=decodes), metadata):
        pass

    assert_threads_get_the_serial_keypoints(ExportedPredictor(path, threads=1), images)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_eight_threads_get_the_keypoints_of_serial_calls_from_each_runtime(
    model: torch.nn.Module, images: list[np.ndarray], tmp_path: Path, runtime: Runtime
) -> None:
    for package in ("onnx", runtime):
        pytest.importorskip(package, reason=f"needs {package}")
    path = tmp_path / "best.pt"
    write_weights({"model": model.state_dict(), "config": CONFIG.model_dump(mode="json")}, path)

    assert_threads_get_the_serial_keypoints(PosePredictor(path, "cpu", runtime=runtime), images)


@pytest.mark.parametrize("options", [{"flip": True}, {"flip": False, "bf16": True}], ids=["flip", "bf16"])
def test_eight_threads_get_the_keypoints_of_serial_calls_from_pytorch(
    model: torch.nn.Module, images: list[np.ndarray], tmp_path: Path, options: dict[str, bool]
) -> None:
    path = tmp_path / "best.pt"
    write_weights({"model": model.state_dict(), "config": CONFIG.model_dump(mode="json")}, path)

    assert_threads_get_the_serial_keypoints(PyTorchPredictor(path, "cpu", **options), images)
