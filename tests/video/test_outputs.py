"""Outputs of a command: CSV and COCO files against their readers, and which files an input gives."""

import contextlib
import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools import coco

from pose.errors import MediaError
from pose.inference.poses import Poses
from pose.skeleton import COCO
from pose.video.inputs import Input
from pose.video.outputs import (
    open_coco_writer,
    open_csv_writer,
    open_outputs,
    output_paths,
    parse_formats,
    written_files,
)
from pose.video.readers import Frame, FrameSource

IMAGE = np.zeros((48, 64, 3), np.uint8)
PHOTOS = Input("photos", (Path("/in/1.png"), Path("/in/2.png")), ("1.png", "2.png"))
STREET = Input("street", (Path("/in/street.mp4"),))


def poses_of(count: int, ids=None) -> Poses:
    keypoints = np.arange(count * 34, dtype=np.float32).reshape(count, 17, 2) + 0.25
    return Poses(keypoints, np.full((count, 17), 0.5, np.float32), np.ones((count, 4), np.float32), COCO, ids)


def test_csv_has_a_row_per_person_and_frame(tmp_path):
    with open_csv_writer(tmp_path / "out.csv", COCO.names) as write:
        write(Frame(0, IMAGE, 0, "000000.jpg", 0.0), poses_of(2, np.array([3, 0])), np.array([0.25, 0.75]))
        write(Frame(1, IMAGE, 1, "000001.jpg", 0.04), poses_of(0), np.array([]))
        write(Frame(2, IMAGE, 2, "a, b.jpg"), poses_of(1), np.array([0.5]))
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text())))
    assert [(r["frame"], r["time_s"], r["file_name"]) for r in rows] == [
        ("0", "0.0", "000000.jpg"),
        ("0", "0.0", "000000.jpg"),
        ("2", "", "a, b.jpg"),
    ]
    assert [row["id"] for row in rows] == ["3", "", ""]
    assert [float(row["score"]) for row in rows] == [0.25, 0.75, 0.5]
    assert (float(rows[1]["nose_x"]), float(rows[1]["right_ankle_y"])) == (34.25, 67.25)


def test_coco_rows_load_in_pycocotools_with_the_ids_of_the_frames(tmp_path):
    with open_coco_writer(tmp_path / "out.json") as write:
        write(Frame(0, IMAGE, 139, "139.jpg"), poses_of(2), np.array([0.25, 0.75]))
        write(Frame(1, IMAGE, 7, "7.jpg"), poses_of(0), np.array([]))
        write(Frame(2, IMAGE, 8, "8.jpg"), poses_of(1), np.array([0.5]))
    category = {"id": 1, "name": "person", "keypoints": list(COCO.names)}
    truth = {"images": [{"id": 139}, {"id": 7}, {"id": 8}], "annotations": [], "categories": [category]}
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    with contextlib.redirect_stdout(io.StringIO()):
        loaded = coco.COCO(str(tmp_path / "truth.json")).loadRes(str(tmp_path / "out.json"))
    assert [len(loaded.getAnnIds(imgIds=[image_id])) for image_id in (139, 7, 8)] == [2, 0, 1]
    assert [row["score"] for row in loaded.loadAnns(loaded.getAnnIds(imgIds=[139]))] == [0.25, 0.75]
    np.testing.assert_array_equal(loaded.anns[2]["keypoints"][:3], [34.25, 35.25, 0.5])


def test_coco_without_persons_is_an_empty_list(tmp_path):
    with open_coco_writer(tmp_path / "out.json") as write:
        write(Frame(0, IMAGE, 0, "a.jpg"), poses_of(0), np.array([]))
    assert json.loads((tmp_path / "out.json").read_text()) == []


def test_after_an_error_no_file_is_left(tmp_path):
    source = FrameSource("in.mp4", "video", iter(()), (64, 48), 10.0)
    paths = {name: tmp_path / f"out.{name}" for name in ("json", "csv", "coco")}
    with pytest.raises(RuntimeError), open_outputs(paths, source, COCO.names):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_each_writer_is_called_and_nothing_to_write_is_none(tmp_path):
    source = FrameSource("in.mp4", "video", iter(()), (64, 48), 10.0)
    paths = output_paths(tmp_path, STREET, ("image", "video", "json", "csv", "coco"))
    with open_outputs(paths, source, COCO.names) as (image_writer, pose_writer):
        image_writer(Frame(0, IMAGE, 0, "000000.jpg", 0.0), IMAGE)
        pose_writer(Frame(0, IMAGE, 0, "000000.jpg", 0.0), poses_of(1), np.array([0.5]))
    names = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert names == {"street/000000.jpg", "street.mp4", "street.json", "street.csv", "street_coco.json"}
    with open_outputs({}, source, COCO.names) as writers:
        assert writers == (None, None)


def test_files_of_an_input_are_known_before_it_is_read():
    out = Path("out")
    paths = output_paths(out, PHOTOS, ("image", "video", "csv"))
    assert written_files(PHOTOS, paths) == [out / "photos.csv", out / "1.png", out / "2.png"]
    assert written_files(STREET, output_paths(out, STREET, ("video", "json"))) == [
        out / "street.mp4",
        out / "street.json",
    ]


def test_formats_are_a_list_of_names():
    assert parse_formats("json, CSV") == ("json", "csv")
    assert parse_formats("none") == ()
    for text, message in (("jsn", "did you mean 'json'"), ("", "got ''"), ("none,csv", "none alone")):
        with pytest.raises(MediaError, match=message):
            parse_formats(text)
