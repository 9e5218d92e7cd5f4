"""From the outputs of a detector to person boxes in input pixels. Each function knows one output format."""

from functools import lru_cache

import numpy as np

from pose.errors import MediaError
from pose.geometry import Array, Float32

PERSON_CLASS = 0
"""Index of the person among the 80 COCO classes, without a background class."""
PERSON_LABEL_TORCHVISION = 1
"""Label of the person among COCO's category ids, as torchvision numbers them; 0 is the background."""
STRIDES = (8, 16, 32)
"""Strides of YOLOX's three output grids, in the order of its output rows (Ge et al. 2021, section 2)."""
MAX_LOG_SIZE = 10.0
"""Maximum of YOLOX's raw box sizes, log(size / stride); a decoded output has sizes in pixels, far above it."""


def decode_yolox(rows: Float32, input_wh: tuple[int, int]) -> tuple[Array, Array]:
    """Decode YOLOX's raw output to boxes and person scores.

    A row holds the offset of the box center from its grid cell and the log of the box size, both in strides, then the
    objectness and the class scores. The person score is objectness times class score.

    Args:
        rows: (1, A, 5 + classes).
        input_wh: width and height of the model's input.

    Returns:
        bboxes_input (A, 4) xyxy in input pixels, and scores (A,).

    Raises:
        MediaError: the number of rows does not match the grids of the input, or the boxes are decoded already.
    """
    cells, strides = _grid(input_wh)
    if rows.ndim != 3 or rows.shape[:2] != (1, len(cells)) or rows.shape[2] < 6:
        raise MediaError(
            f"detector: expected YOLOX's raw output (1, {len(cells)}, 5 + classes) for a {input_wh[0]}x{input_wh[1]} "
            f"input, got {rows.shape}; export it without decoding. Without onnxruntime (pip install "
            "'dyconv-pose[export]') only 416x416 can be read"
        )
    values = rows[0, :, : 5 + PERSON_CLASS + 1].astype(np.float64)
    if values[:, 2:4].max() > MAX_LOG_SIZE:
        raise MediaError(
            "detector: expected YOLOX's raw output, got one with box sizes in pixels; export it without decoding"
        )
    center = (values[:, :2] + cells) * strides
    half_size = np.exp(values[:, 2:4]) * strides / 2
    return np.concatenate([center - half_size, center + half_size], axis=1), values[:, 4] * values[:, 5 + PERSON_CLASS]


def cell_count(input_wh: tuple[int, int]) -> int:
    """Return the number of rows of YOLOX's raw output."""
    return sum((input_wh[0] // stride) * (input_wh[1] // stride) for stride in STRIDES)


@lru_cache(maxsize=4)
def _grid(input_wh: tuple[int, int]) -> tuple[Array, Array]:
    """Return the grid cell (A, 2) and the stride (A, 1) of each output row."""
    cells, strides = [], []
    for stride in STRIDES:
        y, x = np.mgrid[: input_wh[1] // stride, : input_wh[0] // stride]
        cells.append(np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float64))
        strides.append(np.full((x.size, 1), float(stride)))
    return np.concatenate(cells), np.concatenate(strides)


def decode_dets(dets: Float32, labels: Array | None = None) -> tuple[Array, Array]:
    """Return the persons of detections with NMS done.

    Args:
        dets: (1, N, 5): xyxy and score.
        labels: (1, N) classes from 0; None if all are persons.

    Raises:
        MediaError: the outputs have another shape.
    """
    if dets.ndim != 3 or dets.shape[::2] != (1, 5) or (labels is not None and labels.shape != dets.shape[:2]):
        shapes = dets.shape if labels is None else f"{dets.shape} and {labels.shape}"
        raise MediaError(f"detector: expected dets (1, N, 5) and labels (1, N), got {shapes}; take another detector")
    persons = slice(None) if labels is None else labels[0] == PERSON_CLASS
    return dets[0, persons, :4].astype(np.float64), dets[0, persons, 4].astype(np.float64)


def decode_boxes_and_class_scores(boxes: Float32, scores: Float32) -> tuple[Array, Array]:
    """Return the boxes and person scores of detections before NMS.

    Args:
        boxes: (1, A, 4) xyxy.
        scores: (1, classes, A).

    Raises:
        MediaError: the outputs have another shape.
    """
    is_shape = boxes.ndim == scores.ndim == 3 and boxes.shape[::2] == (1, 4) and scores.shape[::2] == boxes.shape[:2]
    if not is_shape or scores.shape[1] <= PERSON_CLASS:
        raise MediaError(
            f"detector: expected boxes (1, A, 4) and scores (1, classes, A), got {boxes.shape} and {scores.shape}; "
            "take another detector"
        )
    return boxes[0].astype(np.float64), scores[0, PERSON_CLASS].astype(np.float64)


def decode_boxes_labels_scores(boxes: Float32, labels: Array, scores: Float32) -> tuple[Array, Array]:
    """Return the persons of a torchvision detector.

    Args:
        boxes: (N, 4) xyxy.
        labels: (N,) COCO category ids.
        scores: (N,).

    Raises:
        MediaError: the outputs have another shape.
    """
    if boxes.ndim != 2 or not boxes.shape[1:] == (4,) or not labels.shape == scores.shape == boxes.shape[:1]:
        raise MediaError(
            f"detector: expected boxes (N, 4), labels (N,) and scores (N,), got {boxes.shape}, {labels.shape} and "
            f"{scores.shape}; take another detector"
        )
    persons = labels == PERSON_LABEL_TORCHVISION
    return boxes[persons].astype(np.float64), scores[persons].astype(np.float64)
