"""AP of MoveNet Lightning on 224 images of COCO val2017, computed by our evaluation.

The expected values were measured with another implementation of the same protocol. This tests end to end: selection of
persons, cleaned boxes, image-to-crop transform and its inverse, rescoring, OKS-NMS and COCOeval.
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
    """Predictions for every person with ground-truth boxes: box score 1, area of the padded 3:4 view."""
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
    """Return (17, 3) x, y in image pixels and score; MoveNet returns y, x, score as fractions of a square crop.

    Fractions start at the crop's edge, so that the center of the first pixel is at 0.5 / 192: a half-pixel convention
    unlike ours (see `pose.geometry`). Without it, AP is 0.2 points higher and AP50 0.9 lower.
    """
    record = persons.record(index)
    image_to_crop = view_to_matrix(box_to_view(record.bbox_xywh, 1.0), (INPUT_SIDE, INPUT_SIDE))
    image_to_crop[:, 2] += image_to_crop[:, :2].sum(axis=1) / 2 - 0.5
    crop_rgb = crop(read_image(record.image_path), image_to_crop, (INPUT_SIDE, INPUT_SIDE))
    y, x, score = model.run(None, {"input": crop_rgb[None].astype(np.int32)})[0][0, 0].T
    keypoints_image = transform_points(np.stack([x, y], axis=1) * INPUT_SIDE - 0.5, invert(image_to_crop))
    return np.column_stack([keypoints_image, score])


def test_movenet_has_the_reference_ap(movenet_predictions: Predictions) -> None:
    results = to_results(movenet_predictions, COCO.sigmas)

    metrics = evaluate(ANNOTATIONS, results, COCO.sigmas)

    assert len(results) < len(movenet_predictions.image_ids)  # OKS-NMS removed persons
    assert pytest.approx(0.444, abs=0.003) == metrics.AP
    assert pytest.approx(0.699, abs=0.003) == metrics.AP50


def test_movenet_has_the_reference_ap_with_mean_scores_and_without_nms(movenet_predictions: Predictions) -> None:
    # Scores are not negative, so all 17 exceed the threshold -1; no OKS exceeds the NMS threshold 1.
    results = to_results(movenet_predictions, COCO.sigmas, keypoint_threshold=-1, nms_threshold=1)

    metrics = evaluate(ANNOTATIONS, results, COCO.sigmas)

    assert len(results) == len(movenet_predictions.image_ids) == 533
    assert pytest.approx(0.450, abs=0.003) == metrics.AP
    assert pytest.approx(0.693, abs=0.003) == metrics.AP50


def test_ground_truth_keypoints_as_predictions_have_ap_one(persons: Persons) -> None:
    # Unlabeled keypoints at (0, 0) would make different persons duplicates for OKS-NMS, so they move to the box center.
    centers = persons.bboxes_xywh[:, None, :2] + persons.bboxes_xywh[:, None, 2:] / 2
    ground_truth = Predictions(
        image_ids=persons.image_ids,
        keypoints_image=np.where(persons.visibility[..., None] > 0, persons.keypoints_image, centers),
        keypoint_scores=np.ones(persons.visibility.shape),
        box_scores=persons.scores,
        areas=np.array([box_to_view(bbox, 3 / 4).area for bbox in persons.bboxes_xywh]),
    )

    metrics = evaluate(ANNOTATIONS, to_results(ground_truth, COCO.sigmas), COCO.sigmas)

    assert pytest.approx(1.0, abs=1e-9) == metrics.AP
    assert pytest.approx(1.0, abs=1e-9) == metrics.AR
    assert min(metrics.keypoint_similarity.values()) > 0.9999
