"""Evaluation from person boxes to AP, with a brightness filter as the model; evaluation of exported models."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from pose.config.data import DataConfig
from pose.config.skeleton import SkeletonConfig
from pose.engine.distributed import DistContext
from pose.engine.evaluate import (
    load_for_eval,
    load_test_set,
    make_results,
    predict_crops,
    predict_persons,
    score_results,
)
from pose.errors import CheckpointError, DataError
from pose.export.write import build_onnx, write_export
from pose.geometry import box_to_view
from pose.inference.metadata import ExportMetadata
from pose.models import build_pose_net


def brightness(images: torch.Tensor) -> torch.Tensor:
    """Map (N, 3, H, W) to (N, 17, H / 4, W / 4), scaled per keypoint; images of a batch do not interact."""
    scales = torch.linspace(0.5, 1.5, 17)[:, None, None]
    return F.avg_pool2d(images.mean(dim=1, keepdim=True), 4) * scales


@pytest.fixture
def config(tiny_config, tiny_coco):
    """Config whose validation set is `tiny_coco`."""
    data = DataConfig(
        root=tiny_coco.images.parent,
        val_annotations=tiny_coco.annotations.name,
        val_images=tiny_coco.images.name,
        val_detections=tiny_coco.detections.name,
    )
    return tiny_config().model_copy(update={"data": data})


def with_test(config, **options):
    return config.model_copy(update={"test": config.test.model_copy(update=options)})


def test_load_test_set_reads_the_detector_boxes_of_the_config(config):
    test_set = load_test_set(config, ground_truth=False)

    assert test_set.boxes == "detector boxes of boxes.json"
    assert len(test_set.persons) == 4
    assert test_set.annotated
    np.testing.assert_allclose(test_set.persons.scores, [0.9, 0.6, 0.95, 0.1])


def test_load_test_set_reads_the_boxes_of_annotated_persons(config):
    test_set = load_test_set(config, ground_truth=True)

    assert test_set.boxes == "ground-truth boxes"
    assert sorted(test_set.persons.ids) == [11, 12, 21, 22, 31]
    assert set(test_set.persons.scores) == {1.0}


def test_given_detector_boxes_replace_those_of_the_config(config, tmp_path):
    boxes = [{"image_id": 3, "category_id": 1, "bbox": [0, 0, 50, 90], "score": 0.5}]
    (tmp_path / "other.json").write_text(json.dumps(boxes))

    test_set = load_test_set(config, False, tmp_path / "other.json")

    assert test_set.boxes == "detector boxes of other.json"
    np.testing.assert_array_equal(test_set.persons.bboxes_xywh, [[0, 0, 50, 90]])


def test_boxes_below_the_threshold_are_dropped(config):
    test_set = load_test_set(with_test(config, box_threshold=0.6), ground_truth=False)

    assert sorted(test_set.persons.scores) == [0.6, 0.9, 0.95]


def test_a_missing_file_of_boxes_is_refused(config, tiny_coco):
    tiny_coco.detections.unlink()

    with pytest.raises(DataError, match=r"boxes\.json"):
        load_test_set(config, ground_truth=False)


def test_load_test_set_reports_missing_annotations(config, tiny_coco):
    tiny_coco.edit(lambda content: content.pop("annotations"))

    test_set = load_test_set(config, ground_truth=False)

    assert not test_set.annotated
    with pytest.raises(DataError):
        load_test_set(config, ground_truth=True)


def predict(config, persons, heatmap_fn=brightness):
    return predict_persons(heatmap_fn, persons, config, DistContext(0, 1, torch.device("cpu")), workers=0)


def test_predictions_are_in_the_order_of_the_persons(config):
    persons = load_test_set(config, ground_truth=True).persons
    shuffled = np.array([3, 0, 4, 2, 1])

    in_order, reordered = predict(config, persons), predict(config, persons.take(shuffled))

    np.testing.assert_array_equal(reordered.keypoints_image, in_order.keypoints_image[shuffled])
    np.testing.assert_array_equal(reordered.keypoint_scores, in_order.keypoint_scores[shuffled])
    np.testing.assert_array_equal(reordered.image_ids, persons.image_ids[shuffled])
    assert len({tuple(row) for row in in_order.keypoint_scores}) == len(persons)  # all different


def test_predictions_have_the_areas_of_the_padded_views(config):
    persons = load_test_set(config, ground_truth=False).persons

    expected = [box_to_view(bbox, config.input.aspect_ratio, 1.25).area for bbox in persons.bboxes_xywh]

    np.testing.assert_allclose(predict(config, persons).areas, expected)


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_predictions_do_not_depend_on_the_batch_size(batch_size, config):
    persons = load_test_set(config, ground_truth=True).persons

    expected, batched = predict(config, persons), predict(with_test(config, batch_size=batch_size), persons)

    np.testing.assert_array_equal(batched.keypoints_image, expected.keypoints_image)
    np.testing.assert_array_equal(batched.keypoint_scores, expected.keypoint_scores)


@pytest.mark.parametrize(("flip", "calls"), [(True, 2), (False, 1)])
def test_flip_average_runs_a_second_forward_pass(flip, calls, config):
    persons = load_test_set(config, ground_truth=True).persons
    inputs = []

    def record_inputs(images):
        inputs.append(images)
        return brightness(images)

    predict(with_test(config, flip=flip), persons, record_inputs)

    assert len(inputs) == calls
    if flip:
        torch.testing.assert_close(inputs[1], inputs[0].flip(-1), rtol=0, atol=0)


def test_oks_nms_removes_a_duplicate_box(config, tiny_coco):
    boxes = json.loads(tiny_coco.detections.read_text())
    tiny_coco.detections.write_text(json.dumps([*boxes, {**boxes[0], "score": 0.3}]))
    test_set = load_test_set(config, ground_truth=False)

    results = make_results(predict(config, test_set.persons), test_set, config)

    assert len(test_set.persons) == 5
    assert len(results) == 4


def test_without_boxes_ap_is_zero_with_a_warning(config, tiny_coco, caplog):
    tiny_coco.detections.write_text("[]")
    test_set = load_test_set(config, ground_truth=False)

    results = make_results(predict(config, test_set.persons), test_set, config)
    metrics = score_results(results, test_set, config)

    assert results == []
    assert metrics.AP == 0
    assert "no results" in caplog.text


def test_persons_of_another_category_id_are_evaluated(config, tiny_coco):
    def renumber(content):
        for record in content["annotations"]:
            record["category_id"] = 7
        content["categories"][0]["id"] = 7

    tiny_coco.edit(renumber)
    test_set = load_test_set(config, ground_truth=True)
    predictions = predict(config, test_set.persons)
    ground_truth = replace(predictions, keypoints_image=test_set.persons.keypoints_image)

    # Unlabeled keypoints are all at (0, 0), where OKS-NMS would find duplicates; a threshold of 1 disables it.
    results = make_results(ground_truth, test_set, with_test(config, nms_threshold=1.0))

    assert {result["category_id"] for result in results} == {7}
    assert pytest.approx(1) == score_results(results, test_set, config).AP


# --- exported models


@pytest.fixture(scope="module")
def model(tiny_config):
    torch.manual_seed(0)
    model = build_pose_net(tiny_config()).eval()
    torch.nn.init.normal_(model.head[-1].weight)
    return model


@pytest.fixture(scope="module")
def metadata(tiny_config):
    config = tiny_config()
    return ExportMetadata(config.input, config.keypoints, flip_shift=0, licence="MIT")


def export(path, model, metadata):
    with write_export(path, build_onnx(path, model, metadata, decodes=True), metadata):
        pass
    return path


def test_an_exported_model_predicts_as_in_pytorch_with_its_own_flip_average(
    suffix, model, metadata, tiny_config, dist, tmp_path
):
    config = tiny_config("test.flip=false", "test.flip_shift=1")
    persons = load_test_set(config, ground_truth=True).persons

    crops_to_heatmaps, exported_config = load_for_eval(config, export(tmp_path / f"model{suffix}", model, metadata))

    assert exported_config.test == config.test.model_copy(update={"flip": True, "flip_shift": 0})
    predictions = predict_crops(crops_to_heatmaps, persons, exported_config, dist, workers=0)
    expected = predict_persons(model.heatmaps, persons, exported_config, dist, workers=0)
    np.testing.assert_allclose(predictions.keypoint_scores, expected.keypoint_scores, rtol=1e-3)
    np.testing.assert_allclose(predictions.keypoints_image, expected.keypoints_image, atol=1e-2)


def test_an_exported_model_without_flip_average_disables_it_in_the_config(
    suffix, model, metadata, tiny_config, tmp_path
):
    path = export(tmp_path / f"model{suffix}", model, replace(metadata, flip_shift=None))

    assert load_for_eval(tiny_config("test.flip=true"), path)[1].test.flip is False


@pytest.mark.parametrize("suffix", [".onnx"], indirect=True)
def test_an_exported_model_with_another_input_or_skeleton_is_refused(suffix, model, metadata, tiny_config, tmp_path):
    path = export(tmp_path / "model.onnx", model, metadata)

    with pytest.raises(CheckpointError, match=r"model\.onnx: exported with another input than the config's"):
        load_for_eval(tiny_config("input.padding=1.5"), path)
    hand = SkeletonConfig(names=("left_tip", "right_tip"))
    with pytest.raises(CheckpointError, match="another skeleton"):
        load_for_eval(tiny_config().model_copy(update={"skeleton": hand}), path)


def test_the_decoding_of_the_config_is_used(config):
    persons = load_test_set(config, ground_truth=True).persons

    quarter, dark = (predict(with_test(config, decode=method), persons) for method in ("quarter", "dark"))

    assert (quarter.keypoints_image != dark.keypoints_image).any()
    np.testing.assert_array_equal(quarter.keypoint_scores, dark.keypoint_scores)
