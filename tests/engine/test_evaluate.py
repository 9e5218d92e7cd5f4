"""From person boxes to AP, with a stand-in for the model: brightness at a quarter of the input's size."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from pose.config.pose import DataConfig
from pose.engine.distributed import DistContext
from pose.engine.evaluate import load_test_set, make_results, predict_persons, score_results
from pose.errors import DataError
from pose.geometry import box_to_view


def brightness(images: torch.Tensor) -> torch.Tensor:
    """(N, 3, H, W) to (N, 17, H / 4, W / 4), another shade for each keypoint; it knows of no batch."""
    shades = torch.linspace(0.5, 1.5, 17)[:, None, None]
    return F.avg_pool2d(images.mean(dim=1, keepdim=True), 4) * shades


@pytest.fixture
def config(tiny_config, tiny_coco):
    """The hand-made data set as the one to validate on."""
    data = DataConfig(
        root=tiny_coco.images.parent,
        val_annotations=tiny_coco.annotations.name,
        val_images=tiny_coco.images.name,
        val_detections=tiny_coco.detections.name,
    )
    return tiny_config().model_copy(update={"data": data})


def with_test(config, **options):
    return config.model_copy(update={"test": config.test.model_copy(update=options)})


def test_by_default_a_detectors_boxes_are_looked_in_and_named(config):
    test_set = load_test_set(config, ground_truth=False)

    assert test_set.boxes == "detector boxes of boxes.json"
    assert len(test_set.persons) == 4
    assert test_set.annotated
    np.testing.assert_allclose(test_set.persons.scores, [0.9, 0.6, 0.95, 0.1])


def test_ground_truth_boxes_are_those_of_annotated_persons(config):
    test_set = load_test_set(config, ground_truth=True)

    assert test_set.boxes == "ground-truth boxes"
    assert sorted(test_set.persons.ids) == [11, 12, 21, 22, 31]
    assert set(test_set.persons.scores) == {1.0}


def test_other_boxes_replace_the_configs(config, tmp_path):
    boxes = [{"image_id": 3, "category_id": 1, "bbox": [0, 0, 50, 90], "score": 0.5}]
    (tmp_path / "mine.json").write_text(json.dumps(boxes))

    test_set = load_test_set(config, False, tmp_path / "mine.json")

    assert test_set.boxes == "detector boxes of mine.json"
    np.testing.assert_array_equal(test_set.persons.bboxes_xywh, [[0, 0, 50, 90]])


def test_weak_boxes_are_left_out_by_the_threshold(config):
    test_set = load_test_set(with_test(config, box_threshold=0.6), ground_truth=False)

    assert sorted(test_set.persons.scores) == [0.6, 0.9, 0.95]


def test_missing_boxes_are_the_users_mistake(config, tiny_coco):
    tiny_coco.detections.unlink()

    with pytest.raises(DataError, match=r"boxes\.json"):
        load_test_set(config, ground_truth=False)


def test_a_test_set_without_annotations_is_known_as_such(config, tiny_coco):
    tiny_coco.edit(lambda content: content.pop("annotations"))

    test_set = load_test_set(config, ground_truth=False)

    assert not test_set.annotated
    with pytest.raises(DataError):
        load_test_set(config, ground_truth=True)


def predict(config, persons, heatmap_fn=brightness, alone=DistContext(0, 1, torch.device("cpu"))):  # noqa: B008
    return predict_persons(heatmap_fn, persons, config, alone, workers=0)


def test_predictions_stand_in_the_order_of_the_persons(config):
    persons = load_test_set(config, ground_truth=True).persons
    shuffled = np.array([3, 0, 4, 2, 1])

    straight, other = predict(config, persons), predict(config, persons.take(shuffled))

    np.testing.assert_array_equal(other.keypoints_image, straight.keypoints_image[shuffled])
    np.testing.assert_array_equal(other.keypoint_scores, straight.keypoint_scores[shuffled])
    np.testing.assert_array_equal(other.image_ids, persons.image_ids[shuffled])
    assert len({tuple(row) for row in straight.keypoint_scores}) == len(persons)  # no two are alike


def test_areas_are_those_of_the_padded_views(config):
    persons = load_test_set(config, ground_truth=False).persons

    expected = [box_to_view(bbox, config.input.aspect_ratio, 1.25).area for bbox in persons.bboxes_xywh]

    np.testing.assert_allclose(predict(config, persons).areas, expected)


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_the_batch_size_changes_nothing(batch_size, config):
    persons = load_test_set(config, ground_truth=True).persons

    whole, parts = predict(config, persons), predict(with_test(config, batch_size=batch_size), persons)

    np.testing.assert_array_equal(parts.keypoints_image, whole.keypoints_image)
    np.testing.assert_array_equal(parts.keypoint_scores, whole.keypoint_scores)


@pytest.mark.parametrize(("flip", "calls"), [(True, 2), (False, 1)])
def test_the_flip_average_costs_a_second_look(flip, calls, config):
    persons = load_test_set(config, ground_truth=True).persons
    seen = []

    def counting(images):
        seen.append(images)
        return brightness(images)

    predict(with_test(config, flip=flip), persons, counting)

    assert len(seen) == calls
    if flip:
        torch.testing.assert_close(seen[1], seen[0].flip(-1), rtol=0, atol=0)


def test_a_person_found_twice_is_kept_once(config, tiny_coco):
    boxes = json.loads(tiny_coco.detections.read_text())
    tiny_coco.detections.write_text(json.dumps([*boxes, {**boxes[0], "score": 0.3}]))
    test_set = load_test_set(config, ground_truth=False)

    results = make_results(predict(config, test_set.persons), test_set, config)

    assert len(test_set.persons) == 5
    assert len(results) == 4


def test_without_boxes_ap_is_zero_and_said_so(config, tiny_coco, caplog):
    tiny_coco.detections.write_text("[]")
    test_set = load_test_set(config, ground_truth=False)

    results = make_results(predict(config, test_set.persons), test_set, config)
    metrics = score_results(results, test_set, config)

    assert results == []
    assert metrics.AP == 0
    assert "no results" in caplog.text


def test_persons_of_another_category_id_are_measured_as_such(config, tiny_coco):
    def renumber(content):
        for record in content["annotations"]:
            record["category_id"] = 7
        content["categories"][0]["id"] = 7

    tiny_coco.edit(renumber)
    test_set = load_test_set(config, ground_truth=True)
    predictions = predict(config, test_set.persons)
    # Unlabelled keypoints are zeros; nothing is dropped for being alike there.
    perfect = replace(predictions, keypoints_image=test_set.persons.keypoints_image)

    results = make_results(perfect, test_set, with_test(config, nms_threshold=1.0))

    assert {result["category_id"] for result in results} == {7}
    assert pytest.approx(1) == score_results(results, test_set, config).AP
