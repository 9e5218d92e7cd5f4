"""Error classes of keypoints, scores and persons, and the AP that each class costs.

Source: Ronchi and Perona, "Benchmarking and Error Diagnosis in Multi-Instance Pose Estimation", ICCV 2017.

The similarity of a predicted keypoint with an annotated one is COCO's, exp(-d^2 / (2 s^2 (2 sigma)^2)), with the area
s^2 of the person and the sigma of the keypoint that are annotated there. Every labeled keypoint of a matched person
(`pose.evaluation.matching`) has one class:

- **good**: similarity of at least .85 with its own annotation. Two annotators differ about as much.
- **jitter**: at least .5 and below .85: the right place, not exactly.
- **inversion**: below .5, and at least .5 with another keypoint of the same person: the body parts are confused.
- **swap**: neither of these, and at least .5 with any keypoint of another person: the persons are confused.
- **miss**: none of these; below .5 with every labeled keypoint of every person of the image.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pose.evaluation.coco_results import Result
from pose.evaluation.matching import NOBODY, AnnotatedPersons, EvaluatedResults, Match
from pose.geometry import Array

GOOD, JITTER, INVERSION, SWAP, MISS = range(5)
CLASS_NAMES = ("good", "jitter", "inversion", "swap", "miss")
NOT_EVALUATED = -1
"""Class of keypoints that are not labeled, and of all keypoints of results without a person."""
CORRECTION_ORDER = (MISS, SWAP, INVERSION, JITTER)
"""Order in which the classes are corrected one after the other, as in the paper."""

GOOD_SIMILARITY = 0.85
NEAR_SIMILARITY = 0.5


@dataclass(frozen=True)
class KeypointErrors:
    """Classes of the keypoints of R results.

    Attributes:
        classes: (R, K) `GOOD` to `MISS`, or `NOT_EVALUATED`.
        similarity: (R, K) similarity with the own annotation; NaN where not evaluated.
        confused_with: (R, K) for inversion and swap the index of the annotated keypoint with the highest similarity,
            else -1.
    """

    classes: NDArray[np.int8]
    similarity: Array
    confused_with: NDArray[np.intp]


def classify_keypoints(match: Match, sigmas: Sequence[float]) -> KeypointErrors:
    """Return the class of every keypoint of every evaluated result, as the module defines them."""
    persons, results = match.persons, match.results
    shape = results.keypoint_scores.shape
    errors = KeypointErrors(
        np.full(shape, NOT_EVALUATED, dtype=np.int8), np.full(shape, np.nan), np.full(shape, -1, dtype=np.intp)
    )
    for result in np.flatnonzero(results.is_matched):
        own_person = int(results.person[result])
        in_image = np.flatnonzero(persons.image_ids == persons.image_ids[own_person])
        similarity = keypoint_similarity(results.keypoints_image[result], persons, in_image, sigmas)
        labeled = persons.labeled[own_person]
        own_row = int(np.flatnonzero(in_image == own_person)[0])
        own = np.diagonal(similarity[:, own_row])
        same_person = np.where(np.eye(len(labeled), dtype=bool), 0, similarity[:, own_row])
        others = np.delete(similarity, own_row, axis=1).max(axis=1, initial=0)
        classes = _classes(own, same_person.max(axis=1), others.max(axis=1))
        errors.classes[result, labeled] = classes[labeled]
        errors.similarity[result, labeled] = own[labeled]
        nearest = np.where(classes == INVERSION, same_person.argmax(axis=1), others.argmax(axis=1))
        confused = labeled & np.isin(classes, (INVERSION, SWAP))
        errors.confused_with[result, confused] = nearest[confused]
    return errors


def keypoint_similarity(
    keypoints_image: Array, persons: AnnotatedPersons, rows: NDArray[np.intp], sigmas: Sequence[float]
) -> Array:
    """Return the (K, Q, K) similarity of predicted keypoints with those of the Q persons ``rows``; 0 if not labeled.

    Args:
        keypoints_image: (K, 2) of one result.
        persons: annotated persons.
        rows: (Q,) indices of persons.
        sigmas: K OKS constants.
    """
    offsets = keypoints_image[:, None, None] - persons.keypoints_image[rows]
    scale = 2 * (persons.areas[rows, None] + np.spacing(1)) * (2 * np.asarray(sigmas)) ** 2
    return np.where(persons.labeled[rows], np.exp(-(offsets**2).sum(axis=-1) / scale), 0)


def _classes(own: Array, same_person: Array, other_persons: Array) -> NDArray[np.int8]:
    """Return (K,) classes from the highest similarities (K,) with each kind of annotated keypoint."""
    conditions = [
        own >= GOOD_SIMILARITY,
        own >= NEAR_SIMILARITY,
        same_person >= NEAR_SIMILARITY,
        other_persons >= NEAR_SIMILARITY,
    ]
    return np.select(conditions, [GOOD, JITTER, INVERSION, SWAP], MISS).astype(np.int8)


def count_classes(classes: NDArray[np.int8]) -> dict[str, int]:
    """Return the number of keypoints of each class by name."""
    return {name: int((classes == index).sum()) for index, name in enumerate(CLASS_NAMES)}


# --- corrections


def correct_keypoints(
    results: Sequence[Result], match: Match, errors: KeypointErrors, classes: Collection[int]
) -> list[Result]:
    """Return the results with the keypoints of some error classes moved to their annotated positions.

    Args:
        results: the list that was matched.
        match: of these results.
        errors: of this match.
        classes: such as ``{JITTER}``.
    """
    corrected = list(results)
    wrong = np.isin(errors.classes, list(classes))
    for index in np.flatnonzero(wrong.any(axis=1)):
        row, moved = int(match.results.rows[index]), wrong[index]
        keypoints = np.array(results[row]["keypoints"], dtype=np.float64).reshape(-1, 3)
        keypoints[moved, :2] = match.persons.keypoints_image[match.results.person[index], moved]
        corrected[row] = {**results[row], "keypoints": keypoints.ravel().tolist()}
    return corrected


def correct_scores(results: Sequence[Result], match: Match) -> list[Result]:
    """Return the results with optimal scores: the highest OKS with any person of the image.

    Scores that rank results by their OKS give the highest AP that these keypoints can have. Results that COCO does not
    evaluate keep their place behind all others.
    """
    optimal = np.full(len(results), -1.0)
    optimal[match.results.rows] = match.results.highest_oks
    return [{**result, "score": score} for result, score in zip(results, optimal.tolist(), strict=True)]


def remove_false_positives(results: Sequence[Result], match: Match) -> list[Result]:
    """Return the results without those that have no person: background errors and duplicates."""
    removed = set(match.results.rows[~match.results.is_matched].tolist())
    return [result for row, result in enumerate(results) if row not in removed]


def missed_person_ids(match: Match) -> set[int]:
    """Return the ids of the false negatives: persons without a result."""
    return set(match.persons.ids[match.result_of_person == NOBODY].tolist())


def count_scoring_errors(results: EvaluatedResults) -> int:
    """Return the number of persons with a scoring error.

    A person has one if, of all results nearest to it, the one with the highest score has not the highest OKS.
    """
    near = np.flatnonzero(~results.is_background)
    by_score = near[np.lexsort((-results.highest_oks[near], -results.scores[near], results.nearest[near]))]
    persons, first = np.unique(results.nearest[by_score], return_index=True)
    best = np.zeros(int(persons.max(initial=-1)) + 1)
    np.maximum.at(best, results.nearest[near], results.highest_oks[near])
    return int((results.highest_oks[by_score[first]] < best[persons]).sum())
