"""tools/export.py from the command line: a verified file, or none."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from pose.cli import run
from pose.config.pose import Config
from pose.export import verify
from pose.inference.exported import ExportedPredictor
from pose.models import build_pose_net
from pose.models.weights import write_weights
from pose.packaged import PACKAGED_WEIGHTS, packaged_license
from pose.skeleton import COCO
from pose.tools import export as export_tool
from pose.tools.export import NOT_STATED, main

CONFIG = Config.model_validate(
    {
        "model": {"width": 0.35, "depth": 0.1, "head_width": 0.25, "dynamic_head": True},
        "input": {"size_hw": [64, 96]},
        "skeleton": {"names": ["left_tip", "right_tip", "palm"]},
        "test": {"flip_shift": 0},
    }
)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "best.pt"
    write_weights({"model": build_pose_net(CONFIG).state_dict(), "config": CONFIG.model_dump(mode="json")}, path)
    return path


def export(*arguments: object) -> int:
    try:
        run(main, [str(argument) for argument in arguments])
    except SystemExit as exit:
        return int(exit.code or 0)
    return 0


def test_export_of_a_run_folder_writes_a_file_with_metadata(
    suffix: str, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "new" / f"model{suffix}"
    assert export("--weights", weights.parent, "--output", output, "--flip", "--decode", "--licence", "CC0") == 0

    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(" at most ")[0] for line in lines[:2]] == [
        "batch 1: heatmaps differ by",
        "batch 3: heatmaps differ by",
    ]
    assert f"{output}: " in lines[2]
    assert "crops 64x96 to heatmaps, keypoints, scores" in lines[2]
    metadata = ExportedPredictor(output).metadata
    assert (metadata.input_config, metadata.skeleton) == (CONFIG.input, CONFIG.keypoints)
    assert (metadata.flip_shift, metadata.licence) == (0, "CC0")


def test_without_options_the_file_has_no_flip_average(suffix: str, weights: Path, tmp_path: Path) -> None:
    output = tmp_path / f"model{suffix}"
    assert export("--weights", weights, "--output", output) == 0

    predictor = ExportedPredictor(output)
    assert (predictor.metadata.flip_shift, predictor.metadata.licence) == (None, NOT_STATED)
    assert predictor(np.full((50, 60, 3), 128, np.uint8), "image").keypoints.shape == (1, 3, 2)


@pytest.mark.parametrize("suffix", [".onnx"], indirect=True)
def test_images_are_used_for_verification(
    suffix: str, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export("--weights", weights, "--output", tmp_path / "model.onnx", "--images", tmp_path) == 2
    assert "no images in this folder" in capsys.readouterr().err

    cv2.imwrite(str(tmp_path / "a.png"), np.full((50, 60, 3), 128, np.uint8))
    assert export("--weights", weights, "--output", tmp_path / "model.onnx", "--images", tmp_path) == 0


def test_no_file_is_written_if_verification_fails(
    suffix: str, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "TOLERANCE", 1e-12)

    with pytest.raises(RuntimeError, match="heatmaps differ"):
        export("--weights", weights, "--output", tmp_path / f"model{suffix}")
    assert not list(tmp_path.iterdir())


def test_int8_of_a_dynamic_model_is_an_error(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export("--weights", weights, "--output", tmp_path / "model.onnx", "--int8") == 2
    assert "--int8: expected a static model, got a dynamic one" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("decode", [[], ["--decode"]], ids=["heatmaps", "decoded"])
def test_the_packaged_model_is_quantized_for_each_backend(
    suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, decode: list[str]
) -> None:
    monkeypatch.setattr(export_tool, "CALIBRATION_CROPS", 8)
    output = tmp_path / f"int8{suffix}"
    assert export("--weights", "default", "--output", output, "--int8", *decode) == 0

    assert re.match(
        r"int8 against float keypoints: AP \d+\.\d, mean OKS 0\.\d+ \(8 persons on 8 calib", capsys.readouterr().out
    )
    predictor = ExportedPredictor(output)
    assert predictor.metadata.licence == packaged_license(PACKAGED_WEIGHTS["default"])
    assert predictor(np.full((60, 40, 3), 128, np.uint8), "image").keypoints.shape == (1, 17, 2)


@pytest.mark.parametrize("suffix", [".onnx"], indirect=True)
def test_int8_of_images_without_a_person_is_an_error_and_leaves_no_file(
    suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "gray.png"), np.full((60, 40, 3), 128, np.uint8))

    assert export("--output", tmp_path / "model.onnx", "--int8", "--images", tmp_path / "images") == 2

    error = capsys.readouterr().err
    assert error.startswith("error: --int8: the model sees no keypoint") and error.count("\n") == 1
    assert not list(tmp_path.glob("*model*"))


def test_user_errors_exit_with_2(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export("--weights", weights, "--output", tmp_path / "model.pt") == 2
    assert "expected a name ending in .onnx or .xml" in capsys.readouterr().err
    assert export("--weights", tmp_path / "none.pt", "--output", tmp_path / "model.onnx") == 2
    assert "none.pt: no such weight file" in capsys.readouterr().err


def test_the_packaged_model_is_exported_to_openvino(tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="needs openvino")
    assert export("--output", tmp_path / "default.xml") == 0

    assert ExportedPredictor(tmp_path / "default.xml").skeleton == COCO
