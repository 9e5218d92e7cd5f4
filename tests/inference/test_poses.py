"""`Poses`: selection, other formats against their own readers, and drawing."""

import contextlib
import csv
import io
import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
from pycocotools import coco

from pose.errors import DataError, MediaError, PoseError
from pose.inference.formats import csv_header
from pose.inference.poses import Pose, Poses
from pose.inference.visualize import LEFT, draw_poses, person_color
from pose.skeleton import COCO, make_skeleton

HANDS = make_skeleton(["left_hand", "right_hand", "head"], [(0, 2), (1, 2)])


def three_persons(**fields) -> Poses:
    """Three persons with hands at 40 and 120 pixels from their left and top, 200 pixels apart."""
    body = np.array([[40, 40], [120, 40], [80, 120]], np.float32)
    keypoints = body + np.array([[0, 0], [200, 0], [400, 0]], np.float32)[:, None]
    scores = np.array([[0.9, 0.6, 0.3], [0.8, 0.8, 0.8], [0.1, 0.2, 0.9]], np.float32)
    boxes = np.array([[20, 20, 120, 120], [220, 20, 120, 120], [420, 20, 120, 120]], np.float32)
    return replace(Poses(keypoints, scores, boxes, skeleton=HANDS), **fields)


def nobody() -> Poses:
    return three_persons()[:0]


# --- construction


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"keypoints": np.zeros((3, 3, 3))}, r"keypoints: expected an array of numbers of shape \(3, 3, 2\)"),
        ({"keypoints": np.full((3, 3, 2), np.nan)}, "keypoints: NaN or infinite"),
        ({"keypoints": np.zeros((3, 3, 2), complex)}, "keypoints: .* got complex128"),
        ({"scores": np.zeros((3, 2))}, r"scores: .* shape \(3, 3\), got float64 \(3, 2\)"),
        ({"scores": np.full((3, 3), np.inf)}, "scores: NaN or infinite"),
        ({"scores": np.ma.array(np.zeros((3, 3)), mask=True)}, "scores: expected an array"),
        ({"scores": np.full((3, 3), "0.9")}, "scores: .* got <U3"),
        ({"scores": [[0.5] * 3] * 3}, "scores: .* got list"),
        ({"bboxes_xywh": np.zeros((2, 4))}, "bboxes_xywh: "),
        ({"bboxes_xywh": np.zeros((3, 4), bool)}, "bboxes_xywh: .* got bool"),
        ({"ids": np.array([1, 2])}, r"ids: expected an array of integers of shape \(3,\)"),
        ({"ids": np.array([1.0, 2.0, 3.0])}, "ids: .* got float64"),
        ({"ids": np.array([1, 2, None])}, "ids: .* got object"),
        ({"bbox_scores": np.array([0.1, np.nan, 0.3])}, "bbox_scores: NaN"),
        ({"skeleton": COCO}, "expected 17 keypoints as in the skeleton"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_arrays_of_another_type_shape_or_value_are_refused(fields, message):
    with pytest.raises(DataError, match=message) as caught:
        three_persons(**fields)
    assert len(str(caught.value).splitlines()) == 1


# --- selection


def test_len_is_the_number_of_persons_and_iteration_gives_each():
    poses = three_persons(ids=np.array([7, 3, 9]))
    persons = list(poses)
    assert len(poses) == len(persons) == 3
    assert all(isinstance(person, Pose) for person in persons)
    assert [person.id for person in persons] == [7, 3, 9]
    for index, person in enumerate(persons):
        np.testing.assert_array_equal(person.keypoints, poses.keypoints[index])
        np.testing.assert_array_equal(person.scores, poses.scores[index])
        np.testing.assert_array_equal(person.bbox_xywh, poses.bboxes_xywh[index])
        assert person.names == HANDS.names
        assert person.score == pytest.approx(poses.person_scores[index])
    assert list(nobody()) == []


def test_a_person_without_tracking_has_no_id():
    assert three_persons()[0].id is None


@pytest.mark.parametrize("index", [0, -1, np.int64(2), True])
def test_an_integer_selects_a_person_as_in_a_list(index):
    poses = three_persons()
    np.testing.assert_array_equal(poses[index].keypoints, poses.keypoints[int(index)])


@pytest.mark.parametrize("index", [3, -4, 2**63])
def test_a_person_that_is_not_there_is_an_index_error(index):
    with pytest.raises(IndexError):
        three_persons()[index]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (slice(1, None), [1, 2]),
        ([2, 0], [2, 0]),
        ([], []),
        ([True, False, True], [0, 2]),
        (np.array([False, False, True]), [2]),
        (np.array([1]), [1]),
    ],
    ids=str,
)
def test_slices_indices_and_masks_select_persons_in_every_field(rows, expected):
    poses = three_persons(ids=np.array([7, 3, 9]), bbox_scores=np.array([0.5, 0.6, 0.7]), source="a.jpg")
    selected = poses[rows]
    for field in ("keypoints", "scores", "bboxes_xywh", "ids", "bbox_scores"):
        np.testing.assert_array_equal(getattr(selected, field), getattr(poses, field)[expected], err_msg=field)
    assert (selected.skeleton, selected.source) == (HANDS, "a.jpg")


