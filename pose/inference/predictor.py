"""Base class of all predictors: input checks, crops and batches around any backend. Imports no PyTorch.

`pose.inference.pytorch.PyTorchPredictor` runs a model in PyTorch, `pose.inference.exported.ExportedPredictor` an
exported one, and `pose.PosePredictor` chooses between them. To add a backend, subclass `CropPredictor` and implement
`CropPredictor.find_keypoints`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, overload

import numpy as np
from numpy.typing import ArrayLike

from pose.config.pose import InputConfig
from pose.errors import DataError
from pose.geometry import Array, Float32
from pose.images import Image
from pose.inference.boxes import WHOLE_IMAGE, BoxesFormat, parse_boxes, resolve_boxes, warn_outside
from pose.inference.crops import crop_batches
from pose.inference.detectors import Detector
from pose.inference.everybody import predict_everybody
from pose.inference.find_detector import AUTO, resolve_detector
from pose.inference.poses import Poses
from pose.inference.sources import Pixels, Source, check_image, expand, load_image
from pose.skeleton import Skeleton

BoxesArgument: TypeAlias = ArrayLike | Sequence[ArrayLike | None] | None
"""Boxes of an image, ``"image"``, or None; for several images a sequence with one of these per image."""
MAX_IMAGES = 8
"""Number of images of a list or folder that are in memory at a time."""


class CropPredictor(ABC):
    """Predicts the keypoints of the persons in an image.

    Args:
        skeleton: the model's keypoint set.
        input_config: the model's input.
        batch_size: crops per batch.
        detector: finds the persons of images without boxes: a name that `resolve_detector` takes, or a detector.
            The default is ``auto``.
        device: of the detector.

    Attributes:
        runtime: what runs the model: ``pytorch``, ``onnxruntime`` or ``openvino``.
    """

    runtime: str

    def __init__(
        self,
        skeleton: Skeleton,
        input_config: InputConfig,
        batch_size: int,
        detector: str | Path | Detector = AUTO,
        device: str | None = None,
    ) -> None:
        self.skeleton, self.input_config, self.batch_size = skeleton, input_config, batch_size
        self._detector, self._detector_device = detector, device
        if detector != AUTO:
            _ = self.detector  # a detector that is named and cannot be loaded is an error at once

    @cached_property
    def detector(self) -> Detector | None:
        """Finds the persons of images without boxes; None: the pose model itself finds one person.

        ``auto`` is resolved when it is first needed: callers that give boxes need no detector.
        """
        if isinstance(self._detector, (str, Path)):
            return resolve_detector(self._detector, device=self._detector_device)
        return self._detector

    @abstractmethod
    def find_keypoints(self, crops_rgb: Image, heatmap_to_image: Array) -> tuple[Float32, Float32]:
        """Predict the keypoints of one batch of crops.

        Args:
            crops_rgb: (B, h, w, 3) uint8, B at least 1.
            heatmap_to_image: (B, 2, 3) affine matrices from heatmap to image pixels.

        Returns:
            keypoints_image (B, K, 2) and scores (B, K).
        """

    def without_flip(self) -> "CropPredictor":
        """Return a faster predictor with the same model that does not average with the mirrored crop, if it can."""
        return self

    @overload
    def __call__(  # type: ignore[overload-overlap]  # a str is a sequence, too
        self, source: str | Path, boxes: BoxesArgument = None, *, boxes_format: BoxesFormat = "xywh"
    ) -> Poses | Any: ...  # a list of poses for a folder; Any keeps the common call free of a check

    @overload
    def __call__(
        self, source: Sequence[Source], boxes: BoxesArgument = None, *, boxes_format: BoxesFormat = "xywh"
    ) -> list[Poses]: ...

    @overload
    def __call__(self, source: Pixels, boxes: BoxesArgument = None, *, boxes_format: BoxesFormat = "xywh") -> Poses: ...

    def __call__(
        self, source: Source | Sequence[Source], boxes: BoxesArgument = None, *, boxes_format: BoxesFormat = "xywh"
    ) -> Poses | list[Poses]:
        """Predict the keypoints of the persons in one image or in several.

        Files and PIL images are rotated upright by their EXIF orientation, and keypoints and boxes are in the pixels of
        the upright image. (Evaluation on data sets ignores EXIF, as COCO's annotations do.)

        Args:
            source: path, http(s) address, (H, W, 3) uint8 BGR, PIL image, or (3, H, W) RGB tensor (uint8 or float
                0..1); or a list of them, a folder, or a batch (N, ...) of arrays or tensors.
            boxes: (N, 4) persons in pixels; by default those that the detector finds. ``"image"``: the whole image is
                one person. For several images, one array per image.
            boxes_format: ``"xywh"``: left, top, width, height; ``"xyxy"``: left, top, right, bottom.

        Returns:
            The poses of the image, or a list of them for several images or a folder.

        Raises:
            DataError: an image cannot be read, or an image or the boxes have the wrong type or shape.
            MediaError: a folder has no images.
        """
        sources = expand(source)
        if sources is None:
            return self._predict_sources([source], [boxes], boxes_format)[0]
        per_image = _boxes_per_image(boxes, len(sources))
        results: list[Poses] = []
        for chunk in zip(_split(sources, MAX_IMAGES), _split(per_image, MAX_IMAGES), strict=True):
            results += self._predict_sources(*chunk, boxes_format)
        return results

    def _predict_sources(
        self, sources: Sequence[object], boxes: Sequence[Any], boxes_format: BoxesFormat
    ) -> list[Poses]:
        images = [load_image(source) for source in sources]
        results: dict[int, Poses] = {}
        if searched := [index for index, image_boxes in enumerate(boxes) if image_boxes is None]:
            found = predict_everybody(self, [images[index] for index in searched], self.detector)
            results |= zip(searched, found, strict=True)
        if given := [index for index in range(len(boxes)) if index not in results]:
            in_images = [images[index] for index in given]
            bboxes_xywh = [resolve_boxes(boxes[index], images[index], boxes_format) for index in given]
            warn_outside(bboxes_xywh, in_images, stacklevel=3)
            results |= zip(given, self.predict_batch(in_images, bboxes_xywh), strict=True)
        return [
            replace(results[index], source=source if isinstance(source, (str, Path)) else None)
            for index, source in enumerate(sources)
        ]

    def predict_batch(self, images: Sequence[Image], boxes: Sequence[ArrayLike]) -> list[Poses]:
        """Predict the keypoints of several images; their persons share batches.

        Args:
            images: (H, W, 3) uint8 BGR each.
            boxes: for each image (N_i, 4) xywh in its pixels.

        Raises:
            DataError: an image or its boxes have the wrong type or shape.
        """
        checked_boxes = [parse_boxes(image_boxes) for image_boxes in boxes]
        crops = crop_batches(
            [check_image(image) for image in images], checked_boxes, self.input_config, self.batch_size
        )
        predictions = [self.find_keypoints(*batch) for batch in crops]
        count = self.skeleton.num_keypoints
        empty = (np.zeros((0, count, 2), dtype=np.float32), np.zeros((0, count), dtype=np.float32))
        keypoints, scores = (np.concatenate(column) for column in zip(empty, *predictions, strict=True))
        ends = np.cumsum([len(image_boxes) for image_boxes in checked_boxes], dtype=np.intp)
        per_image = zip(np.split(keypoints, ends)[:-1], np.split(scores, ends)[:-1], checked_boxes, strict=True)
        return [Poses(*columns, skeleton=self.skeleton) for columns in per_image]


Item = TypeVar("Item")


def _split(items: Sequence[Item], size: int) -> Iterable[Sequence[Item]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _boxes_per_image(boxes: Any, count: int) -> Sequence[Any]:
    if boxes is None or (isinstance(boxes, str) and boxes == WHOLE_IMAGE):
        return [boxes] * count
    if not isinstance(boxes, (Sequence, np.ndarray)) or isinstance(boxes, str) or len(boxes) != count:
        raise DataError(f"predictor: expected one array of boxes (N, 4) for each of {count} images, got {boxes!r:.80}")
    return list(boxes)
