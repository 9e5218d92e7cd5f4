"""Which result belongs to which annotated person, for the analysis of errors.

Pairs are matched from an OKS of 0.1, so that badly located persons are matched too (Ronchi and Perona, "Benchmarking
and Error Diagnosis in Multi-Instance Pose Estimation", ICCV 2017). COCO matches in the order of the scores. Here the
pair with the highest OKS comes first: in the order of the scores a result with an OKS of 0.1 could take the person of a
better result.
"""

from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO

from pose.evaluation.coco_ap import Record, make_evaluator
from pose.evaluation.coco_results import Result
from pose.evaluation.keypoint_eval import KeypointEval
from pose.geometry import Array

MATCH_OKS = 0.1
"""A result with a lower OKS with every person is a background error."""
NOBODY = -1


@dataclass(frozen=True)
class AnnotatedPersons:
    """The P evaluated persons: no crowds, at least one labeled keypoint.

    Attributes:
        ids: (P,) ids in the `COCO` object.
        image_ids: (P,).
        keypoints_image: (P, K, 2) in image pixels.
        labeled: (P, K) bool.
        areas: (P,) annotated areas in square pixels, the scale of OKS.
        bboxes_xywh: (P, 4) in image pixels.
    """

    ids: NDArray[np.int64]
    image_ids: NDArray[np.int64]
    keypoints_image: Array
    labeled: NDArray[np.bool_]
    areas: Array
    bboxes_xywh: Array

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class EvaluatedResults:
    """The R evaluated results: the 20 with the highest scores of an image, without those of ignored persons.

    COCO ignores crowds and persons without keypoints. A result belongs to one of them if it has no match, and its OKS
    with one is at least `MATCH_OKS` and at least that with every evaluated person.

    Attributes:
        rows: (R,) index in the list of results.
        image_ids: (R,).
        keypoints_image: (R, K, 2) in image pixels.
        keypoint_scores: (R, K) third numbers of the keypoints.
        scores: (R,).
        person: (R,) index of the matched person, or `NOBODY`.
        oks: (R,) OKS with the matched person; for results without a match the highest OKS with any person.
        nearest: (R,) index of the person with the highest OKS if that is at least `MATCH_OKS`, or `NOBODY`.
        highest_oks: (R,) the highest OKS with any person of the image, 0 if there is none.
    """

    rows: NDArray[np.intp]
    image_ids: NDArray[np.int64]
    keypoints_image: Array
    keypoint_scores: Array
    scores: Array
    person: NDArray[np.intp]
    oks: Array
    nearest: NDArray[np.intp]
    highest_oks: Array

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def is_matched(self) -> NDArray[np.bool_]:
        """(R,) whether the result has a person."""
        return np.asarray(self.person != NOBODY)

    @property
    def is_background(self) -> NDArray[np.bool_]:
        """(R,) whether the OKS with every person is below `MATCH_OKS`."""
        return np.asarray(self.nearest == NOBODY)

    @property
    def is_duplicate(self) -> NDArray[np.bool_]:
        """(R,) whether the result is near a person (OKS of at least `MATCH_OKS`), but others are matched to it."""
        return ~self.is_matched & ~self.is_background


@dataclass(frozen=True)
class Match:
    """Persons, results, and the matches of both.

    Attributes:
        persons: evaluated persons.
        results: evaluated results.
        result_of_person: (P,) index of the matched result, or `NOBODY`.
    """

    persons: AnnotatedPersons
    results: EvaluatedResults
    result_of_person: NDArray[np.intp]


