"""Images of a run: training crops as augmented with their targets, and predictions beside the annotations."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from pose.config.pose import STRIDE, InputConfig
from pose.datasets.coco import PersonRecord
from pose.datasets.samples import PoseSample, TrainingSamples
from pose.engine.truth import Closest, Truth
from pose.evaluation.coco_results import Predictions
from pose.geometry import Array, box_to_view, transform_points, view_to_matrix
from pose.heatmap import decode
from pose.images import Image, crop, read_image
from pose.inference.poses import Poses
from pose.inference.visualize import draw_label, draw_poses, tile_images
from pose.skeleton import Skeleton

CELL_HEIGHT = 256
TRAIN_SAMPLES = 16
WORST, TYPICAL, VAL_COLUMNS = 6, 6, 3
HEAT_COLOR = (225, 60, 255)
"""Color of the targets, BGR: magenta, unlike the colors of the keypoints and rare in photographs."""
HEAT_OPACITY = 0.55
LABEL_HEIGHT = 9
"""Height of labels in pixels."""
MIN_LABELED = 3
"""Labeled keypoints of a person that is drawn, if the keypoint set has as many."""
ANY_SCORE = float(np.finfo(np.float32).tiny)
"""Threshold of drawn keypoints: those of a low score too, as OKS counts them."""


def train_batch_sheet(dataset: TrainingSamples, keys: Sequence[tuple[int, int]]) -> Image:
    """Draw the first samples of a batch: each crop as the model gets it, its target heatmaps and its keypoints.

    Args:
        dataset: the training set.
        keys: (epoch, row) of each sample, as a batch of the sampler names them.
    """
    tiles = [draw_sample(dataset[key], dataset.skeleton) for key in keys[:TRAIN_SAMPLES]]
    return tile_images(tiles, max(4, len(tiles) // 2))


def draw_sample(sample: PoseSample, skeleton: Skeleton) -> Image:
    """Draw a training sample (h, w, 3) BGR, scaled to `CELL_HEIGHT`: crop, target heatmaps, keypoints with a target."""
    height, width = sample.image.shape[:2]
    cell_wh = round(width * CELL_HEIGHT / height), CELL_HEIGHT
    cell = cv2.resize(sample.image.numpy()[..., ::-1], cell_wh, interpolation=cv2.INTER_LINEAR)
    heatmaps = sample.heatmaps.numpy() * (sample.weights.numpy() > 0)[:, None, None]
    strongest = heatmaps.max(axis=0)
    heat = cv2.resize(strongest / max(strongest.max(), 1e-9), cell_wh, interpolation=cv2.INTER_LINEAR)[..., None]
    cell = (cell + (np.array(HEAT_COLOR) - cell) * heat * HEAT_OPACITY).clip(0, 255).astype(np.uint8)
    keypoints_heatmap, _ = decode(heatmaps[None])
    keypoints = keypoints_heatmap * STRIDE * CELL_HEIGHT / height
    return _draw(cell, keypoints[0], sample.weights.numpy(), skeleton, ANY_SCORE, str(int(sample.id)))


def validation_sheet(
    predictions: Predictions, closest: Closest, truth: Truth, skeleton: Skeleton, input_config: InputConfig
) -> Image:
    """Draw the annotation and the closest prediction of the worst and of typical persons, one per image, with OKS.

    Args:
        predictions: of the validation set.
        closest: see `pose.engine.truth.find_closest`.
        truth: annotated persons.
        skeleton: keypoint set.
        input_config: aspect ratio and padding of the crops.
    """
    worst, typical = choose_persons(closest.oks, truth)
    tiles = []
    for group, rows in (("worst", worst), ("typical", typical)):
        for row in rows:
            caption = f"{group}, OKS {closest.oks[row]:.2f}"
            tiles.append(
                _draw_pair(predictions, int(closest.rows[row]), truth, int(row), skeleton, input_config, caption)
            )
    return tile_images(tiles, VAL_COLUMNS)


def choose_persons(oks: Array, truth: Truth) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the rows of the `WORST` and `TYPICAL` persons: lowest OKS, and closest to the median; one per image.

    Persons with few labeled keypoints are left out, and of equally wrong ones the large come first.
    """
    persons = truth.persons
    labeled = (persons.visibility > 0).sum(axis=1)
    enough = np.flatnonzero(labeled >= min(MIN_LABELED, persons.visibility.shape[1], labeled.max()))
    order = enough[np.lexsort((-truth.areas[enough], oks[enough].round(2)))]
    worst = _one_per_image(order, persons.image_ids)[:WORST]
    others = np.setdiff1d(enough, worst)
    from_median = np.abs(oks[others] - np.median(oks[enough]))
    return worst, _one_per_image(others[np.argsort(from_median, kind="stable")], persons.image_ids)[:TYPICAL]


