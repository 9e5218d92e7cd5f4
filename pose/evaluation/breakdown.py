"""Groups of persons for the analysis of errors: by size, labeled keypoints and overlap; and PCK by keypoint."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import redirect_stdout
from io import StringIO
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO

from pose.evaluation.coco_ap import Record
from pose.evaluation.coco_results import Result
from pose.evaluation.matching import NOBODY, AnnotatedPersons, Match
from pose.geometry import Array

SIZE_EDGES = (32, 96, 192)
"""Square roots of areas in pixels; the first two are COCO's limits of medium and large persons."""
OVERLAP_IOU = 0.1
PCK_THRESHOLDS = (0.05, 0.1, 0.2)
"""Distances as fractions of the longest side of the annotated box."""

Groups = Mapping[str, NDArray[np.bool_]]
"""For each group name, which of the P persons belong to it."""


def by_size(persons: AnnotatedPersons) -> Groups:
    """Group persons by the square root of their annotated area, in pixels."""
    edges = [0, *SIZE_EDGES, np.inf]
    names = [
        f"below {SIZE_EDGES[0]} px",
        *(f"{low} to {high} px" for low, high in pairwise(SIZE_EDGES)),
        f"from {SIZE_EDGES[-1]} px",
    ]
    size = np.sqrt(persons.areas)
    return {name: (size >= edges[i]) & (size < edges[i + 1]) for i, name in enumerate(names)}


def by_labeled_keypoints(persons: AnnotatedPersons) -> Groups:
    """Group persons by the number of labeled keypoints: up to .3, .6, .9 and all of K (COCO: 5, 10, 15, 17)."""
    num_keypoints = persons.labeled.shape[1]
    edges = sorted({0, *(int(num_keypoints * share) for share in (0.3, 0.6, 0.9)), num_keypoints})
    count = persons.labeled.sum(axis=1)
    return {
        f"{low + 1} to {high}" if high > low + 1 else f"{high}": (count > low) & (count <= high)
        for low, high in pairwise(edges)
    }


def by_overlap(persons: AnnotatedPersons, ground_truth: COCO) -> Groups:
    """Group persons by the number of others in the image whose box overlaps theirs with an IoU above `OVERLAP_IOU`.

    Others are all persons that are no crowd, also those without keypoints.
    """
    boxes: dict[int, list[Record]] = {}
    for row in ground_truth.dataset["annotations"]:
        if not row["iscrowd"]:
            boxes.setdefault(row["image_id"], []).append(row)
    overlapping = np.zeros(len(persons), dtype=np.intp)
    for index, (person_id, image_id) in enumerate(zip(persons.ids, persons.image_ids, strict=True)):
        others = np.array([row["bbox"] for row in boxes[int(image_id)] if row["id"] != person_id], dtype=np.float64)
        if len(others):
            overlapping[index] = (box_iou(persons.bboxes_xywh[index], others) > OVERLAP_IOU).sum()
    return {"none": overlapping == 0, "1 or 2": (overlapping > 0) & (overlapping < 3), "3 or more": overlapping >= 3}


def box_iou(bbox_xywh: Array, others_xywh: Array) -> Array:
    """Return the (N,) intersection over union of one box (4,) with others (N, 4)."""
    low = np.maximum(bbox_xywh[:2], others_xywh[:, :2])
    high = np.minimum(bbox_xywh[:2] + bbox_xywh[2:], others_xywh[:, :2] + others_xywh[:, 2:])
    intersection = np.clip(high - low, 0, None).prod(axis=1)
    union = bbox_xywh[2:].prod() + others_xywh[:, 2:].prod(axis=1) - intersection
    return np.asarray(intersection / np.maximum(union, np.spacing(1)))


# --- subsets for AP


def with_annotations(ground_truth: COCO, annotations: Sequence[Record]) -> COCO:
    """Return the ground truth with other annotations of the same images."""
    subset = COCO()
    subset.dataset = {**ground_truth.dataset, "annotations": list(annotations)}
    with redirect_stdout(StringIO()):
        subset.createIndex()
    return subset


def without_persons(ground_truth: COCO, ids: Collection[int]) -> COCO:
    """Return the ground truth without the persons ``ids``."""
    kept = [row for row in ground_truth.dataset["annotations"] if row["id"] not in ids]
    return with_annotations(ground_truth, kept)


def only_group(
    ground_truth: COCO, results: Sequence[Result], match: Match, members: NDArray[np.bool_]
) -> tuple[COCO, list[Result]]:
    """Return the persons of a group, and the results that are nearest to one of them.

    Background errors belong to no group, so that the AP of a group shows how its own persons are located. Crowds and
    persons without keypoints stay, for COCO ignores results that match them.

    Args:
        ground_truth: all persons.
        results: the list that was matched.
        match: of these results.
        members: (P,) which persons belong to the group.
    """
    others = set(match.persons.ids[~members].tolist())
    nearest = match.results.nearest
    rows = match.results.rows[np.append(members, False)[nearest]]  # nobody is -1, the last
    return without_persons(ground_truth, others), [results[row] for row in sorted(rows.tolist())]


def only_keypoint(ground_truth: COCO, keypoint: int) -> COCO:
    """Return the ground truth with the labels of one keypoint only; persons without it are ignored, as COCO does."""
    annotations = []
    for row in ground_truth.dataset["annotations"]:
        xyv = list(row["keypoints"])
        xyv[2::3] = [v if index == keypoint else 0 for index, v in enumerate(xyv[2::3])]
        annotations.append({**row, "keypoints": xyv, "num_keypoints": int(xyv[3 * keypoint + 2] > 0)})
    return with_annotations(ground_truth, annotations)


# --- PCK


def pck(match: Match) -> Array:
    """Return the (T, K) percentage of correct keypoints (0..1) at `PCK_THRESHOLDS`; NaN where none is labeled.

    A keypoint is correct if its distance is at most the threshold times the longest side of the annotated box. All
    labeled keypoints of all evaluated persons count; those of persons without a result are wrong.
    """
    persons = match.persons
    has_result = match.result_of_person != NOBODY
    distance = np.full(persons.labeled.shape, np.inf)
    predicted = match.results.keypoints_image[match.result_of_person[has_result]]
    distance[has_result] = np.linalg.norm(predicted - persons.keypoints_image[has_result], axis=-1)
    relative = distance / np.maximum(persons.bboxes_xywh[:, 2:].max(axis=1), np.spacing(1))[:, None]
    correct = [((relative <= threshold) & persons.labeled).sum(axis=0) for threshold in PCK_THRESHOLDS]
    count = persons.labeled.sum(axis=0)
    return np.asarray(np.where(count > 0, np.array(correct) / np.maximum(count, 1), np.nan))
