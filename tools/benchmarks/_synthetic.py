"""Random people and predictions, about as many as COCO val2017 and its usual detector boxes have.

For benchmarks that need no pixels. Each person is predicted two or three times with varying error, so that some
predictions are duplicates and AP is between 0 and 1.
"""

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pose.cli.arguments import positive_count
from pose.evaluation.coco_results import Predictions
from pose.geometry import Array
from pose.skeleton import COCO

IMAGES, BOXES, ANNOTATIONS = 5_000, 104_125, 11_004
"""Of val2017; fewer images get proportionally fewer boxes and annotations."""
IMAGES_WITH_PEOPLE, WITH_KEYPOINTS, CROWDS = 0.54, 0.58, 0.02
"""Fractions: of the images; of the annotations."""
BODY_FRACTION = 0.6
"""Fraction of a person's box that the person covers."""
IMAGE_WH = (640, 480)
"""Width and height of all images in pixels."""
HEIGHTS = (30, 400)
"""Range of the box heights in pixels."""
BOXES_PER_PERSON = 2.5
"""Average number of predictions per person."""


def add_images_argument(parser: argparse.ArgumentParser, default: int) -> None:
    """Add ``--pictures``."""
    parser.add_argument(
        "--pictures",
        dest="images",
        type=positive_count,
        default=default,
        help=f"number of synthetic images (default: {default})",
    )


def synthetic_people(images: int, rng: np.random.Generator) -> tuple[dict[str, Any], Predictions]:
    """Return COCO keypoint annotations for images with ids 1, 2, ..., and predictions of 17 keypoints."""
    boxes, annotated = (round(count / IMAGES * images) for count in (BOXES, ANNOTATIONS))
    people = round(boxes / BOXES_PER_PERSON)
    image_ids = rng.integers(1, images + 1, people)
    image_ids[:annotated] = rng.integers(1, 1 + round(images * IMAGES_WITH_PEOPLE), annotated)
    height = np.exp(rng.uniform(np.log(HEIGHTS[0]), np.log(HEIGHTS[1]), people))
    size = np.column_stack([height * rng.uniform(0.3, 0.8, people), height])
    corner = rng.uniform(0, np.array(IMAGE_WH) - size)
    keypoints = corner[:, None] + size[:, None] * rng.uniform(0, 1, (people, len(COCO.names), 2))

    person = rng.permutation(np.arange(boxes) % people)
    error = np.exp(rng.normal(-3.2, 0.7, boxes)) * np.sqrt(size.prod(axis=1))[person]
    predictions = Predictions(
        image_ids[person],
        (keypoints[person] + error[:, None, None] * rng.normal(size=(boxes, *keypoints.shape[1:]))).astype(np.float32),
        rng.uniform(0, 1, (boxes, keypoints.shape[1])).astype(np.float32),
        np.where(person < annotated, rng.uniform(0.2, 1, boxes), rng.uniform(0, 0.6, boxes)),
        size.prod(axis=1)[person] * 1.25**2,
    )
    labeled = rng.random(annotated) < WITH_KEYPOINTS
    visibility = rng.integers(0, 3, (annotated, keypoints.shape[1])) * labeled[:, None]
    annotations = [
        annotation(n + 1, int(image_ids[n]), np.concatenate([corner[n], size[n]]), keypoints[n], visibility[n])
        for n in range(annotated)
    ]
    for crowd in rng.permutation(annotated)[: round(annotated * CROWDS)]:
        annotations[crowd]["iscrowd"] = 1
    return annotation_file(images, annotations), predictions


def annotation_file(images: int, annotations: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the content of a COCO annotation file for images with ids 1, 2, ... of size `IMAGE_WH`."""
    width, height = IMAGE_WH
    names = ((n, f"{n:012d}.jpg") for n in range(1, images + 1))
    return {
        "images": [{"id": n, "file_name": name, "width": width, "height": height} for n, name in names],
        "categories": [{"id": 1, "name": "person", "keypoints": list(COCO.names)}],
        "annotations": list(annotations),
    }


def annotation(
    person_id: int,
    image_id: int,
    bbox_xywh: Array,
    keypoints_image: Array,
    visibility: NDArray[np.integer],
) -> dict[str, Any]:
    """Return a person as an entry of a COCO annotation file.

    Args:
        person_id: annotation id.
        image_id: of the person's image.
        bbox_xywh: (4,) box in image pixels.
        keypoints_image: (K, 2) x, y in image pixels.
        visibility: (K,) COCO's 0, 1 or 2.
    """
    xyv = np.column_stack([keypoints_image * (visibility > 0)[:, None], visibility]).round(2)
    return {
        "id": person_id,
        "image_id": image_id,
        "category_id": 1,
        "bbox": bbox_xywh.round(2).tolist(),
        "area": float(BODY_FRACTION * bbox_xywh[2] * bbox_xywh[3]),
        "iscrowd": 0,
        "num_keypoints": int((visibility > 0).sum()),
        "keypoints": xyv.ravel().tolist(),
    }
