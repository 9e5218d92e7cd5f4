"""COCO's keypoint figures (AP, AR) of a result list, by pycocotools, and how well each keypoint is placed."""

import logging
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO

from pose.datasets.coco_json import Record, read_annotations
from pose.errors import DataError
from pose.evaluation.coco_results import Result
from pose.evaluation.keypoint_eval import KeypointEval

logger = logging.getLogger(__name__)

METRIC_NAMES = ("AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL")
"""In the order of pycocotools' ``COCOeval.stats`` for keypoints."""


@dataclass(frozen=True)
class Metrics:
    """COCO's ten keypoint figures, in 0..1; -1 where the annotations have nothing to measure (no large person, say).

    Attributes:
        AP: mean over OKS thresholds 0.50:0.95; AP50 and AP75 at one threshold; APM and APL for persons of
            32^2..96^2 and of more square pixels. AR alike.
        keypoint_similarity: by keypoint name, how well it is placed once its person is found: the mean of
            exp(-d^2 / (2 s^2 (2 sigma)^2)) over the labelled keypoints of all persons that COCO matches at OKS 0.5,
            s^2 the annotated area. None where no such keypoint is labelled.
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
        """Return the figures for a JSON file."""
        return asdict(self)


def evaluate(
    annotations: Path,
    results: Sequence[Result],
    sigmas: Sequence[float],
    image_ids: Iterable[int] | None = None,
    category_id: int = 1,
) -> Metrics:
    """Compare results with COCO keypoint annotations.

    All images of the annotation file count, those without a result too, unless ``image_ids`` names some.

    Args:
        annotations: COCO keypoint annotation file.
        results: as of `pose.evaluation.coco_results.to_results`; other categories are left out.
        sigmas: K OKS constants.
        image_ids: the images to measure on.
        category_id: of the persons.

    Raises:
        DataError: the file cannot be used, or a result or ``image_ids`` names an image it does not have, or a result
            has not K keypoints.
    """
    with redirect_stdout(StringIO()):
        truth = _load_annotations(annotations, category_id, len(sigmas))
        _require_known_images(annotations, truth, [row["image_id"] for row in results])
        chosen = sorted(truth.getImgIds()) if image_ids is None else sorted(set(image_ids))
        _require_known_images(annotations, truth, chosen)
        evaluator = KeypointEval(truth, _load_results(results, chosen, category_id, len(sigmas)), sigmas)
        evaluator.params.imgIds, evaluator.params.catIds = chosen, [category_id]
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    names = truth.cats[category_id].get("keypoints") or [str(index) for index in range(len(sigmas))]
    figures = dict(zip(METRIC_NAMES, evaluator.stats.tolist(), strict=True))
    return Metrics(**figures, keypoint_similarity=_keypoint_similarity(evaluator, names))


def _load_annotations(path: Path, category_id: int, num_keypoints: int) -> COCO:
    content = read_annotations(path)
    if not content["annotations"]:
        raise DataError(f"{path}: has no annotations, so there is nothing to measure against; write the results only")
    persons = _of_category(path, content["annotations"], category_id, num_keypoints)
    truth = COCO()
    # pycocotools marks "no match" by id 0, so that a person with id 0 could never be found: count from 1.
    numbered = [{**person, "id": number} for number, person in enumerate(persons, start=1)]
    truth.dataset = {**content, "annotations": numbered}
    truth.createIndex()
    if category_id not in truth.cats:
        raise DataError(f"{path}: expected category {category_id}, got {sorted(truth.cats)}; which are the persons?")
    return truth


def _of_category(path: Path, annotations: Sequence[Record], category_id: int, num_keypoints: int) -> list[Record]:
    """Return the persons, each with the fields that COCO files have and home-made ones often lack."""
    persons = []
    for annotation in annotations:
        if annotation["category_id"] != category_id:
            continue
        if "area" not in annotation:
            raise DataError(
                f"{path}: annotation {annotation.get('id')} lacks 'area', the scale of OKS; fill in the person's "
                "area in square pixels"
            )
        if len(annotation["keypoints"]) != 3 * num_keypoints:
            raise DataError(
                f"{path}: annotation {annotation.get('id')} has {len(annotation['keypoints'])} keypoint numbers, "
                f"expected {3 * num_keypoints} (x, y, v for each); is this the file of the config's skeleton?"
            )
        labelled = sum(visibility > 0 for visibility in annotation["keypoints"][2::3])
        persons.append({"iscrowd": 0, "num_keypoints": labelled, **annotation})
    return persons


def _require_known_images(path: Path, truth: COCO, image_ids: Iterable[int]) -> None:
    unknown = sorted(set(image_ids) - truth.imgs.keys(), key=str)
    if unknown:
        raise DataError(
            f"{path}: has no image {unknown[0]!r} ({len(unknown)} such ids); "
            "were these results made for another data set?"
        )


def _load_results(results: Sequence[Result], image_ids: Sequence[int], category_id: int, num_keypoints: int) -> COCO:
    chosen = set(image_ids)
    rows = [row for row in results if row["category_id"] == category_id and row["image_id"] in chosen]
    for row in rows:
        if len(row["keypoints"]) != 3 * num_keypoints:
            raise DataError(
                f"results: expected {num_keypoints} keypoints x 3 numbers, got {len(row['keypoints'])} numbers in "
                f"image {row['image_id']}; were they made with another skeleton?"
            )
    found = COCO()
    if not rows:
        logger.warning(
            "no results for category %d in %d images: AP is 0; are the boxes empty, or a threshold too high?",
            category_id, len(chosen),
        )  # fmt: skip
        return found
    # As pycocotools' loadRes, which takes seconds for a loop over persons: an area is that of the box about keypoints.
    xyv = np.array([row["keypoints"] for row in rows], dtype=np.float64).reshape(len(rows), num_keypoints, 3)
    areas = np.ptp(xyv[..., :2], axis=1).prod(axis=1).tolist()
    numbered = enumerate(zip(rows, areas, strict=True), start=1)
    found.dataset = {"annotations": [{**row, "id": number, "area": area} for number, (row, area) in numbered]}
    found.createIndex()
    return found


def _keypoint_similarity(evaluator: KeypointEval, names: Sequence[str]) -> dict[str, float | None]:
    variances = (2 * evaluator.params.kpt_oks_sigmas) ** 2
    total, count = np.zeros(len(variances)), np.zeros(len(variances))
    for predicted, true in _matched(evaluator):
        xyv = _triples(true)
        squared_distance = ((_triples(predicted)[:, :2] - xyv[:, :2]) ** 2).sum(axis=1)
        labelled = xyv[:, 2] > 0
        total += labelled * np.exp(-squared_distance / (2 * variances * (true["area"] + np.spacing(1))))
        count += labelled
    return {name: float(t / c) if c else None for name, t, c in zip(names, total, count, strict=True)}


def _matched(evaluator: KeypointEval) -> Iterable[tuple[Record, Record]]:
    """Yield (result, annotation) pairs that COCO matches at its first threshold, 0.5, over all areas."""
    # evalImgs runs over categories (one), area ranges ("all" first), images.
    for image in evaluator.evalImgs[: len(evaluator.params.imgIds)]:
        if image is not None:
            matches, ignored = image["dtMatches"][0], image["dtIgnore"][0]
            for result_id, true_id, ignore in zip(image["dtIds"], matches, ignored, strict=True):
                if true_id and not ignore:
                    yield evaluator.cocoDt.anns[result_id], evaluator.cocoGt.anns[int(true_id)]


def _triples(row: Record) -> NDArray[np.float64]:
    return np.asarray(row["keypoints"], dtype=np.float64).reshape(-1, 3)


def format_table(metrics: Metrics) -> str:
    """Return the figures as a table to print, in percent, with COCO's names."""
    figures = {name: getattr(metrics, name) for name in METRIC_NAMES}
    lines = [
        "".join(f"{name:>7}" for name in figures),
        "".join(f"{100 * value:7.1f}" if value >= 0 else f"{'-':>7}" for value in figures.values()),
        "",
        "similarity of the keypoints of persons found (0..100)",
    ]
    width = max(map(len, metrics.keypoint_similarity), default=0)
    lines += [
        f"  {name:<{width}}  " + (f"{100 * value:5.1f}" if value is not None else f"{'-':>5}")
        for name, value in metrics.keypoint_similarity.items()
    ]
    return "\n".join(lines)
