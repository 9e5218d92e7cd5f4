"""Detectors of torchvision: colors, labels, the cache of weights, and weights that cannot be had."""

from pathlib import Path

import numpy as np
import pytest

from pose.errors import ConfigError, MediaError
from pose.inference.detectors import load_detector
from pose.inference.detectors.torchvision_models import TorchvisionDetector, weights_file

SSDLITE = "ssdlite320_mobilenet_v3_large"


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Path:
    """An empty cache of torch."""
    import torch

    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    return tmp_path / "hub/checkpoints"


def write_random_weights(path: Path) -> None:
    import torch
    from torchvision import models

    path.parent.mkdir(parents=True)
    torch.save(models.get_model(SSDLITE, weights=None, weights_backbone=None).state_dict(), path)


def test_torchvision_detector_gets_rgb_and_keeps_persons_only():
    import torch

    received = []

    def model(inputs):
        received.extend(inputs)
        boxes = torch.tensor([[1, 2, 4, 8], [0, 0, 9, 9], [5, 5, 6, 7], [3, 3, 3, 9.0]])
        return [{"boxes": boxes, "labels": torch.tensor([1, 2, 1, 1]), "scores": torch.tensor([0.9, 0.8, 0.1, 0.7])}]

    image = np.zeros((10, 12, 3), np.uint8)
    image[..., 0] = 255  # blue
    (detections,) = TorchvisionDetector(model, person_label=1, score_threshold=0.3, device="cpu")([image])
    assert detections.bboxes_xywh.tolist() == [[1, 2, 3, 6]]
    np.testing.assert_allclose(detections.scores, [0.9])
    assert received[0].shape == (3, 10, 12)
    assert received[0][:, 0, 0].tolist() == [0, 0, 1]


def test_weights_in_the_cache_are_loaded_without_network(hub, monkeypatch):
    import torch

    def refuse(*args, **kwargs):
        raise AssertionError("downloads")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    path = weights_file(SSDLITE)
    assert path.parent == hub
    write_random_weights(path)
    detector = load_detector(SSDLITE, device="cpu")
    assert detector.person_label == 1
    state = torch.load(path)
    torch.testing.assert_close(detector.model.state_dict(), state)
    (detections,) = detector([np.zeros((40, 60, 3), np.uint8)])
    assert detections.bboxes_xywh.shape[1] == 4


def test_a_download_is_reported_once_with_size_and_license(hub, monkeypatch, caplog, capsys):
    import socket

    import torch

    timeouts = []

    def download(url, file, *args, **kwargs):
        timeouts.append(socket.getdefaulttimeout())
        write_random_weights_to.rename(file)

    write_random_weights_to = hub.parent / "new/weights.pth"
    write_random_weights(write_random_weights_to)
    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    with caplog.at_level("INFO"):
        load_detector(SSDLITE, device="cpu")
        load_detector(SSDLITE, device="cpu")
    assert [message for message in caplog.messages if "downloaded" in message] == [
        f"detector: downloaded {SSDLITE} of torchvision (13 MB; BSD-3-Clause, weights trained on COCO) to "
        f"{weights_file(SSDLITE)}"
    ]
    assert timeouts == [5]
    assert socket.getdefaulttimeout() is None
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("content", [b"", b"not weights", b"PK\x03\x04 cut"])
def test_damaged_weights_in_the_cache_are_named(hub, content):
    path = weights_file(SSDLITE)
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(MediaError, match=r"\.pth: cannot read these weights.*delete the file") as caught:
        load_detector(SSDLITE)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("hub")
def test_weights_that_cannot_be_downloaded_are_reported_in_one_line(monkeypatch):
    from torchvision import models

    def offline(*args, **kwargs):
        raise OSError("network is\nunreachable")

    monkeypatch.setattr(models, "get_model", offline)
    with pytest.raises(MediaError, match=r"cannot download https://.*network is unreachable"):
        load_detector(SSDLITE)


def test_a_device_that_is_not_there_is_refused_before_a_download(monkeypatch):
    from torchvision import models

    monkeypatch.setattr(models, "get_model", lambda *arguments, **options: pytest.fail("loads the model"))
    with pytest.raises(ConfigError, match=r"^device 'nonsense' is not available"):
        load_detector(SSDLITE, device="nonsense")
