"""A peer of known quality, scored by our evaluation: MoveNet Lightning on 224 images of COCO val2017.

The expected figures were measured elsewhere with another implementation of the same protocol. What this guards, end
to end: which persons count, the cleaned boxes, the crop's matrix and its inverse, the score, OKS-NMS and COCOeval.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pose.datasets.coco import Persons, annotated_persons
from pose.evaluation.coco_ap import evaluate
from pose.evaluation.coco_results import Predictions, to_results
from pose.geometry import box_to_view, invert, transform_points, view_to_matrix
from pose.images import crop, read_image
from pose.skeleton import COCO

SHARED = Path(__file__).resolve().parents[2] / "../shared"
DATA = SHARED / "data/coco_person_small"
ANNOTATIONS = DATA / "annotations/person_keypoints_val.json"
MOVENET = SHARED / "peers/movenet-lightning.onnx"
INPUT_SIDE = 192

pytestmark = pytest.mark.skipif(not ANNOTATIONS.exists(), reason="needs ../shared/data/coco_person_small")


@pytest.fixture(scope="module")
def persons() -> Persons:
    return annotated_persons(ANNOTATIONS, DATA / "val", COCO)


@pytest.fixture(scope="module")
def movenet_predictions(persons: Persons) -> Predictions:
    """Every person once, with ground-truth boxes: score 1, area of the padded 3:4 view."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs onnxruntime to run MoveNet")
    if not MOVENET.exists():
        pytest.skip("needs ../shared/peers/movenet-lightning.onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    model = onnxruntime.InferenceSession(str(MOVENET), options, providers=["CPUExecutionProvider"])
    outputs = np.stack([_predict(model, persons, index) for index in range(len(persons))])
    return Predictions(
        image_ids=persons.image_ids,
        keypoints_image=outputs[..., :2],
        keypoint_scores=outputs[..., 2],
        box_scores=persons.scores,
        areas=np.array([box_to_view(bbox, 3 / 4).area for bbox in persons.bboxes_xywh]),
    )


def _predict(model: Any, persons: Persons, index: int) -> np.ndarray:
    """Return (17, 3) x, y in image pixels and score; MoveNet gives y, x, score as fractions of a square crop.

    Fractions count from the crop's edge, so that the first pixel's centre is at 0.5 / 192: the peer's half-pixel
    convention, which ours has not (see `pose.geometry`). Without it its AP is 0.2 points higher and AP50 0.9 lower.
    """
    record = persons.record(index)
    matrix = view_to_matrix(box_to_view(record.bbox_xywh, 1.0), (INPUT_SIDE, INPUT_SIDE))
    matrix[:, 2] += matrix[:, :2].sum(axis=1) / 2 - 0.5
    crop_rgb = crop(read_image(record.image_path), matrix, (INPUT_SIDE, INPUT_SIDE))
    y, x, score = model.run(None, {"input": crop_rgb[None].astype(np.int32)})[0][0, 0].T
    keypoints_image = transform_points(np.stack([x, y], axis=1) * INPUT_SIDE - 0.5, invert(matrix))
    return np.column_stack([keypoints_image, score])


def test_movenet_has_the_ap_of_the_protocol(movenet_predictions: Predictions) -> None:
    results = to_results(movenet_predictions, COCO.sigmas)

    metrics = evaluate(ANNOTATIONS, results, COCO.sigmas)

    assert len(results) < len(movenet_predictions.image_ids)  # OKS-NMS dropped somebody
    assert pytest.approx(0.444, abs=0.003) == metrics.AP
    assert pytest.approx(0.699, abs=0.003) == metrics.AP50


def test_movenet_ranked_by_the_plain_mean_with_nobody_suppressed(movenet_predictions: Predictions) -> None:
    # No peak is negative, so "peaks above -1" are all 17; no OKS exceeds 1.
    results = to_results(movenet_predictions, COCO.sigmas, keypoint_threshold=-1, nms_threshold=1)

    metrics = evaluate(ANNOTATIONS, results, COCO.sigmas)

    assert len(results) == len(movenet_predictions.image_ids) == 533
    assert pytest.approx(0.450, abs=0.003) == metrics.AP
    assert pytest.approx(0.693, abs=0.003) == metrics.AP50


def test_ground_truth_fed_as_predictions_is_perfect(persons: Persons) -> None:
    # A model places all 17, so unlabelled keypoints cannot stay at (0, 0), where they would make strangers alike.
    centers = persons.bboxes_xywh[:, None, :2] + persons.bboxes_xywh[:, None, 2:] / 2
    truth = Predictions(
        image_ids=persons.image_ids,
        keypoints_image=np.where(persons.visibility[..., None] > 0, persons.keypoints_image, centers),
        keypoint_scores=np.ones(persons.visibility.shape),
        box_scores=persons.scores,
        areas=np.array([box_to_view(bbox, 3 / 4).area for bbox in persons.bboxes_xywh]),
    )

    metrics = evaluate(ANNOTATIONS, to_results(truth, COCO.sigmas), COCO.sigmas)

    assert pytest.approx(1.0, abs=1e-9) == metrics.AP
    assert pytest.approx(1.0, abs=1e-9) == metrics.AR
    assert min(metrics.keypoint_similarity.values()) > 0.9999