def test_a_keypoint_name_selects_x_y_and_score_of_all_persons():
    poses = three_persons()
    assert poses["right_hand"].shape == (3, 3)
    np.testing.assert_allclose(poses["right_hand"][1], [320, 40, 0.8])
    np.testing.assert_allclose(poses[1]["right_hand"], [320, 40, 0.8])
    assert nobody()["head"].shape == (0, 3)


@pytest.mark.parametrize("selected", [three_persons(), three_persons()[0]], ids=["poses", "pose"])
def test_an_unknown_keypoint_name_is_an_error_that_suggests_the_nearest(selected):
    with pytest.raises(DataError, match="left_hand, right_hand, head; did you mean 'left_hand'"):
        selected["left_hnd"]


def test_person_scores_are_mean_keypoint_scores_times_box_scores():
    means = [0.6, 0.8, 0.4]
    np.testing.assert_allclose(three_persons().person_scores, means, rtol=1e-6)
    box_scores = np.array([0.5, 1.0, 0.25])
    np.testing.assert_allclose(three_persons(bbox_scores=box_scores).person_scores, [0.3, 0.8, 0.1], rtol=1e-6)
    assert nobody().person_scores.shape == (0,)


def test_poses_are_immutable():
    with pytest.raises(AttributeError):
        three_persons().scores = np.zeros((3, 3))


def test_poses_without_a_skeleton_say_so_where_names_are_needed():
    poses = Poses(np.zeros((1, 3, 2)), np.zeros((1, 3)), np.zeros((1, 4)))
    for use in (lambda: poses.names, poses.to_csv, poses.to_dict, lambda: poses["head"]):
        with pytest.raises(DataError, match="made without a skeleton"):
            use()


def test_the_repr_is_one_short_line():
    assert repr(three_persons(source="a.jpg")) == (
        "<Poses: 3 persons with 3 keypoints, scores [0.60, 0.80, 0.40], source a.jpg>"
    )
    assert repr(nobody()) == "<Poses: 0 persons with 3 keypoints, scores []>"


# --- other formats


def test_coco_rows_round_trip_through_pycocotools(tmp_path):
    rng = np.random.default_rng(0)
    keypoints, scores = rng.uniform(0, 500, (2, 17, 2)).astype(np.float32), rng.uniform(0, 1, (2, 17))
    poses = Poses(keypoints, scores.astype(np.float32), np.ones((2, 4), np.float32), skeleton=COCO)
    category = {"id": 1, "name": "person", "keypoints": list(COCO.names)}
    (tmp_path / "truth.json").write_text(
        json.dumps({"images": [{"id": 139}], "annotations": [], "categories": [category]})
    )
    (tmp_path / "results.json").write_text(json.dumps(poses.to_coco(139)))
    with contextlib.redirect_stdout(io.StringIO()):
        loaded = coco.COCO(str(tmp_path / "truth.json")).loadRes(str(tmp_path / "results.json"))
    rows = loaded.loadAnns(loaded.getAnnIds(imgIds=[139], catIds=[1]))
    assert len(rows) == 2
    for row, person, person_scores, score in zip(rows, keypoints, scores, poses.person_scores, strict=True):
        numbers = np.array(row["keypoints"]).reshape(17, 3)
        np.testing.assert_allclose(numbers[:, :2], person, atol=6e-4)
        np.testing.assert_allclose(numbers[:, 2], person_scores, atol=6e-5)
        assert row["score"] == pytest.approx(score, abs=1e-7)


def test_nobody_is_no_coco_row():
    assert nobody().to_coco(1) == []


def test_a_coco_row_has_the_category_that_is_given():
    assert {row["category_id"] for row in three_persons().to_coco(np.int64(5), category_id=3)} == {3}
    json.dumps(three_persons().to_coco(np.int64(5)))  # no NumPy number is left


@pytest.mark.parametrize("wrong", [0.5, 1e-320, 3.0, "3", None])
def test_a_coco_id_that_is_no_integer_is_refused(wrong):
    with pytest.raises(DataError, match="image_id: expected an integer, got"):
        three_persons().to_coco(wrong)
    with pytest.raises(DataError, match="category_id: expected an integer, got"):
        nobody().to_coco(1, wrong)


def test_csv_is_read_back_by_the_csv_module(tmp_path):
    poses = three_persons(ids=np.array([7, 3, 9]))
    text = poses.to_csv(tmp_path / "poses.csv")
    assert (tmp_path / "poses.csv").read_text() == text
    rows = list(csv.DictReader(io.StringIO(text)))
    assert list(rows[0]) == csv_header(HANDS.names)
    assert [row["id"] for row in rows] == ["7", "3", "9"]
    for row, person in zip(rows, poses, strict=True):
        assert [float(row[f"bbox_{side}"]) for side in "xywh"] == pytest.approx(person.bbox_xywh)
        assert float(row["score"]) == pytest.approx(person.score, abs=1e-4)
        for name in HANDS.names:
            assert [float(row[f"{name}_{part}"]) for part in ("x", "y", "score")] == pytest.approx(person[name])


