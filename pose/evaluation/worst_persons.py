"""The persons that lose most keypoints, for display."""

import numpy as np
from numpy.typing import NDArray

from pose.evaluation.error_classes import CLASS_NAMES, GOOD, count_classes
from pose.evaluation.matching import NOBODY, Match


def worst_persons(match: Match, count: int) -> list[tuple[int, int]]:
    """Return person and result of the persons that lose most, worst first.

    The loss is the number of labeled keypoints times (1 - OKS), 1 for each keypoint that is entirely wrong. A person
    without a matched result is shown with the best of the free results whose mean keypoint lies in its box; if there is
    none, it is left out: the figures count it as a false negative, and there is nothing to compare.
    """
    labeled = match.persons.labeled.sum(axis=1)
    pairs = []
    for person, result in enumerate(match.result_of_person.tolist()):
        if result != NOBODY:
            pairs.append((float(labeled[person] * (1 - match.results.oks[result])), person, result))
        elif (free := _free_result(match, person)) != NOBODY:
            pairs.append((float(labeled[person]), person, free))
    return [(person, result) for _, person, result in sorted(pairs, key=lambda pair: -pair[0])[:count]]


def _free_result(match: Match, person: int) -> int:
    results, (x, y, w, h) = match.results, match.persons.bboxes_xywh[person]
    center = results.keypoints_image.mean(axis=1)
    inside = (center[:, 0] >= x) & (center[:, 0] <= x + w) & (center[:, 1] >= y) & (center[:, 1] <= y + h)
    free = np.flatnonzero(inside & ~results.is_matched & (results.image_ids == match.persons.image_ids[person]))
    return int(free[results.highest_oks[free].argmax()]) if len(free) else NOBODY


def describe_classes(classes: NDArray[np.int8]) -> str:
    """Return the errors of one matched result in words, such as ``3 jitter, 1 swap``."""
    counts = {name: count for name, count in count_classes(classes).items() if count and name != CLASS_NAMES[GOOD]}
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "no error"
