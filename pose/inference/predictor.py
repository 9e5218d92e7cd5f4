"""What every predictor does around its model, without knowing what runs it: checks, crops, batches.

Nothing here imports torch. `pose.inference.pytorch.PosePredictor` runs a model in PyTorch, `pose.inference.exported.ExportedPredictor` an
exported one; to add another, write `CropPredictor.find_keypoints`.
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
from pose.skeleton import Skeleton


@dataclass(frozen=True)
class Poses:
    """N persons of one image.

    Attributes:
        keypoints: (N, K, 2) x, y in image pixels.
        scores: (N, K) heights of the heatmaps' peaks, about 0 to 1.
        bboxes_xywh: (N, 4) the boxes they were looked for in.
    """

    keypoints: NDArray[np.float32]
    scores: NDArray[np.float32]
    bboxes_xywh: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.keypoints)

    @property
    def person_scores(self) -> NDArray[np.float32]:
        """(N,) mean keypoint score of each person."""
        return self.scores.mean(axis=1) if len(self) else np.zeros(0, dtype=np.float32)


class CropPredictor(ABC):
    """Finds the keypoints of the persons in an image.

    Args:
        skeleton: the keypoint set of the model.
        input_config: of its input.
        batch_size: crops a batch.
    """

    def __init__(self, skeleton: Skeleton, input_config: InputConfig, batch_size: int) -> None:
        self.skeleton, self.input_config, self.batch_size = skeleton, input_config, batch_size

    @abstractmethod
    def find_keypoints(self, crops_rgb: Image, matrices: Array) -> tuple[Float32, Float32]:
        """Find the keypoints of crops.

        Args:
            crops_rgb: (B, h, w, 3) uint8, B at least 1.
            matrices: (B, 2, 3) from heatmap to image pixels.

        Returns:
            keypoints_image (B, K, 2) and scores (B, K).
        """

    def __call__(self, image: str | Path | Image, boxes: ArrayLike | None = None) -> Poses:
        """Find the keypoints of one image.

        Args:
            image: path, or (H, W, 3) uint8 BGR.
            boxes: (N, 4) persons as left, top, width, height in pixels; by default the whole image is one person.

        Raises:
            DataError: the image cannot be read, or the boxes have another form.
        """
        pixels = read_image(image) if isinstance(image, (str, Path)) else _pixels(image)
        return self.predict_batch([pixels], [_whole(pixels) if boxes is None else boxes])[0]

    def predict_batch(self, images: Sequence[Image], boxes: Sequence[ArrayLike]) -> list[Poses]:
        """Find the keypoints of several images, the persons of all of them in common batches.

        Args:
            images: (H, W, 3) uint8 BGR each.
            boxes: (N_i, 4) xywh in pixels of each image.
        """
        checked = [_boxes(rows) for rows in boxes]
        crops = [
            person_crop(_pixels(image), bbox, self.input_config)
            for image, rows in zip(images, checked, strict=True)
            for bbox in rows
        ]
        parts = [
            self.find_keypoints(np.stack([image for image, _, _ in part]), np.stack([matrix for _, matrix, _ in part]))
            for part in _parts(crops, self.batch_size)
        ]
        count = self.skeleton.num_keypoints
        empty = (np.zeros((0, count, 2), dtype=np.float32), np.zeros((0, count), dtype=np.float32))
        keypoints, scores = (np.concatenate(column) for column in zip(empty, *parts, strict=True))
        ends = np.cumsum([len(rows) for rows in checked], dtype=np.intp)
        found = zip(np.split(keypoints, ends)[:-1], np.split(scores, ends)[:-1], checked, strict=True)
        return [Poses(*columns) for columns in found]


Item = TypeVar("Item")


def _parts(items: Sequence[Item], size: int) -> Iterable[Sequence[Item]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _pixels(image: Image) -> Image:
    array = isinstance(image, np.ndarray) and image.dtype == np.uint8
    if not array or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise DataError(
            "predictor: expected an image of (H, W, 3) uint8 BGR, got "
            f"{getattr(image, 'dtype', type(image).__name__)} {getattr(image, 'shape', '')}; read it with cv2.imread"
        )
    return image


def _boxes(boxes: ArrayLike) -> NDArray[np.float32]:
    try:
        rows = np.asarray(boxes, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise DataError(f"predictor: expected boxes (N, 4) as numbers, got {boxes!r:.80} ({error})") from None
    if rows.size == 0:
        return np.zeros((0, 4), dtype=np.float32)
    if rows.ndim != 2 or rows.shape[1] != 4 or not np.isfinite(rows).all() or rows[:, 2:].min() <= 0:
        raise DataError(
            f"predictor: expected boxes (N, 4) as left, top, width, height in pixels with positive sizes, got "
            f"{rows.tolist() if rows.size <= 8 else rows.shape}"
        )
    return rows


def _whole(image: Image) -> NDArray[np.float32]:
    return np.array([[0, 0, image.shape[1], image.shape[0]]], dtype=np.float32)
