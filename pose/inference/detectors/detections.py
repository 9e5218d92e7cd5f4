"""What every person detector returns, and the steps that several of them share."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import cv2
import numpy as np

from pose.geometry import MIN_SIDE, Array
from pose.images import Image


class Detections(NamedTuple):
    """Detected persons of one image, highest score first.

    Attributes:
        bboxes_xywh: (N, 4) left, top, width, height in image pixels.
        scores: (N,).
    """

    bboxes_xywh: Array
    scores: Array


class Detector(Protocol):
    """Detects the persons in (H, W, 3) uint8 BGR images."""

    def __call__(self, images: Sequence[Image]) -> list[Detections]:
        """Return the persons of each image."""


def nms(detections: Detections, nms_threshold: float) -> Detections:
    """Sort by score and drop boxes whose IoU with a higher-scored one exceeds ``nms_threshold``."""
    if not len(detections.scores):
        return detections
    kept = cv2.dnn.NMSBoxes(detections.bboxes_xywh.tolist(), detections.scores.tolist(), 0.0, nms_threshold)
    index = np.asarray(kept, dtype=np.intp).reshape(-1)
    return Detections(detections.bboxes_xywh[index], detections.scores[index])


def sort_by_score(detections: Detections) -> Detections:
    """Sort by score, highest first."""
    order = np.argsort(-detections.scores, kind="stable")
    return Detections(detections.bboxes_xywh[order], detections.scores[order])


def clip(detections: Detections, image_wh: tuple[int, int]) -> Detections:
    """Clip boxes to the image and drop those of which nothing is left."""
    top_left = detections.bboxes_xywh[:, :2].clip(0, image_wh)
    size = (detections.bboxes_xywh[:, :2] + detections.bboxes_xywh[:, 2:]).clip(0, image_wh) - top_left
    inside = (size >= MIN_SIDE).all(axis=1)
    return Detections(np.concatenate([top_left, size], axis=1)[inside], detections.scores[inside])
