"""Explain an AP of 0 or -1 in one line."""

import numpy as np

from pose.config.pose import Config
from pose.engine.evaluate import TestSet
from pose.engine.truth import Closest, Truth
from pose.evaluation.coco_ap import Metrics
from pose.evaluation.coco_results import Predictions
from pose.geometry import iou

MATCH_IOU = 0.1
"""A box with a lower intersection over union does not show the person."""
MIN_AREA_SHARE = 0.02
"""Annotated areas below this share of their boxes are not areas of the persons."""
COUNTED_OKS = 0.5
"""OKS from which COCO counts a prediction as correct, at its lowest threshold."""

_OTHER_LOSS = ", or with train.loss=cross_entropy, which leaves the initial plateau sooner"


def explain_ap(
    metrics: Metrics, predictions: Predictions, closest: Closest, test_set: TestSet, truth: Truth, config: Config
) -> str | None:
    """Return the most likely reason for an AP of 0 or -1 and what to do, in one line; None for any other AP.

    Args:
        metrics: COCO's metrics of the predictions.
        predictions: of all boxes of the test set.
        closest: see `pose.engine.truth.find_closest`.
        test_set: boxes and annotations.
        truth: annotated persons.
        config: its test section is used.
    """
    if metrics.AP > 0:
        return None
    return f"AP {metrics.AP:g}: {_reason(metrics, predictions, closest, test_set, truth, config)}"


def _reason(
    metrics: Metrics, predictions: Predictions, closest: Closest, test_set: TestSet, truth: Truth, config: Config
) -> str:
    persons, where = truth.persons, test_set.annotations
    if metrics.AP < 0:
        return (
            f"no annotated person counts in {where}: num_keypoints is 0, iscrowd 1, or the area above 1e10; "
            "run dyconv-pose check-data"
        )
    if not len(predictions):
        return f"there are no {test_set.boxes}; lower test.box_threshold, or test with ground-truth boxes"
    if (closest.rows < 0).all():
        return (
            f"none of the {len(np.unique(persons.image_ids))} images with annotated persons has one of the "
            f"{test_set.boxes}: its image ids are not those of {where}"
        )
    if _boxes_miss(truth, test_set):
        return (
            f"the {test_set.boxes} do not lie on the annotated persons; are they x1, y1, x2, y2 instead of x, y, "
            "width, height, or of images of another size?"
        )
    shares = truth.areas / persons.bboxes_xywh[:, 2:].prod(axis=1)
    if np.median(shares) < MIN_AREA_SHARE:
        return (
            f"the annotated areas are {np.median(shares):.1e} of the boxes (median), so that every distance counts as "
            "large; set 'area' in square pixels"
        )
    highest, threshold = float(predictions.keypoint_scores.max()), config.test.keypoint_threshold
    if highest <= threshold:
        return (
            f"no keypoint score is above test.keypoint_threshold {threshold:g} (highest {highest:.2g}): the heatmaps "
            f"are still flat; train longer{'' if config.train.loss == 'cross_entropy' else _OTHER_LOSS}"
        )
    best = float(closest.oks.max())
    if best < COUNTED_OKS:
        return (
            f"the best OKS is {best:.2f} (median {np.median(closest.oks):.2f}), and COCO counts from {COUNTED_OKS}: "
            "train longer; if the loss no longer falls, look at the targets in train_batch.jpg"
        )
    right = int((closest.oks >= COUNTED_OKS).sum())
    return f"{right} of {len(persons)} persons are right, but wrong predictions have higher scores: train longer"


def _boxes_miss(truth: Truth, test_set: TestSet) -> bool:
    """Return whether no annotated person overlaps a box of its image."""
    persons, boxes = truth.persons, test_set.persons
    return not any(
        (iou(bbox, boxes.bboxes_xywh[boxes.image_ids == image_id]) > MATCH_IOU).any()
        for bbox, image_id in zip(persons.bboxes_xywh, persons.image_ids, strict=True)
    )
