"""One self-contained HTML page of an analysis: tables, plots, and the worst persons beside their annotations."""

import base64
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pose.engine import analysis_plots
from pose.errors import DataError
from pose.evaluation.analysis import Analysis
from pose.evaluation.breakdown import PCK_THRESHOLDS
from pose.evaluation.error_classes import CLASS_NAMES
from pose.evaluation.error_costs import Figures
from pose.evaluation.worst_persons import describe_classes, worst_persons
from pose.files import write_text
from pose.images import Image, read_image
from pose.inference.poses import Poses
from pose.inference.visualize import prediction_sheet
from pose.skeleton import Skeleton

logger = logging.getLogger(__name__)

WORST = 20
CELL_WH = (210, 280)
JPEG_QUALITY = 85

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { margin-top: 2.5rem; border-bottom: 1px solid #ddd; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .15rem .7rem; text-align: right; } th { border-bottom: 1px solid #999; font-weight: 600; }
td:first-child, th:first-child { text-align: left; padding-left: 0; white-space: nowrap; }
tbody tr:nth-child(even) { background: #f6f6f6; }
img { max-width: 100%; height: auto; } .worst { display: flex; flex-wrap: wrap; gap: 1rem; }
figure { margin: 0; width: 27.5rem; } figcaption { font-size: .85rem; overflow-wrap: anywhere; }
.note { color: #555; }
"""


@dataclass(frozen=True)
class WorstPerson:
    """A person that loses many keypoints, for display.

    Attributes:
        drawing: (H, W, 3) uint8 BGR, annotation beside prediction; None if the image file is missing.
        figures: annotation id, image, OKS (None without a match), score, number of labeled keypoints and errors.
    """

    drawing: Image | None
    figures: Figures


def draw_worst(analysis: Analysis, skeleton: Skeleton, image_folder: Path, count: int = WORST) -> list[WorstPerson]:
    """Draw the persons that lose most keypoints, worst first; only the labeled keypoints are drawn.

    Missing images are named in a warning, as results can be analysed without them.
    """
    persons, results = analysis.match.persons, analysis.match.results
    images = analysis.evaluation.ground_truth.imgs
    drawn = []
    for person, result in worst_persons(analysis.match, count):
        path = image_folder / images[int(persons.image_ids[person])]["file_name"]
        labeled = persons.labeled[person]
        pair = persons.keypoints_image[person], results.keypoints_image[result]
        is_matched = bool(results.person[result] == person)
        annotation = analysis.evaluation.ground_truth.anns[int(persons.ids[person])]
        figures = {
            "annotation_id": annotation["annotation_id"],
            "image": path.name,
            "OKS": round(float(results.oks[result]), 5) if is_matched else None,
            "score": round(float(results.scores[result]), 5),
            "labeled": int(labeled.sum()),
            "errors": describe_classes(analysis.errors.classes[result]) if is_matched else "no match",
        }
        drawn.append(WorstPerson(_draw_pair(path, persons.bboxes_xywh[person], pair, labeled, skeleton), figures))
    return drawn


def _draw_pair(path: Path, bbox_xywh: Any, pair: Any, labeled: Any, skeleton: Skeleton) -> Image | None:
    """Return truth and prediction ``pair`` on the surroundings of a box, or None if the image cannot be read."""
    try:
        image = read_image(path)
    except DataError as error:
        logger.warning("%s", error)
        return None
    margin = 0.35 * bbox_xywh[2:].max()
    low = np.clip(np.floor(bbox_xywh[:2] - margin), 0, None).astype(int)
    high = np.ceil(bbox_xywh[:2] + bbox_xywh[2:] + margin).astype(int)
    crop = np.ascontiguousarray(image[low[1] : high[1], low[0] : high[0]])
    poses = [
        Poses((points - low)[None].astype(np.float32), labeled[None].astype(np.float32), np.zeros((1, 4), np.float32))
        for points in pair
    ]
    return prediction_sheet([crop, crop], poses, skeleton, columns=2, cell_wh=CELL_WH)


def write_page(
    analysis: Analysis, worst: Sequence[WorstPerson], source: str, comparison: Figures | None, path: Path
) -> None:
    """Write the page; it needs no other file and no network.

    Args:
        analysis: figures to show.
        worst: persons to show.
        source: what was analysed, in one line.
        comparison: of `pose.evaluation.analysis.compare`.
        path: HTML file.

    Raises:
        MediaError: the file cannot be written.
    """
    body = "\n".join(_sections(analysis.figures, worst, source, comparison))
    write_text(
        path,
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>Keypoint analysis</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n",
    )


def _sections(figures: Figures, worst: Sequence[WorstPerson], source: str, comparison: Figures | None) -> Iterator[str]:
    metrics, (low, high) = figures["metrics"], figures["AP_interval"]
    yield f"<h1>Keypoint analysis</h1>\n<p class=note>{escape(source)}</p>"
    yield (
        f"<p>{figures['persons']} annotated persons in {figures['images']} images, {figures['results']} results. "
        f"<b>AP {_percent(metrics['AP'])}</b> (95 % interval {_percent(low)} to {_percent(high)}, bootstrap over "
        f"images), AP50 {_percent(metrics['AP50'])}, AP75 {_percent(metrics['AP75'])}, AR {_percent(metrics['AR'])}."
    )
    if comparison is not None:
        yield f"<p>{escape(describe_comparison(comparison))}"
    yield (
        "<h2>What the errors cost</h2>\n<p class=note>Each kind of error is corrected alone, and the results are "
        "evaluated again. Jitter: the right place, not exactly. Inversion: another keypoint of the same person. Swap: "
        "a keypoint of another person. Miss: near no keypoint. Score: ranked by their true OKS; counted are "
        "the persons whose result with the highest score is not their best.</p>"
    )
    yield _table(
        ["error", "count", "of", "%", "AP if corrected", "gain"],
        [
            [row["error"], row["count"], row["of"], *map(_percent, (row["share"], row["AP"])), _gain(row["gain"])]
            for row in figures["errors"]
        ],
    )
    yield _image(analysis_plots.corrections_png(figures["corrections_in_turn"]), "AP after each correction")
    yield (
        "<h2>By keypoint</h2>\n<p class=note>AP: the keypoint alone counts in OKS. PCK: share within this part of the "
        "longest side of the box.</p>"
    )
    yield _image(analysis_plots.keypoints_png(figures["by_keypoint"]), "Error classes by keypoint")
    pck = [f"{threshold:g}" for threshold in PCK_THRESHOLDS]
    yield _table(
        ["keypoint", "labeled", "AP", *(f"PCK@{name}" for name in pck), "similarity"],
        [
            [row["keypoint"], row["labeled"], _percent(row["AP"])]
            + [_percent(row["PCK"][name]) for name in pck]
            + [_percent(row["similarity"])]
            for row in figures["by_keypoint"]
        ],
    )
    if figures["confusions"]:
        yield "<h3>Most frequent confusions</h3>"
        yield _table(
            ["predicted", "is near", "of", "count"],
            [[row["keypoint"], row["near"], f"{row['person']} person", row["count"]] for row in figures["confusions"]],
        )
    yield from _group_section(figures["groups"])
    yield from _calibration_section(figures["calibration"])
    yield (
        f"<h2>The worst {len(worst)} persons</h2>\n<p class=note>The persons that lose most: labeled keypoints times "
        "1 - OKS. Left the annotation, right the prediction; only labeled keypoints are drawn. Blue: the person's left "
        "side. No match: the OKS is below 0.1.</p>\n<div class=worst>"
    )
    for person in worst:
        yield _figure(person)
    yield "</div>"


def _group_section(groups: Figures) -> Iterator[str]:
    kinds = {name: rows for name, rows in groups.items() if name != "all"}
    yield (
        "<h2>By size, labeled keypoints and overlap</h2>\n<p class=note>Only the persons of a group are evaluated, "
        "with the results nearest to them. Size: square root of the annotated area. Overlap: other boxes with an IoU "
        "above 0.1. Found: persons with a result of OKS 0.1 or more.</p>"
    )
    yield _image(analysis_plots.groups_png(kinds, groups["all"]["AP"]), "AP by group")
    rows = [("all persons", groups["all"])]
    rows += [(f"{kind}: {row['group']}", row) for kind, members in kinds.items() for row in members]
    yield _table(
        ["group", "persons", "AP", "AP50", "found %", "OKS", *(f"{name} %" for name in CLASS_NAMES)],
        [
            [name, row["persons"]]
            + [_percent(row[key]) for key in ("AP", "AP50", "found", "OKS")]
            + [_percent(row["classes"][key]) for key in CLASS_NAMES]
            for name, row in rows
        ],
    )


def _calibration_section(calibration: Figures) -> Iterator[str]:
    yield (
        "<h2>Scores</h2>\n<p class=note>Bins with equal numbers of samples. On the dashed line a score equals the "
        "quality that it predicts; for AP only the order matters, which the rank correlation measures.</p>"
    )
    yield _image(analysis_plots.calibration_png(calibration), "Calibration of scores")
    yield _table(
        ["scores of", "samples", "calibration error", "rank correlation"],
        [
            [name, sum(row["counts"]), _decimal(row["error"]), _decimal(row["rank_correlation"])]
            for name, row in calibration.items()
        ],
    )


def describe_comparison(comparison: Figures) -> str:
    """Return a comparison of two results in one sentence."""
    low, high = comparison["difference_interval"]
    return (
        f"Compared with {comparison.get('other', 'the other results')} (AP {_percent(comparison['other_AP'])}): "
        f"{_gain(comparison['difference'])} AP, 95 % interval {_gain(low)} to {_gain(high)} (paired bootstrap over "
        f"images, {comparison['rounds']} resamples); better in {_percent(comparison['share_better'])} % of them."
    )


def _figure(person: WorstPerson) -> str:
    figures = person.figures
    caption = (
        f"{figures['image']}, annotation {figures['annotation_id']}: OKS {_decimal(figures['OKS'])}, score "
        f"{figures['score']:.2f}, {figures['labeled']} labeled; {figures['errors']}"
    )
    if person.drawing is None:
        return f"<figure><p class=note>image file not found</p><figcaption>{escape(caption)}</figcaption></figure>"
    _, jpeg = cv2.imencode(".jpg", person.drawing, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    image = _image(jpeg.tobytes(), "annotation and prediction", "jpeg")
    return f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>"


def _image(content: bytes, description: str, kind: str = "png") -> str:
    data = base64.b64encode(content).decode("ascii")
    return f'<img alt="{escape(description)}" src="data:image/{kind};base64,{data}">'


def _table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    body = "\n".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"


def _percent(value: float | None) -> str:
    return "-" if value is None or value < 0 else f"{100 * value:.1f}"


def _gain(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:+.1f}"


def _decimal(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
