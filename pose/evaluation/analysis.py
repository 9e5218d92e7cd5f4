"""Analysis of keypoint results: which errors they have, what each costs, and where they are.

`matching`, `error_classes`, `error_costs`, `breakdown` and `score_calibration` define the figures;
`pose.engine.analysis_page` shows them.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pose.errors import DataError
from pose.evaluation import breakdown
from pose.evaluation.coco_ap import evaluate, load_ground_truth, require_known_images
from pose.evaluation.coco_results import Result
from pose.evaluation.error_classes import (
    INVERSION,
    NOT_EVALUATED,
    KeypointErrors,
    classify_keypoints,
    count_classes,
)
from pose.evaluation.error_costs import Evaluation, Figures, corrections_in_turn, error_costs, number, share
from pose.evaluation.matching import NOBODY, Match
from pose.evaluation.precision import average_precision, bootstrap_ap, interval, rank_matches
from pose.evaluation.score_calibration import calibrate, rank_correlation
from pose.skeleton import Skeleton

BOOTSTRAP_ROUNDS = 1000
MAX_CONFUSIONS = 12


@dataclass(frozen=True)
class Analysis:
    """Results, their match with the annotations, and all figures.

    Attributes:
        evaluation: annotated persons and the evaluated results.
        match: persons and results.
        errors: classes of the keypoints.
        figures: see `Figures`.
    """

    evaluation: Evaluation
    match: Match
    errors: KeypointErrors
    figures: Figures


def analyse(
    annotations: Path,
    results: Sequence[Result],
    skeleton: Skeleton,
    category_id: int = 1,
    rounds: int = BOOTSTRAP_ROUNDS,
) -> Analysis:
    """Analyse COCO keypoint results.

    Args:
        annotations: COCO keypoint annotation file.
        results: of any model; other categories are ignored.
        skeleton: keypoint set.
        category_id: category of the persons.
        rounds: bootstrap resamples for the interval of AP.

    Raises:
        DataError: the annotations cannot be used, have no labeled person, or do not list an image of the results.
    """
    sigmas = skeleton.sigmas
    metrics = evaluate(annotations, results, sigmas, category_id=category_id)
    ground_truth = load_ground_truth(annotations, category_id, len(sigmas))
    own = [result for result in results if result["category_id"] == category_id]
    evaluation = Evaluation(ground_truth, own, sigmas, category_id)
    match = evaluation.match(own)
    if not len(match.persons):
        raise DataError(f"{annotations}: expected persons with labeled keypoints, got none; nothing can be analysed")
    errors = classify_keypoints(match, sigmas)
    ranked = rank_matches(ground_truth, own, sigmas, category_id)
    figures = {
        "images": len(ground_truth.imgs),
        "persons": len(match.persons),
        "results": len(match.results),
        "metrics": metrics.as_dict(),
        "AP_interval": interval(bootstrap_ap([ranked], rounds)[:, 0]),
        "errors": error_costs(evaluation, match, errors),
        "corrections_in_turn": corrections_in_turn(evaluation, match, errors),
        "confusions": _confusions(errors, match, skeleton),
        "by_keypoint": _by_keypoint(evaluation, match, errors, skeleton),
        "groups": {
            "all": _group(evaluation, match, errors, np.ones(len(match.persons), dtype=bool)),
            "size": _groups(evaluation, match, errors, breakdown.by_size(match.persons)),
            "labeled keypoints": _groups(evaluation, match, errors, breakdown.by_labeled_keypoints(match.persons)),
            "overlapping persons": _groups(
                evaluation, match, errors, breakdown.by_overlap(match.persons, ground_truth)
            ),
        },
        "calibration": _calibration(match, errors),
    }
    return Analysis(evaluation, match, errors, figures)


def compare(
    annotations: Path,
    results: Sequence[Result],
    others: Sequence[Result],
    skeleton: Skeleton,
    category_id: int = 1,
    rounds: int = BOOTSTRAP_ROUNDS,
) -> Figures:
    """Compare two sets of results of the same images by a paired bootstrap over images.

    Returns:
        ``AP`` and ``other_AP``, their ``difference`` (first minus other), its central 95 % interval
        ``difference_interval``, and ``share_better``: in which share of the resamples the first has the higher AP.

    Raises:
        DataError: as `analyse`.
    """
    ground_truth = load_ground_truth(annotations, category_id, skeleton.num_keypoints)
    ranked = []
    for rows in (results, others):
        require_known_images(annotations, ground_truth, [row["image_id"] for row in rows])
        own = [row for row in rows if row["category_id"] == category_id]
        ranked.append(rank_matches(ground_truth, own, skeleton.sigmas, category_id))
    first, other = (float(average_precision(each).mean()) for each in ranked)
    differences = np.subtract(*bootstrap_ap(ranked, rounds).T)
    return {
        "AP": first,
        "other_AP": other,
        "difference": first - other,
        "difference_interval": interval(differences),
        "share_better": float((differences > 0).mean()),
        "rounds": rounds,
    }


# --- where the errors are


def _confusions(errors: KeypointErrors, match: Match, skeleton: Skeleton) -> list[Figures]:
    """Return the most frequent confusions: keypoint, the annotated keypoint near it, and whose it is."""
    counts: Counter[tuple[int, int, bool]] = Counter()
    for result, keypoint in np.argwhere(errors.confused_with >= 0).tolist():
        is_same = bool(errors.classes[result, keypoint] == INVERSION)
        counts[keypoint, int(errors.confused_with[result, keypoint]), is_same] += 1
    return [
        {
            "keypoint": skeleton.names[keypoint],
            "near": skeleton.names[near],
            "person": "same" if is_same else "other",
            "count": count,
        }
        for (keypoint, near, is_same), count in counts.most_common(MAX_CONFUSIONS)
    ]


def _by_keypoint(evaluation: Evaluation, match: Match, errors: KeypointErrors, skeleton: Skeleton) -> list[Figures]:
    percentages = breakdown.pck(match)
    rows = []
    for index, name in enumerate(skeleton.names):
        similarity = errors.similarity[:, index]
        evaluated = similarity[~np.isnan(similarity)]
        truth = breakdown.only_keypoint(evaluation.ground_truth, index)
        rows.append(
            {
                "keypoint": name,
                "labeled": int(match.persons.labeled[:, index].sum()),
                "AP": number(evaluation.average_precision(truth, evaluation.results).mean()),
                "similarity": number(evaluated.mean()) if len(evaluated) else None,
                "PCK": {
                    f"{threshold:g}": number(percentages[row, index])
                    for row, threshold in enumerate(breakdown.PCK_THRESHOLDS)
                },
                "classes": _class_shares(errors.classes[:, index]),
            }
        )
    return rows


def _groups(evaluation: Evaluation, match: Match, errors: KeypointErrors, groups: breakdown.Groups) -> list[Figures]:
    return [{"group": name, **_group(evaluation, match, errors, members)} for name, members in groups.items()]


def _group(evaluation: Evaluation, match: Match, errors: KeypointErrors, members: NDArray[np.bool_]) -> Figures:
    truth, results = breakdown.only_group(evaluation.ground_truth, evaluation.results, match, members)
    precisions = evaluation.average_precision(truth, results)
    found = match.result_of_person[members & (match.result_of_person != NOBODY)]
    return {
        "persons": int(members.sum()),
        "AP": number(precisions.mean()),
        "AP50": number(precisions[0]),
        "found": share(len(found), int(members.sum())),
        "OKS": number(match.results.oks[found].mean()) if len(found) else None,
        "classes": _class_shares(errors.classes[found]),
    }


def _class_shares(classes: NDArray[np.int8]) -> dict[str, float | None]:
    counts = count_classes(classes)
    total = sum(counts.values())
    return {name: share(count, total) for name, count in counts.items()}


# --- scores


def _calibration(match: Match, errors: KeypointErrors) -> Figures:
    results = match.results
    quality = np.where(results.is_matched, results.oks, 0)
    labeled = errors.classes != NOT_EVALUATED
    samples = {
        "persons": (results.scores, quality),
        "keypoints": (results.keypoint_scores[labeled], errors.similarity[labeled]),
    }
    figures = {}
    for name, (scores, values) in samples.items():
        bins = calibrate(scores, values)
        figures[name] = {
            "scores": bins.scores.round(5).tolist(),
            "quality": bins.quality.round(5).tolist(),
            "counts": bins.counts.tolist(),
            "error": bins.error,
            "rank_correlation": number(rank_correlation(scores, values)),
        }
    return figures
