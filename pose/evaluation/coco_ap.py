"""COCO keypoint AP and AR of a result list, computed by pycocotools, and the mean similarity of each keypoint."""

import logging
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import structs
from pycocotools.coco import COCO

from pose.datasets.coco_json import AnnotationRow, Result, read_annotations, require_keypoints
from pose.errors import DataError
from pose.evaluation.keypoint_eval import KeypointEval
from pose.geometry import Array
from pose.json_file import paused_garbage_collection

logger = logging.getLogger(__name__)

Record = dict[str, Any]
"""A row as pycocotools expects it."""

METRIC_NAMES = ("AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL")
"""COCO's names, in the order of ``COCOeval.stats`` for keypoints in pycocotools."""


@dataclass(frozen=True)
class Metrics:
    """COCO's ten keypoint metrics, in 0..1; -1 where the annotations have no such person (no large person, say).

    Attributes:
        AP: average precision, the mean over the OKS thresholds 0.50:0.95.
        AP50: AP at OKS 0.50.
        AP75: AP at OKS 0.75.
        APM: AP of medium persons, 32^2 to 96^2 square pixels.
        APL: AP of large persons, above 96^2 square pixels.
        AR: average recall, the mean over the OKS thresholds 0.50:0.95.
        AR50: AR at OKS 0.50.
        AR75: AR at OKS 0.75.
        ARM: AR of medium persons.
        ARL: AR of large persons.
        keypoint_similarity: localization accuracy by keypoint name: the mean of exp(-d^2 / (2 s^2 (2 sigma)^2)) over
            the labeled keypoints of all persons that COCO matches at OKS 0.5, with s^2 the annotated area. None where
            no such keypoint is labeled.
    """

    AP: float
    AP50: float
    AP75: float
    APM: float
    APL: float
    AR: float
    AR50: float
    AR75: float
    ARM: float
    ARL: float
    keypoint_similarity: dict[str, float | None]

    def as_dict(self) -> dict[str, Any]:
        """Return the metrics by name, for a JSON file."""
        return asdict(self)


@paused_garbage_collection()
def evaluate(
    annotations: Path,
    results: Sequence[Result],
    sigmas: Sequence[float],
    image_ids: Iterable[int] | None = None,
    category_id: int = 1,
) -> Metrics:
    """Evaluate results against COCO keypoint annotations.

    Args:
        annotations: COCO keypoint annotation file.
        results: as returned by `pose.evaluation.coco_results.to_results`; other categories are ignored.
        sigmas: K OKS constants.
        image_ids: images to evaluate; None: all images of the annotation file, also those without results.
        category_id: category of the persons.

    Raises:
        DataError: the file cannot be used, a result or ``image_ids`` contains an image that is not in the file, or a
            result does not have K keypoints.
    """
    with redirect_stdout(StringIO()):
        coco = load_ground_truth(annotations, category_id, len(sigmas))
        require_known_images(annotations, coco, [row["image_id"] for row in results])
        selected = sorted(coco.getImgIds()) if image_ids is None else sorted(set(image_ids))
        require_known_images(annotations, coco, selected)
        evaluator = make_evaluator(coco, results, sigmas, selected, category_id)
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    names = coco.cats[category_id].get("keypoints") or [str(index) for index in range(len(sigmas))]
    values = dict(zip(METRIC_NAMES, evaluator.stats.tolist(), strict=True))
    return Metrics(**values, keypoint_similarity=_keypoint_similarity(evaluator, names))


def make_evaluator(
    ground_truth: COCO, results: Sequence[Result], sigmas: Sequence[float], image_ids: Sequence[int], category_id: int
) -> KeypointEval:
    """Return COCO's evaluation of the results of one category in ``image_ids``; call its ``evaluate`` next.

    Raises:
        DataError: a result does not have K keypoints.
    """
    evaluator = KeypointEval(ground_truth, _load_results(results, image_ids, category_id, len(sigmas)), sigmas)
    evaluator.params.imgIds, evaluator.params.catIds = list(image_ids), [category_id]
    return evaluator


def load_ground_truth(path: Path, category_id: int, num_keypoints: int) -> COCO:
    """Load the persons of an annotation file for `make_evaluator`, numbered from 1; ``annotation_id`` keeps their ids.

    Raises:
        DataError: the file cannot be used, or has no annotations.
    """
    content = read_annotations(path)
    if not content.annotations:
        raise DataError(f"{path}: has no annotations, so there is nothing to evaluate against; write the results only")
    persons = [row for row in content.annotations if row.category_id == category_id]
    require_keypoints(persons, num_keypoints, path)
    coco = COCO()
    coco.dataset = {
        "images": [structs.asdict(image) for image in content.images],
        "categories": [structs.asdict(category) for category in content.categories],
        # pycocotools uses id 0 for "no match", so a person with id 0 would never be matched: number from 1.
        "annotations": [_ground_truth_row(path, number, person) for number, person in enumerate(persons, start=1)],
    }
    with redirect_stdout(StringIO()):
        coco.createIndex()
    if category_id not in coco.cats:
        raise DataError(
            f"{path}: expected category {category_id}, got {sorted(coco.cats)}; set the category of the persons"
        )
    names = coco.cats[category_id]["keypoints"]
    if names and len(names) != num_keypoints:
        raise DataError(
            f"{path}: category {category_id} lists {len(names)} keypoints, expected {num_keypoints}; does the file "
            "match the skeleton of the config?"
        )
    return coco


