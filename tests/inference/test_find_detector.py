"""Which detector ``auto`` takes: environment, settings, torch's cache, download, none."""

import logging
from pathlib import Path

import pytest

from pose.errors import MediaError
from pose.inference import find_detector
from pose.inference.detectors import whole_frame
from pose.inference.detectors.onnx_file import OnnxDetector
from pose.inference.detectors.torchvision_models import TorchvisionDetector, weights_file
from pose.inference.find_detector import (
    LIGHT_DETECTORS,
    chosen_detector,
    light_detector,
    resolve_detector,
    set_detector,
    settings_file,
    unset_detector,
)

SSDLITE, FASTER_RCNN, _ = LIGHT_DETECTORS


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A user who has set and downloaded nothing, without network."""
    import torch

    def offline(*args, **kwargs):
        raise OSError("Name or service not known")

    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    monkeypatch.delenv("DYCONV_POSE_DETECTOR")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path


@pytest.fixture
def onnx_file(write_onnx) -> Path:
    import numpy as np

    return write_onnx((1, 3, 32, 64), {"raw": np.zeros((1, 42, 6), np.float32)})


def write_random_weights(name: str) -> None:
    import torch
    from torchvision import models

    path = weights_file(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(models.get_model(name, weights=None, weights_backbone=None).state_dict(), path)


def lines(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == find_detector.__name__]


@pytest.mark.usefixtures("home")
def test_without_cache_and_network_there_is_none_and_one_line_says_why_and_what_to_do(caplog):
    with caplog.at_level(logging.INFO):
        assert resolve_detector("auto") is None
    (line,) = lines(caplog)
    assert "\n" not in line
    assert f"cannot download https://download.pytorch.org/models/{SSDLITE}" in line
    assert "Name or service not known" in line
    assert "the pose model alone finds one person" in line
    assert "dyconv-pose detector set FILE" in line
    assert caplog.records[-1].levelno == logging.WARNING  # shown in Python, too


@pytest.mark.usefixtures("home")
def test_without_torchvision_there_is_none(caplog, monkeypatch):
    def missing(name):
        raise ImportError(name="torchvision")

    monkeypatch.setattr(find_detector, "weights_file", missing)
    assert resolve_detector("auto") is None
    assert "torchvision is not installed" in lines(caplog)[0]


@pytest.mark.usefixtures("home")
def test_weights_in_torchs_cache_are_used(caplog):
    write_random_weights(SSDLITE)
    with caplog.at_level(logging.INFO):
        assert isinstance(resolve_detector("auto", device="cpu"), TorchvisionDetector)
    assert lines(caplog) == [f"detector: {SSDLITE} of torchvision; {find_detector.HOW_TO_SET}"]


@pytest.mark.usefixtures("home")
def test_the_lightest_detector_is_taken_unless_only_another_is_in_the_cache():
    assert light_detector() == SSDLITE
    for name in (FASTER_RCNN, SSDLITE):
        weights_file(name).parent.mkdir(parents=True, exist_ok=True)
        weights_file(name).touch()
        assert light_detector() == name


def test_light_detectors_are_those_of_torchvision_with_the_fewest_operations():
    from torchvision import models

    def operations(name: str) -> float:
        return models.get_model_weights(name).DEFAULT.meta["_ops"]

    by_operations = sorted(models.list_models(module=models.detection), key=operations)
    assert by_operations[:3] == list(LIGHT_DETECTORS)


@pytest.mark.usefixtures("home")
def test_damaged_weights_in_the_cache_are_a_reason_to_take_none(caplog):
    weights_file(SSDLITE).parent.mkdir(parents=True)
    weights_file(SSDLITE).write_bytes(b"damaged")
    assert resolve_detector("auto") is None
    assert f"{weights_file(SSDLITE)}: cannot read these weights" in lines(caplog)[0]
    assert "delete the file" in lines(caplog)[0]


def test_a_detector_that_is_set_once_is_taken_until_it_is_unset(home, onnx_file, monkeypatch, caplog):
    monkeypatch.chdir(onnx_file.parent)
    assert set_detector(onnx_file.name).name == str(onnx_file)
    assert settings_file() == home / "config/dyconv-pose/detector"
    monkeypatch.chdir("/")
    with caplog.at_level(logging.INFO):
        assert isinstance(resolve_detector("auto"), OnnxDetector)
    assert lines(caplog) == [f"detector: {onnx_file}, from {settings_file()}"]
    assert unset_detector()
    assert not unset_detector()
    assert chosen_detector() is None


def test_the_environment_variable_wins_over_the_setting(home, onnx_file, monkeypatch):
    set_detector(str(onnx_file))
    monkeypatch.setenv("DYCONV_POSE_DETECTOR", "none")
    assert resolve_detector("auto") is whole_frame
    monkeypatch.setenv("DYCONV_POSE_DETECTOR", "pose")
    assert resolve_detector("auto") is None
    for value in ("", "auto"):
        monkeypatch.setenv("DYCONV_POSE_DETECTOR", value)
        assert isinstance(resolve_detector("auto"), OnnxDetector)


def test_a_named_detector_is_loaded_whatever_is_set(home, onnx_file):
    set_detector(str(onnx_file))
    assert resolve_detector("none") is whole_frame
    assert resolve_detector("pose") is None


def test_a_setting_that_fails_is_an_error_that_names_its_origin(home, onnx_file, monkeypatch):
    set_detector(str(onnx_file))
    onnx_file.unlink()
    with pytest.raises(MediaError, match=r"no such detector file \(the detector comes from .*dyconv-pose/detector\)"):
        resolve_detector("auto")
    monkeypatch.setenv("DYCONV_POSE_DETECTOR", "ssdlite")
    with pytest.raises(MediaError, match=r"comes from the environment variable DYCONV_POSE_DETECTOR"):
        resolve_detector("auto")


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("content", [b"", b"a.onnx\nb.onnx\n", b"\xff\xfe"])
def test_damaged_settings_are_an_error(content):
    settings_file().parent.mkdir(parents=True)
    settings_file().write_bytes(content)
    with pytest.raises(MediaError, match="dyconv-pose detector unset"):
        resolve_detector("auto")


@pytest.mark.usefixtures("home")
def test_a_detector_that_cannot_be_loaded_is_not_stored(tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"bad")
    for name in (str(tmp_path / "bad.onnx"), "yolo", "auto"):
        with pytest.raises(MediaError):
            set_detector(name)
    assert not settings_file().exists()


def test_settings_are_in_the_home_folder_by_default(home, monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: home)
    for value in ("", "relative/path"):
        monkeypatch.setenv("XDG_CONFIG_HOME", value)
        assert settings_file() == home / ".config/dyconv-pose/detector"
