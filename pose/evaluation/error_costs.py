"""The AP that each error class costs: results are corrected and evaluated again.

`pose.evaluation.error_classes` defines the classes and the corrections.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools.coco import COCO

from pose.evaluation.breakdown import without_persons
from pose.evaluation.coco_results import Result
from pose.evaluation.error_classes import (
    CLASS_NAMES,
    CORRECTION_ORDER,
    KeypointErrors,
    correct_keypoints,
    correct_scores,
    count_classes,
    count_scoring_errors,
    missed_person_ids,
    remove_false_positives,
)
from pose.evaluation.matching import Match, match_results
from pose.evaluation.precision import average_precision, rank_matches
from pose.geometry import Array

Figures = dict[str, Any]
"""Figures by name, as they are written to JSON. Shares and APs are in 0..1; None where there is nothing to measure."""


@dataclass(frozen=True)
class Evaluation:
    """Ground truth, the results of its category, and what is needed to evaluate them."""

    ground_truth: COCO
    results: list[Result]
    sigmas: Sequence[float]
    category_id: int

    def average_precision(self, ground_truth: COCO, results: Sequence[Result]) -> Array:
        """Return the (10,) AP by OKS threshold of other results or other ground truth."""
        return average_precision(rank_matches(ground_truth, results, self.sigmas, self.category_id))

    def match(self, results: Sequence[Result]) -> Match:
        """Match other results to the persons."""
        return match_results(self.ground_truth, results, self.sigmas, self.category_id)


def error_costs(evaluation: Evaluation, match: Match, errors: KeypointErrors) -> list[Figures]:
    """Return count, share, AP if corrected, and gain in AP of each error class, each corrected alone."""
    truth, results, measure = evaluation.ground_truth, evaluation.results, evaluation.average_precision
    counts = count_classes(errors.classes)
    keypoints, persons, missed = sum(counts.values()), len(match.persons), missed_person_ids(match)
    base = measure(truth, results).mean()
    rows = []
    for index in sorted(CORRECTION_ORDER):
        corrected = correct_keypoints(results, match, errors, {index})
        rows.append((CLASS_NAMES[index], counts[CLASS_NAMES[index]], keypoints, measure(truth, corrected)))
    rescored = measure(truth, correct_scores(results, match))
    rows.append(("score", count_scoring_errors(match.results), persons, rescored))
    wrong = int((~match.results.is_matched).sum())
    wanted = measure(truth, remove_false_positives(results, match))
    rows.append(("false positive", wrong, len(match.results), wanted))
    rows.append(("false negative", len(missed), persons, measure(without_persons(truth, missed), results)))
    return [
        {
            "error": name,
            "count": count,
            "of": total,
            "share": share(count, total),
            "AP": number(precisions.mean()),
            "gain": number(precisions.mean() - base),
        }
        for name, count, total, precisions in rows
    ]


def corrections_in_turn(evaluation: Evaluation, match: Match, errors: KeypointErrors) -> list[Figures]:
    """Return the AP after each correction, each in addition to those before."""
    truth, corrected, measure = evaluation.ground_truth, evaluation.results, evaluation.average_precision
    steps = [("as given", measure(truth, corrected))]
    for index in CORRECTION_ORDER:
        corrected = correct_keypoints(corrected, match, errors, {index})
        steps.append((CLASS_NAMES[index], measure(truth, corrected)))
    corrected = correct_scores(corrected, evaluation.match(corrected))
    steps.append(("score", measure(truth, corrected)))
    match = evaluation.match(corrected)
    corrected = remove_false_positives(corrected, match)
    steps.append(("false positive", measure(truth, corrected)))
    truth = without_persons(truth, missed_person_ids(match))
    steps.append(("false negative", measure(truth, corrected)))
    return [{"step": name, "AP": number(ap.mean()), "AP50": number(ap[0]), "AP75": number(ap[5])} for name, ap in steps]


def number(value: float | np.floating[Any]) -> float | None:
    """Return a number for a JSON file, None if it is not finite."""
    return round(float(value), 5) if np.isfinite(value) else None


def share(count: float, total: float) -> float | None:
    """Return ``count / total``, or None for a total of 0."""
    return number(count / total) if total else None


def format_costs(figures: Figures) -> str:
    """Return AP, its interval and the costs of all error classes as a text table, in percent."""
    low, high = figures["AP_interval"]
    lines = [
        f"AP {100 * figures['metrics']['AP']:.1f} (95 % interval {100 * low:.1f} to {100 * high:.1f})",
        "",
        f"{'error':<15}{'count':>7}{'of':>7}{'%':>7}{'AP if corrected':>17}{'gain':>7}",
    ]
    for row in figures["errors"]:
        cells = [
            "-" if value is None else f"{100 * value:{sign}.1f}"
            for value, sign in ((row["share"], ""), (row["AP"], ""), (row["gain"], "+"))
        ]
        lines.append(f"{row['error']:<15}{row['count']:>7}{row['of']:>7}{cells[0]:>7}{cells[1]:>17}{cells[2]:>7}")
    return "\n".join(lines)