def _ground_truth_row(path: Path, number: int, person: AnnotationRow) -> Record:
    """Return a person numbered for pycocotools, with the fields of COCO files that custom files often lack."""
    if person.area is None:
        raise DataError(
            f"{path}: annotation {person.id} lacks 'area', the scale of OKS; add the person's area in square pixels"
        )
    row = structs.asdict(person)
    labeled = sum(visibility > 0 for visibility in person.keypoints[2::3])
    num_keypoints = labeled if person.num_keypoints is None else person.num_keypoints
    return {**row, "id": number, "annotation_id": person.id, "num_keypoints": num_keypoints}


def require_known_images(path: Path, coco: COCO, image_ids: Iterable[int]) -> None:
    """Check that all images are in the annotation file ``path``.

    Raises:
        DataError: one is not.
    """
    unknown = sorted(set(image_ids) - coco.imgs.keys(), key=str)
    if unknown:
        raise DataError(
            f"{path}: has no image {unknown[0]!r} ({len(unknown)} such ids); are these the results of another dataset?"
        )


def _load_results(results: Sequence[Result], image_ids: Sequence[int], category_id: int, num_keypoints: int) -> COCO:
    selected = set(image_ids)
    rows = [row for row in results if row["category_id"] == category_id and row["image_id"] in selected]
    for row in rows:
        if len(row["keypoints"]) != 3 * num_keypoints:
            raise DataError(
                f"results: expected {num_keypoints} keypoints x 3 numbers, got {len(row['keypoints'])} numbers in "
                f"image {row['image_id']}; are they the results of another skeleton?"
            )
    coco = COCO()
    if not rows:
        logger.warning(
            "no results for category %d in %d images: AP is 0; are there no boxes, or is a threshold too high?",
            category_id, len(selected),
        )  # fmt: skip
        return coco
    # The same as loadRes of pycocotools, whose loop over persons takes seconds: area is that of the keypoints' box.
    xyv = np.array([row["keypoints"] for row in rows], dtype=np.float64).reshape(len(rows), num_keypoints, 3)
    areas = np.ptp(xyv[..., :2], axis=1).prod(axis=1).tolist()
    numbered = enumerate(zip(rows, areas, strict=True), start=1)
    coco.dataset = {"annotations": [{**row, "id": number, "area": area} for number, (row, area) in numbered]}
    coco.createIndex()
    return coco


def _keypoint_similarity(evaluator: KeypointEval, names: Sequence[str]) -> dict[str, float | None]:
    variances = (2 * evaluator.params.kpt_oks_sigmas) ** 2
    total, count = np.zeros(len(variances)), np.zeros(len(variances))
    for result, annotation in _matched_pairs(evaluator):
        xyv = _keypoints_xyv(annotation)
        squared_distance = ((_keypoints_xyv(result)[:, :2] - xyv[:, :2]) ** 2).sum(axis=1)
        labeled = xyv[:, 2] > 0
        total += labeled * np.exp(-squared_distance / (2 * variances * (annotation["area"] + np.spacing(1))))
        count += labeled
    return {name: float(t / c) if c else None for name, t, c in zip(names, total, count, strict=True)}


def _matched_pairs(evaluator: KeypointEval) -> Iterable[tuple[Record, Record]]:
    """Yield the (result, annotation) pairs that COCO matches at its first threshold, OKS 0.5, for all areas."""
    # evalImgs is ordered by category (one), area range ("all" first), image.
    for image in evaluator.evalImgs[: len(evaluator.params.imgIds)]:
        if image is not None:
            matches, ignored = image["dtMatches"][0], image["dtIgnore"][0]
            for result_id, annotation_id, ignore in zip(image["dtIds"], matches, ignored, strict=True):
                if annotation_id and not ignore:
                    yield evaluator.cocoDt.anns[result_id], evaluator.cocoGt.anns[int(annotation_id)]


def _keypoints_xyv(row: Record) -> Array:
    return np.asarray(row["keypoints"], dtype=np.float64).reshape(-1, 3)


def format_table(metrics: Metrics) -> str:
    """Return the metrics as a text table, in percent, with COCO's names."""
    values = {name: getattr(metrics, name) for name in METRIC_NAMES}
    lines = [
        "".join(f"{name:>7}" for name in values),
        "".join(f"{100 * value:7.1f}" if value >= 0 else f"{'-':>7}" for value in values.values()),
        "",
        "keypoint similarity of matched persons (0..100)",
    ]
    width = max(map(len, metrics.keypoint_similarity), default=0)
    lines += [
        f"  {name:<{width}}  " + (f"{100 * value:5.1f}" if value is not None else f"{'-':>5}")
        for name, value in metrics.keypoint_similarity.items()
    ]
    return "\n".join(lines)
