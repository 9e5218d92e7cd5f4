"""Packaged models have names; a path is never mistaken for one."""

from pathlib import Path

import numpy as np
import pytest

from pose import ExportedPredictor, PosePredictor
from pose.cli import run
from pose.config.pose import Config
from pose.errors import CheckpointError
from pose.inference.pytorch import PyTorchPredictor
from pose.models import build_pose_net
from pose.models.weights import load_pose_net, write_weights
from pose.packaged import PACKAGED_WEIGHTS, card_path, find_models, packaged_license, results_folder, weights_path
from pose.tools import export

IMAGE = np.full((60, 40, 3), 128, np.uint8)


def test_a_name_gives_a_file_of_the_package_whose_model_card_states_accuracy_and_license() -> None:
    assert next(iter(PACKAGED_WEIGHTS)) == "default"
    for name, path in PACKAGED_WEIGHTS.items():
        assert weights_path(name) == path
        assert path.is_file() and "AP" in card_path(path).read_text(encoding="utf-8")
        license_text = packaged_license(path)
        assert license_text is not None and "\n" not in license_text
        assert license_text.endswith(f" See pose/{name.removesuffix('-int8')}_model.md")
    assert packaged_license(Path("best.pt")) is None


def test_all_packaged_models_fit_into_the_wheel() -> None:
    assert sum(path.stat().st_size for path in PACKAGED_WEIGHTS.values()) < 35e6


def test_a_file_and_its_int8_form_are_found_by_name(tmp_path: Path) -> None:
    for name in ("lite_model.pt", "lite_model.int8.onnx", "default_model.pt", "lite_model.md", "model.pt", "a.onnx"):
        (tmp_path / name).touch()
    found = find_models(tmp_path)
    assert {name: path.name for name, path in found.items()} == {
        "default": "default_model.pt",
        "lite": "lite_model.pt",
        "lite-int8": "lite_model.int8.onnx",
    }
    assert next(iter(found)) == "default"
    assert card_path(found["lite-int8"]) == card_path(found["lite"]) == tmp_path / "lite_model.md"


@pytest.mark.parametrize("path", ["./default", Path("default"), "runs/default", "best.pt"])
def test_a_path_remains_a_path(path: str | Path) -> None:
    assert weights_path(path) == Path(path)


def test_results_of_a_packaged_model_are_not_written_into_the_package() -> None:
    assert results_folder(PACKAGED_WEIGHTS["default"]) == Path("runs/default")
    assert results_folder(Path("runs/a/best.pt")) == Path("runs/a")


def test_the_predictor_takes_the_name_and_a_misspelled_one_is_named() -> None:
    by_name, by_default = (PosePredictor(*name, device="cpu", flip=False)(IMAGE, "image") for name in (["default"], []))
    np.testing.assert_array_equal(by_name.keypoints, by_default.keypoints)
    with pytest.raises(CheckpointError, match=r"defualt: no such weight file; did you mean 'default'\?"):
        load_pose_net("defualt")


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Add a small dynamic model of another input size to the packaged models, as ``small``."""
    model = {"width": 0.35, "depth": 0.1, "head_width": 0.25, "dynamic_head": True}
    config = Config.model_validate({"model": model, "input": {"size_hw": [64, 32]}})
    path = tmp_path / "small_model.pt"
    write_weights({"model": build_pose_net(config).state_dict(), "config": config.model_dump(mode="json")}, path)
    path.with_suffix(".md").write_text("# Card\n\n**License:** of the\ntest.\n\n## End\n", encoding="utf-8")
    monkeypatch.setitem(PACKAGED_WEIGHTS, "small", path)
    return path


def test_another_packaged_model_brings_its_own_input_size_and_convolutions(small: Path) -> None:
    predictor = PyTorchPredictor("small", device="cpu")
    assert predictor.config.model.dynamic_head
    predictor = PosePredictor("small", device="cpu")
    assert predictor.input_config.size_hw == (64, 32)
    assert predictor(IMAGE, "image").keypoints.shape == (1, 17, 2)


def test_an_exported_packaged_model_has_its_name_and_license_and_needs_the_predictor_of_its_kind(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    exported = tmp_path / "small_model.int8.onnx"
    export.main(["--weights", "small", "--output", str(exported)])
    monkeypatch.setitem(PACKAGED_WEIGHTS, "small-int8", exported)

    predictor = ExportedPredictor("small-int8")
    assert predictor.metadata.licence == "of the test. See pose/small_model.md"
    assert predictor(IMAGE, "image").keypoints.shape == (1, 17, 2)
    with pytest.raises(CheckpointError, match=r"expected a weight file \(\.pt\), got an exported model; .*Exported"):
        PosePredictor("small-int8", device="cpu")
    with pytest.raises(SystemExit):
        run(export.main, ["--weights", "small-int8", "--output", str(tmp_path / "again.onnx")])
    assert "expected a weight file (.pt), got an exported model" in capsys.readouterr().err
