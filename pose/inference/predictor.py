"""Base class of all predictors: input checks, crops and batches around any backend. Imports no PyTorch.

`pose.inference.pytorch.PosePredictor` runs a model in PyTorch, `pose.inference.exported.ExportedPredictor` an exported
one. To add a backend, subclass `CropPredictor` and implement `CropPredictor.find_keypoints`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pose.config.pose import InputConfig
from pose.errors import DataError
from pose.geometry import Array, Float32
from pose.images import Image, person_crop, read_image
from pose.inference.detectors import WHOLE_FRAME, Detector
from pose.inference.everybody import predict_everybody
from pose.inference.find_detector import resolve_detector
from pose.skeleton import Skeleton


@dataclass(frozen=True)
class Poses:
    """Keypoints, scores and boxes of the N persons of one image.

    Attributes:
        keypoints: (N, K, 2) x, y in image pixels.
        scores: (N, K) heatmap peak values, about 0 to 1.
        bboxes_xywh: (N, 4) person boxes that were the input, in image pixels.
        ids: (N,) numbers of the persons, from 1, the same in all frames of a video; 0 for a person that was seen in too
            few frames to be counted. None without tracking.
    """

    keypoints: Float32
    scores: Float32
    bboxes_xywh: Float32
    ids: NDArray[np.intp] | None = None

    def __len__(self) -> int:
        return len(self.keypoints)

    @property
    def person_scores(self) -> Float32:
        """(N,) mean keypoint score of each person."""
        return self.scores.mean(axis=1) if len(self) else np.zeros(0, dtype=np.float32)


class CropPredictor(ABC):
    """Predicts the keypoints of the persons in an image.

    Args:
        skeleton: the model's keypoint set.
        input_config: the model's input.
        batch_size: crops per batch.
        detector: finds the persons of images without boxes: a name that `resolve_detector` takes, or a detector.
        device: of the detector.
    """

    def __init__(
        self,
        skeleton: Skeleton,
        input_config: InputConfig,
        batch_size: int,
        detector: str | Path | Detector = WHOLE_FRAME,
        device: str | None = None,
    ) -> None:
        self.skeleton, self.input_config, self.batch_size = skeleton, input_config, batch_size
        self.detector: Detector | None = (
            resolve_detector(detector, device=device) if isinstance(detector, (str, Path)) else detector
        )

    @abstractmethod
    def find_keypoints(self, crops_rgb: Image, heatmap_to_image: Array) -> tuple[Float32, Float32]:
        """Predict the keypoints of one batch of crops.

        Args:
            crops_rgb: (B, h, w, 3) uint8, B at least 1.
            heatmap_to_image: (B, 2, 3) affine matrices from heatmap to image pixels.

        Returns:
            keypoints_image (B, K, 2) and scores (B, K).
        """

    def __call__(self, image: str | Path | Image, boxes: ArrayLike | None = None) -> Poses:
        """Predict the keypoints of the persons in one image.

        Args:
            image: path, or (H, W, 3) uint8 BGR.
            boxes: (N, 4) persons as left, top, width, height in pixels; by default those that the detector
                finds, and without a detector the whole image is one person.

        Raises:
            DataError: the image cannot be read, or the image or the boxes have the wrong type or shape.
        """
        image_bgr = read_image(image) if isinstance(image, (str, Path)) else _check_image(image)
        if boxes is None:
            return predict_everybody(self, [image_bgr], self.detector)[0]
        return self.predict_batch([image_bgr], [boxes])[0]

    def predict_batch(self, images: Sequence[Image], boxes: Sequence[ArrayLike]) -> list[Poses]:
        """Predict the keypoints of several images; their persons share batches.

        Args:
            images: (H, W, 3) uint8 BGR each.
            boxes: for each image (N_i, 4) xywh in its pixels.

        Raises:
            DataError: an image or its boxes have the wrong type or shape.
        """
        checked_boxes = [_check_boxes(image_boxes) for image_boxes in boxes]
        crops = [
            person_crop(_check_image(image), bbox_xywh, self.input_config)
            for image, image_boxes in zip(images, checked_boxes, strict=True)
            for bbox_xywh in image_boxes
        ]
        predictions = [
            self.find_keypoints(
                np.stack([crop for crop, _, _ in batch]),
                np.stack([heatmap_to_image for _, heatmap_to_image, _ in batch]),
            )
            for batch in _split(crops, self.batch_size)
        ]
        count = self.skeleton.num_keypoints
        empty = (np.zeros((0, count, 2), dtype=np.float32), np.zeros((0, count), dtype=np.float32))
        keypoints, scores = (np.concatenate(column) for column in zip(empty, *predictions, strict=True))
        ends = np.cumsum([len(image_boxes) for image_boxes in checked_boxes], dtype=np.intp)
        per_image = zip(np.split(keypoints, ends)[:-1], np.split(scores, ends)[:-1], checked_boxes, strict=True)
        return [Poses(*columns) for columns in per_image]


Item = TypeVar("Item")


def _split(items: Sequence[Item], size: int) -> Iterable[Sequence[Item]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _check_image(image: Image) -> Image:
    is_uint8 = isinstance(image, np.ndarray) and image.dtype == np.uint8
    if not is_uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise DataError(
            "predictor: expected an image of (H, W, 3) uint8 BGR, got "
            f"{getattr(image, 'dtype', type(image).__name__)} {getattr(image, 'shape', '')}; read it with cv2.imread"
        )
    return image


def _check_boxes(boxes: ArrayLike) -> Float32:
    try:
        bboxes_xywh = np.asarray(boxes, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise DataError(f"predictor: expected boxes (N, 4) as numbers, got {boxes!r:.80} ({error})") from None
    if bboxes_xywh.size == 0:
        return np.zeros((0, 4), dtype=np.float32)
    is_shape = bboxes_xywh.ndim == 2 and bboxes_xywh.shape[1] == 4
    if not is_shape or not np.isfinite(bboxes_xywh).all() or bboxes_xywh[:, 2:].min() <= 0:
        raise DataError(
            f"predictor: expected boxes (N, 4) as left, top, width, height in pixels with positive sizes, got "
            f"{bboxes_xywh.tolist() if bboxes_xywh.size <= 8 else bboxes_xywh.shape}"
        )
    return bboxes_xywh