def test_csv_of_nobody_is_the_header_and_an_unknown_id_is_empty():
    assert nobody().to_csv() == ",".join(csv_header(HANDS.names)) + "\n"
    assert next(csv.DictReader(io.StringIO(three_persons().to_csv())))["id"] == ""


def test_names_with_commas_stay_one_column():
    odd = make_skeleton(['tip, "left"', "tail", "x"])
    rows = list(csv.DictReader(io.StringIO(three_persons(skeleton=odd).to_csv())))
    assert rows[0]['tip, "left"_x'] == "40.0"


def test_dict_is_plain_json_with_ids_and_source():
    content = json.loads(json.dumps(three_persons(ids=np.array([7, 3, 9]), source="a.jpg").to_dict()))
    assert (content["source"], content["keypoint_names"]) == ("a.jpg", list(HANDS.names))
    person = {"id": 7, "bbox_xywh": [20, 20, 120, 120], "score": 0.6}
    assert content["persons"][0] == person | {"keypoints": [[40, 40, 0.9], [120, 40, 0.6], [80, 120, 0.3]]}
    assert "id" not in three_persons().to_dict()["persons"][0]
    assert nobody().to_dict()["persons"] == []


def test_supervision_reads_the_same_persons():
    supervision = pytest.importorskip("supervision", reason="needs the package supervision")
    poses = three_persons(ids=np.array([7, 3, 9]))
    points = poses.to_supervision()
    assert isinstance(points, supervision.KeyPoints)
    assert len(points) == 3
    np.testing.assert_array_equal(points.xy, poses.keypoints)
    np.testing.assert_array_equal(points.keypoint_confidence, poses.scores)
    np.testing.assert_allclose(points.detection_confidence, poses.person_scores)
    np.testing.assert_array_equal(points.data["tracker_id"], [7, 3, 9])
    detections = points.as_detections()  # their own conversion: boxes around the keypoints
    np.testing.assert_array_equal(detections.xyxy[1], [240, 40, 320, 120])
    drawn = supervision.VertexAnnotator(radius=5).annotate(np.zeros((160, 560, 3), np.uint8), points)
    assert drawn[40, 40].any()
    assert not drawn[5, 5].any()
    assert len(nobody().to_supervision()) == 0


def test_without_supervision_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "supervision", None)
    with pytest.raises(PoseError, match=r"dyconv-pose\[supervision\]"):
        three_persons().to_supervision()


# --- images


def test_plot_draws_keypoints_where_they_are():
    image = np.full((160, 560, 3), 90, np.uint8)
    drawn = three_persons().plot(image)
    np.testing.assert_array_equal(image, 90)
    np.testing.assert_allclose(drawn[40, 240].astype(int), np.array(LEFT) * 0.9 + 9, atol=1)  # left hand of the second
    expected = draw_poses(image, three_persons(), HANDS)
    np.testing.assert_array_equal(drawn, expected)


def test_plot_reads_the_source_again_and_save_writes_the_drawing(tmp_path):
    image = np.full((160, 560, 3), 90, np.uint8)
    cv2.imwrite(str(tmp_path / "in.png"), image)
    poses = three_persons(source=tmp_path / "in.png")
    np.testing.assert_array_equal(poses.plot(), poses.plot(image))
    poses.save(tmp_path / "new" / "out.png", color="person")
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "new" / "out.png")), poses.plot(color="person"))


def test_plot_without_an_image_or_source_says_what_to_pass():
    with pytest.raises(DataError, match=r"call plot\(image\)"):
        three_persons().plot()


def test_save_never_overwrites_the_image_itself(tmp_path):
    path = tmp_path / "in.png"
    cv2.imwrite(str(path), np.full((160, 560, 3), 90, np.uint8))
    before = path.read_bytes()
    with pytest.raises(MediaError, match="is the image itself"):
        three_persons(source=path).save(tmp_path / "." / "in.png")
    with pytest.raises(MediaError, match="is the image itself"):
        three_persons().save(path, str(path))
    assert path.read_bytes() == before


def test_with_a_color_per_person_a_person_keeps_the_color_of_its_id():
    image = np.full((160, 560, 3), 90, np.uint8)
    poses = three_persons(ids=np.array([7, 3, 9]), scores=np.ones((3, 3)))
    drawn = draw_poses(image, poses, HANDS, color="person", opacity=1)
    colors = [tuple(drawn[40, x]) for x in (40, 240, 440)]
    assert len(set(colors)) == 3
    assert colors == [tuple(drawn[40, x]) for x in (120, 320, 520)]  # left and right hand have one color
    assert colors[1] == person_color(poses, 1) == person_color(poses[[1]], 0)
    in_other_order = draw_poses(image, poses[[2, 1, 0]], HANDS, color="person", opacity=1)
    np.testing.assert_array_equal(in_other_order, drawn)