def _one_per_image(rows: NDArray[np.intp], image_ids: NDArray[np.int64]) -> NDArray[np.intp]:
    """Return the first row of each image, in the same order."""
    _, first = np.unique(image_ids[rows], return_index=True)
    return np.asarray(rows[np.sort(first)])


def draw_annotation(record: PersonRecord, skeleton: Skeleton, input_config: InputConfig) -> Image:
    """Draw an annotated person in its upright crop, (h, w, 3) BGR, `CELL_HEIGHT` high."""
    cell, image_to_cell = _person_cell(record, input_config)
    keypoints = transform_points(record.keypoints_image, image_to_cell)
    return _draw(cell, keypoints, record.visibility > 0, skeleton, ANY_SCORE, "annotated")


def _person_cell(record: PersonRecord, input_config: InputConfig) -> tuple[Image, Array]:
    """Return the upright crop of a person (h, w, 3) BGR, `CELL_HEIGHT` high, and the (2, 3) matrix of image to crop."""
    cell_wh = round(CELL_HEIGHT * input_config.aspect_ratio), CELL_HEIGHT
    view = box_to_view(record.bbox_xywh, input_config.aspect_ratio, input_config.padding)
    image_to_cell = view_to_matrix(view, cell_wh)
    cell = crop(read_image(record.image_path), image_to_cell, cell_wh)[..., ::-1]
    return np.ascontiguousarray(cell), image_to_cell


def _draw_pair(
    predictions: Predictions,
    predicted: int,
    truth: Truth,
    row: int,
    skeleton: Skeleton,
    input_config: InputConfig,
    caption: str,
) -> Image:
    """Draw one person twice, side by side: as annotated, and as predicted (row -1: not at all)."""
    record = truth.persons.record(row)
    cell, image_to_cell = _person_cell(record, input_config)
    annotated = transform_points(record.keypoints_image, image_to_cell)
    left = draw_annotation(record, skeleton, input_config)
    if predicted < 0:
        right = _draw(cell, annotated, np.zeros(len(annotated)), skeleton, ANY_SCORE, f"{caption}: no box")
    else:
        keypoints = transform_points(predictions.keypoints_image[predicted], image_to_cell)
        scores = predictions.keypoint_scores[predicted] * (record.visibility > 0)  # those that OKS compares
        right = _draw(cell, keypoints, scores, skeleton, ANY_SCORE, caption)
    return np.hstack([left, right])


def _draw(
    cell: Image, keypoints: Array, scores: NDArray[np.generic], skeleton: Skeleton, threshold: float, label: str
) -> Image:
    """Draw one person and a label on a copy of a cell."""
    poses = Poses(
        np.asarray(keypoints, dtype=np.float32)[None],
        np.asarray(scores, dtype=np.float32)[None],
        np.zeros((1, 4), dtype=np.float32),
    )
    drawn = draw_poses(cell, poses, skeleton, keypoint_threshold=threshold, boxes=False)
    draw_label(drawn, label, (0, len(drawn)), LABEL_HEIGHT)
    return drawn
