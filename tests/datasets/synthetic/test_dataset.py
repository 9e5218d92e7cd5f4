"""Files of the synthetic data set: layout, determinism, detector boxes, and existing folders."""

import contextlib
import hashlib
import io
import json
import multiprocessing
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pycocotools import coco
from pycocotools import mask as coco_mask
from pycocotools.cocoeval import COCOeval

from pose.datasets.synthetic import dataset as synthetic
from pose.datasets.synthetic.dataset import write_dataset
from pose.datasets.synthetic.scene import ScenePerson
from pose.errors import DataError

SMALL: dict[str, Any] = {"train_images": 3, "val_images": 30, "image_wh": (320, 240), "seed": 5}


def digest(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def read(root: Path, name: str) -> Any:
    return json.loads((root / "annotations" / name).read_text())


def overlap(a: list[float], b: list[float]) -> float:
    return float(coco_mask.iou(np.array([a]), np.array([b]), [0])[0, 0])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "synthetic"
    write_dataset(root, **SMALL)
    return root


@pytest.fixture(scope="module")
def val(root: Path) -> Any:
    return read(root, "person_keypoints_val.json")


@pytest.fixture(scope="module")
def api(root: Path) -> coco.COCO:
    with contextlib.redirect_stdout(io.StringIO()):
        return coco.COCO(str(root / "annotations" / "person_keypoints_val.json"))


def test_the_same_seed_writes_the_same_files(root: Path, tmp_path: Path) -> None:
    write_dataset(tmp_path / "again", **SMALL)
    assert digest(tmp_path / "again") == digest(root)


def test_another_seed_writes_other_images_and_train_differs_from_val(root: Path, tmp_path: Path) -> None:
    write_dataset(tmp_path / "other", **SMALL | {"seed": 6, "val_images": 3})
    first, other = digest(root), digest(tmp_path / "other")
    images = [name for name in other if name.endswith(".jpg")]
    assert len(images) == 6 and all(first[name] != other[name] for name in images)
    assert len(set(first.values())) == len(first)


def test_the_number_of_images_does_not_change_the_images(root: Path, tmp_path: Path) -> None:
    write_dataset(tmp_path / "fewer", **SMALL | {"val_images": 4})
    fewer = digest(tmp_path / "fewer")
    assert {name: digest(root)[name] for name in fewer if name.endswith(".jpg")} == {
        name: value for name, value in fewer.items() if name.endswith(".jpg")
    }


def test_images_have_the_annotated_size(root: Path, val: Any) -> None:
    assert len(val["images"]) == SMALL["val_images"]
    for image in val["images"][:3]:
        pixels = cv2.imread(str(root / "val" / image["file_name"]))
        assert pixels.shape == (image["height"], image["width"], 3) == (240, 320, 3)
        assert pixels.std() > 5


def test_every_annotation_has_cocos_keys_and_consistent_keypoints(val: Any) -> None:
    for annotation in val["annotations"]:
        keypoints = np.array(annotation["keypoints"]).reshape(17, 3)
        labeled = keypoints[:, 2] > 0
        assert set(keypoints[:, 2]) <= {0, 1, 2}
        assert annotation["num_keypoints"] == labeled.sum()
        assert (keypoints[~labeled] == 0).all()
        assert (keypoints[labeled, :2] >= 0).all() and (keypoints[labeled, :2] <= (319, 239)).all()
        assert annotation["area"] > 0 and annotation["category_id"] == 1
    assert len({annotation["id"] for annotation in val["annotations"]}) == len(val["annotations"])


def test_there_are_crowds_small_people_and_hidden_and_truncated_keypoints(val: Any) -> None:
    people = [a for a in val["annotations"] if not a["iscrowd"]]
    visibility = np.array([a["keypoints"][2::3] for a in people if a["num_keypoints"]])
    assert any(a["iscrowd"] and a["num_keypoints"] == 0 for a in val["annotations"])
    assert any(a["num_keypoints"] == 0 for a in people)
    assert {0, 1, 2} == set(visibility.ravel())
    assert 0.6 < (visibility == 2).mean() < 0.95


def test_a_box_contains_the_visible_keypoints(val: Any) -> None:
    for annotation in val["annotations"]:
        x, y, w, h = annotation["bbox"]
        keypoints = np.array(annotation["keypoints"]).reshape(17, 3)
        visible = keypoints[keypoints[:, 2] == 2, :2]
        assert (visible >= np.array([x, y]) - 0.5).all() and (visible <= np.array([x + w, y + h]) + 0.5).all()


def test_segmentations_cover_the_area_and_the_box(api: coco.COCO, val: Any) -> None:
    kinds = {type(a["segmentation"]) for a in val["annotations"] if a["iscrowd"]}
    assert kinds == {dict}
    for annotation in val["annotations"]:
        mask = api.annToMask(annotation)
        # a polygon connects the centers of the border pixels, so the border itself may be lost
        assert mask.sum() <= annotation["area"] * 1.2 + 8
        if annotation["iscrowd"]:
            assert mask.sum() == annotation["area"]
            assert list(coco_mask.toBbox(api.annToRLE(annotation))) == annotation["bbox"]
        elif annotation["area"] > 400:
            assert mask.sum() > 0.75 * annotation["area"]


def test_run_lengths_equal_pycocotools() -> None:
    rng = np.random.default_rng(0)
    for mask in (rng.random((7, 9)) < 0.5, np.ones((4, 3), bool), np.eye(5, dtype=bool)):
        encoded = synthetic._run_lengths(mask)
        decoded = coco_mask.decode(coco_mask.frPyObjects(encoded, *encoded["size"]))
        assert (decoded == mask).all()


def test_ground_truth_as_predictions_gives_ap_one(api: coco.COCO, val: Any) -> None:
    results = [
        {"image_id": a["image_id"], "category_id": 1, "keypoints": a["keypoints"], "score": 1.0}
        for a in val["annotations"]
        if a["num_keypoints"]
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(api, api.loadRes(results), "keypoints")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1.0)
    assert evaluation.stats[3] == pytest.approx(1.0) and evaluation.stats[4] == pytest.approx(1.0)


def test_detector_boxes_match_most_people_and_include_false_positives(root: Path, val: Any) -> None:
    detections = read(root, "person_detections_val.json")
    boxes: dict[int, list[list[float]]] = {}
    for detection in detections:
        boxes.setdefault(detection["image_id"], []).append(detection["bbox"])
    people = [a for a in val["annotations"] if a["num_keypoints"]]
    best = [max((overlap(a["bbox"], box) for box in boxes.get(a["image_id"], [])), default=0.0) for a in people]
    assert 0.8 < np.mean(np.array(best) > 0.5) < 1.0
    assert np.mean([value == 1 for value in best]) < 0.05
    truth: dict[int, list[list[float]]] = {}
    for annotation in val["annotations"]:
        truth.setdefault(annotation["image_id"], []).append(annotation["bbox"])
    false_positives = [d for d in detections if all(overlap(d["bbox"], b) < 0.1 for b in truth.get(d["image_id"], []))]
    assert false_positives and np.mean([d["score"] for d in false_positives]) < np.mean(
        [d["score"] for d in detections]
    )


def test_detector_boxes_are_inside_the_image_with_scores_between_0_and_1(root: Path) -> None:
    for detection in read(root, "person_detections_val.json"):
        x, y, w, h = detection["bbox"]
        assert x >= 0 and y >= 0 and w > 0 and h > 0 and x + w <= 320.01 and y + h <= 240.01
        assert 0 < detection["score"] <= 1


def test_misses_duplicates_and_false_positives_have_their_configured_rates() -> None:
    mask = np.zeros((240, 320), bool)
    mask[100:180, 100:140] = True
    person = ScenePerson(np.zeros((17, 2)), np.zeros(17, np.int64), mask)
    rng = np.random.default_rng(0)
    detections = [synthetic.noisy_detections(rng, [person], (320, 240)) for _ in range(2000)]
    mean = 1 - synthetic.MISS_PROBABILITY + synthetic.DUPLICATE_PROBABILITY + synthetic.FALSE_POSITIVES_MEAN
    assert np.mean([len(boxes) for boxes in detections]) == pytest.approx(mean, abs=0.06)
    confident = np.array([box for boxes in detections for box, score in boxes if score > 0.5])
    assert confident.mean(axis=0) == pytest.approx([100, 100, 40, 80], abs=0.5)


def test_a_second_call_writes_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic, "draw_scene", lambda *_: pytest.fail("drawn again"))
    write_dataset(root, **SMALL)