def match_results(ground_truth: COCO, results: Sequence[Result], sigmas: Sequence[float], category_id: int) -> Match:
    """Match results to persons, each at most once, the pair with the highest OKS first; see the module.

    Args:
        ground_truth: persons, from `pose.evaluation.coco_ap.load_ground_truth`.
        results: COCO keypoint results, all of the category.
        sigmas: K OKS constants.
        category_id: category of the persons.
    """
    persons = _persons(ground_truth, len(sigmas))
    row_of_id = {int(person_id): row for row, person_id in enumerate(persons.ids)}
    columns: list[tuple[int, int, float, int, float]] = []
    if results:
        evaluator = _evaluate(ground_truth, results, sigmas, category_id)
        for image in evaluator.evalImgs:
            if image is not None and image["dtIds"]:
                columns += _image_rows(evaluator, image, row_of_id, category_id)
    rows, person, matched_oks, nearest, highest = np.array(columns, dtype=np.float64).reshape(-1, 5).T
    rows, person, nearest = rows.astype(np.intp), person.astype(np.intp), nearest.astype(np.intp)
    xyv = np.array([results[row]["keypoints"] for row in rows], dtype=np.float64).reshape(len(rows), len(sigmas), 3)
    evaluated = EvaluatedResults(
        rows,
        np.array([results[row]["image_id"] for row in rows], dtype=np.int64),
        xyv[..., :2],
        xyv[..., 2],
        np.array([results[row]["score"] for row in rows], dtype=np.float64),
        person,
        matched_oks,
        nearest,
        highest,
    )
    result_of_person = np.full(len(persons), NOBODY)
    matched = np.flatnonzero(evaluated.is_matched)
    result_of_person[person[matched]] = matched
    return Match(persons, evaluated, result_of_person)


def _persons(ground_truth: COCO, num_keypoints: int) -> AnnotatedPersons:
    rows = [row for row in ground_truth.dataset["annotations"] if row["num_keypoints"] and not row["iscrowd"]]
    xyv = np.array([row["keypoints"] for row in rows], dtype=np.float64).reshape(len(rows), num_keypoints, 3)
    return AnnotatedPersons(
        np.array([row["id"] for row in rows], dtype=np.int64),
        np.array([row["image_id"] for row in rows], dtype=np.int64),
        xyv[..., :2],
        xyv[..., 2] > 0,
        np.array([row["area"] for row in rows], dtype=np.float64),
        np.array([row["bbox"] for row in rows], dtype=np.float64).reshape(len(rows), 4),
    )


def _evaluate(ground_truth: COCO, results: Sequence[Result], sigmas: Sequence[float], category_id: int) -> KeypointEval:
    with redirect_stdout(StringIO()):
        evaluator = make_evaluator(ground_truth, results, sigmas, sorted(ground_truth.getImgIds()), category_id)
        evaluator.params.iouThrs = np.array([MATCH_OKS])
        evaluator.params.areaRng, evaluator.params.areaRngLbl = evaluator.params.areaRng[:1], ["all"]
        evaluator.evaluate()
    return evaluator


def _image_rows(
    evaluator: KeypointEval, image: Record, row_of_id: dict[int, int], category_id: int
) -> list[tuple[int, int, float, int, float]]:
    """Return row, person, OKS, nearest person and highest OKS of the results of an image that are not ignored.

    COCO's matrix of OKS has the results in the order of ``dtIds``, and the persons in that of the annotation file.
    """
    key = image["image_id"], category_id
    people = [row_of_id.get(person["id"], NOBODY) for person in evaluator._gts[key]]
    evaluated, ignored = (np.flatnonzero((np.array(people) != NOBODY) == wanted) for wanted in (True, False))
    similarities = np.asarray(evaluator.ious[key]).reshape(len(image["dtIds"]), len(people))
    own = similarities[:, evaluated]
    match = match_pairs(own)
    highest, highest_ignored = own.max(axis=1, initial=0), similarities[:, ignored].max(axis=1, initial=0)
    rows = []
    for index, result_id in enumerate(image["dtIds"]):
        column = int(match[index])
        if column == NOBODY and highest_ignored[index] >= max(MATCH_OKS, highest[index]):
            continue
        best = float(highest[index])
        person = people[evaluated[column]] if column != NOBODY else NOBODY
        nearest = people[evaluated[own[index].argmax()]] if best >= MATCH_OKS else NOBODY
        rows.append((result_id - 1, person, best if column == NOBODY else float(own[index, column]), nearest, best))
    return rows


def match_pairs(similarities: Array) -> NDArray[np.intp]:
    """Match rows to columns one to one, highest similarity first, from `MATCH_OKS`; first rows win ties.

    Args:
        similarities: (R, P) OKS of an image.

    Returns:
        (R,) column of each row, or `NOBODY`.
    """
    match = np.full(len(similarities), NOBODY)
    free = np.ones(similarities.shape[1], dtype=bool)
    for row, column in zip(
        *np.unravel_index(np.argsort(-similarities, axis=None, kind="stable"), similarities.shape), strict=True
    ):
        if similarities[row, column] < MATCH_OKS:
            break
        if match[row] == NOBODY and free[column]:
            match[row], free[column] = column, False
    return match
