"""Person detectors: images in, person boxes and scores out.

`load_detector` selects one of three kinds by name: an ONNX file, a torchvision detector with its COCO weights, or
``none``, which returns the whole frame as one person. `pose.inference.find_detector` chooses one. To add another kind,
write a callable with the signature of `Detector` and return it from `load_detector`; to add a format of ONNX files, see
`pose.inference.detectors.formats`.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pose.images import Image
from pose.inference.detectors.detections import Detections, Detector
from pose.inference.detectors.onnx_file import open_onnx_detector
from pose.inference.detectors.torchvision_models import load_torchvision

__all__ = ["WHOLE_FRAME", "Detections", "Detector", "load_detector", "whole_frame"]

WHOLE_FRAME = "none"


def load_detector(
    name_or_path: str | Path,
    *,
    score_threshold: float = 0.3,
    nms_threshold: float = 0.65,
    device: str | None = None,
) -> Detector:
    """Load a person detector.

    Args:
        name_or_path: an ``.onnx`` file, a detector of `torchvision.models.detection`, or ``none`` (whole frame).
        score_threshold: minimum person score.
        nms_threshold: NMS drops the lower-scored of two boxes above this IoU (ONNX files without NMS of their own).
        device: device of a torchvision detector, such as ``cuda``; by default a GPU if there is one.

    Raises:
        MediaError: the name is unknown, the file is not a detector of a known format, or the weights cannot be
            downloaded.
    """
    name = str(name_or_path)
    if name == WHOLE_FRAME:
        return whole_frame
    if name.lower().endswith(".onnx"):
        return open_onnx_detector(Path(name), score_threshold, nms_threshold)
    return load_torchvision(name, score_threshold, device)


def whole_frame(images: Sequence[Image]) -> list[Detections]:
    """Return the whole of each image as one person with score 1."""
    return [Detections(np.array([[0.0, 0.0, image.shape[1], image.shape[0]]]), np.ones(1)) for image in images]
