"""Everybody in an image: a detector's boxes, the model's keypoints, duplicates removed."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pose.images import Image
from pose.inference.detectors import Detector
from pose.inference.duplicates import distinct_persons
from pose.inference.search import search_person

if TYPE_CHECKING:
    from pose.inference.poses import Poses
    from pose.inference.predictor import CropPredictor


def predict_everybody(predictor: "CropPredictor", images: Sequence[Image], detector: Detector | None) -> "list[Poses]":
    """Predict the keypoints of all persons of images.

    Args:
        predictor: the pose model.
        images: (H, W, 3) uint8 BGR each.
        detector: finds the persons; without one the pose model itself finds one person.
    """
    if detector is None:
        nobody = np.zeros((0, 4))
        found = [search_person(image, predictor, predictor) for image in images]
        return [
            predictor.predict_batch([image], [nobody])[0] if person is None else person
            for image, person in zip(images, found, strict=True)
        ]
    detections = detector(images)
    predictions = predictor.predict_batch(images, [in_image.bboxes_xywh for in_image in detections])
    results = []
    for poses, (_, box_scores) in zip(predictions, detections, strict=True):
        scored = replace(poses, bbox_scores=box_scores)
        sigmas = predictor.skeleton.sigmas
        results.append(scored[distinct_persons(scored.keypoints, scored.bboxes_xywh, scored.person_scores, sigmas)])
    return results
