"""tools/export.py as a user meets it: a file that was checked, or none."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from pose.cli import run
from pose.config.pose import Config
from pose.export import verify as parity
from pose.inference.exported import ExportedPredictor
from pose.models import build_pose_net
from pose.models.weights import write_weights
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


def export(*words: object) -> int:
    try:
        run(main, [str(word) for word in words])
    except SystemExit as exit:
        return int(exit.code or 0)
    return 0


def test_a_run_folder_becomes_a_file_that_says_what_it_is(
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
    assert (metadata.input_config, metadata.skeleton, metadata.flip_shift, metadata.licence) == (
        CONFIG.input,
        CONFIG.keypoints,
        0,
        "CC0",
    )


def test_without_options_the_file_gives_heatmaps_of_the_crop_alone(suffix: str, weights: Path, tmp_path: Path) -> None:
    output = tmp_path / f"model{suffix}"
    assert export("--weights", weights, "--output", output) == 0

    predictor = ExportedPredictor(output)
    assert (predictor.metadata.flip_shift, predictor.metadata.licence) == (None, NOT_STATED)
    assert predictor(np.full((50, 60, 3), 128, np.uint8)).keypoints.shape == (1, 3, 2)


@pytest.mark.parametrize("suffix", [".onnx"], indirect=True)
def test_the_check_takes_images_of_a_folder(
    suffix: str, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export("--weights", weights, "--output", tmp_path / "model.onnx", "--images", tmp_path) == 2
    assert "no images in this folder" in capsys.readouterr().err

    cv2.imwrite(str(tmp_path / "a.png"), np.full((50, 60, 3), 128, np.uint8))
    assert export("--weights", weights, "--output", tmp_path / "model.onnx", "--images", tmp_path) == 0


def test_a_file_that_differs_is_not_left(
    suffix: str, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parity, "TOLERANCE", 1e-12)

    with pytest.raises(RuntimeError, match="heatmaps differ"):
        export("--weights", weights, "--output", tmp_path / f"model{suffix}")
    assert not list(tmp_path.iterdir())


def test_a_dynamic_model_has_no_8_bit_form(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export("--weights", weights, "--output", tmp_path / "model.onnx", "--int8") == 2
    assert "--int8: expected a static model, got a dynamic one" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_mistakes_are_one_line(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export("--weights", weights, "--output", weights) == 2
    assert "expected a name ending in .onnx or .xml" in capsys.readouterr().err
    assert export("--weights", tmp_path / "none.pt", "--output", tmp_path / "model.onnx") == 2
    assert "none.pt: no such weight file" in capsys.readouterr().err