def test_other_parameters_replace_a_synthetic_data_set(tmp_path: Path) -> None:
    write_dataset(tmp_path / "set", **SMALL | {"val_images": 2})
    write_dataset(tmp_path / "set", **SMALL | {"val_images": 1})
    assert len(list((tmp_path / "set" / "val").iterdir())) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


@pytest.mark.parametrize("foreign", ["notes.txt", "annotations/person_keypoints_train.json"])
def test_a_folder_with_other_content_is_rejected_and_kept(tmp_path: Path, foreign: str) -> None:
    path = tmp_path / "mine" / foreign
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    with pytest.raises(DataError, match=r"not files of the synthetic data set.*choose another data\.root"):
        write_dataset(tmp_path / "mine", **SMALL)
    assert digest(tmp_path / "mine") == {foreign: hashlib.sha256(b"mine").hexdigest()}


def test_a_synthetic_data_set_with_an_added_file_is_not_replaced(tmp_path: Path) -> None:
    write_dataset(tmp_path / "set", **SMALL | {"val_images": 1, "train_images": 1})
    (tmp_path / "set" / "weights.pt").write_text("important")
    with pytest.raises(DataError, match=r"weights\.pt"):
        write_dataset(tmp_path / "set", **SMALL | {"val_images": 2})
    assert (tmp_path / "set" / "weights.pt").exists()


def test_an_empty_folder_is_used(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    write_dataset(tmp_path / "empty", **SMALL | {"val_images": 1, "train_images": 1})
    assert (tmp_path / "empty" / "train").is_dir()


def test_an_interrupted_call_leaves_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(synthetic, "_write_json", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_dataset(tmp_path / "set", **SMALL | {"val_images": 1, "train_images": 1})
    assert list(tmp_path.iterdir()) == []


def test_two_concurrent_processes_write_one_data_set(tmp_path: Path) -> None:
    parameters = SMALL | {"val_images": 4, "train_images": 4}
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=write_dataset, args=(tmp_path / "set",), kwargs=parameters) for _ in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    write_dataset(tmp_path / "once", **parameters)
    assert digest(tmp_path / "set") == digest(tmp_path / "once")


@pytest.mark.parametrize("invalid", [{"seed": -1}, {"train_images": 0}, {"image_wh": (320, 8)}])
def test_invalid_parameters_are_rejected(tmp_path: Path, invalid: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="synthetic data set: expected seed >= 0"):
        write_dataset(tmp_path / "set", **SMALL | invalid)
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_place_of_the_folder_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "set").write_text("")
    with pytest.raises(DataError, match="got a file"):
        write_dataset(tmp_path / "set", **SMALL)
