"""Detectors of `torchvision.models.detection` with their COCO weights, from torch's cache or downloaded."""

import logging
import pickle
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import numpy as np

from pose.errors import MediaError, near_name
from pose.geometry import MIN_SIDE
from pose.images import Image
from pose.inference.detectors.detections import Detections

logger = logging.getLogger(__name__)

TIMEOUT_S = 5.0
"""Maximum time of a download without an answer or further data."""
LICENSE = "BSD-3-Clause, weights trained on COCO"


@dataclass(frozen=True)
class TorchvisionDetector:
    """Detector from `torchvision.models.detection`.

    Attributes:
        model: in evaluation mode, from a list of (3, H, W) RGB images in 0..1 to dicts of ``boxes`` (xyxy), ``labels``
            and ``scores``.
        person_label: label of the person class.
        score_threshold: minimum person score.
        device: the model's device.
    """

    model: Callable[[list[Any]], list[dict[str, Any]]]
    person_label: int
    score_threshold: float
    device: str

    def __call__(self, images: Sequence[Image]) -> list[Detections]:
        """Return the persons of each image; the model runs on all images at once."""
        import torch

        inputs = [
            torch.from_numpy(np.ascontiguousarray(image[..., ::-1].transpose(2, 0, 1))).to(self.device).float() / 255
            for image in images
        ]
        with torch.inference_mode():
            return [self._persons(output) for output in self.model(inputs)]

    def _persons(self, output: dict[str, Any]) -> Detections:
        boxes, labels, scores = (output[key].cpu().numpy() for key in ("boxes", "labels", "scores"))
        keep = (labels == self.person_label) & (scores > self.score_threshold)
        keep &= (boxes[:, 2:] - boxes[:, :2] >= MIN_SIDE).all(axis=1)  # NaN compares false
        bboxes_xywh = boxes[keep].astype(np.float64)
        bboxes_xywh[:, 2:] -= bboxes_xywh[:, :2]
        return Detections(bboxes_xywh, scores[keep].astype(np.float64))


def load_torchvision(name: str, score_threshold: float, device: str | None) -> TorchvisionDetector:
    """Load a detector of torchvision; weights that are not in torch's cache are downloaded.

    Raises:
        MediaError: torchvision has no detector of this name, or its weights cannot be downloaded or read.
        ConfigError: there is no such device.
    """
    from torchvision import models

    from pose.models.devices import choose_device

    names = models.list_models(module=models.detection)
    if name not in names:
        raise MediaError(
            f"detector '{name}': expected an .onnx file, 'auto', 'none' or the name of a torchvision detector"
            f"{near_name(name, ['auto', 'none', *names])}"
        )
    chosen = choose_device(device)
    weights = models.get_model_weights(name).DEFAULT
    file = weights_file(name)
    was_cached = file.is_file()
    try:
        with _socket_timeout(TIMEOUT_S), redirect_stdout(StringIO()):  # torch prints the address
            model = models.get_model(name, weights=weights)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        reason = " ".join(str(error).split())[:200]
        if file.is_file():
            raise MediaError(f"{file}: cannot read these weights ({reason}); delete the file") from None
        raise MediaError(
            f"detector '{name}': cannot download {weights.url} ({reason}); check the network, or give an .onnx file"
        ) from None
    if not was_cached:
        size_mb = weights.meta["_file_size"]
        logger.info("detector: downloaded %s of torchvision (%.0f MB; %s) to %s", name, size_mb, LICENSE, file)
    person_label = weights.meta["categories"].index("person")
    return TorchvisionDetector(model.to(chosen).eval(), person_label, score_threshold, str(chosen))


def weights_file(name: str) -> Path:
    """Return where torch keeps the weights of a detector of torchvision, whether they are there or not."""
    import torch
    from torchvision import models

    url = models.get_model_weights(name).DEFAULT.url
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """Set the default timeout of sockets, the only one that torch's download knows."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
