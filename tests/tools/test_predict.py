"""tools/predict.py from the command line."""

import contextlib
import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from pose import cli
from pose.inference.detectors import Detections
from pose.tools.predict import main
from pose.video.readers import open_source

TWO_BOXES = np.array([[2.0, 2, 20, 40], [30, 4, 20, 40]])


@pytest.fixture
def photos(tmp_path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("1.png", "2.jpg"):
        cv2.imwrite(str(folder / name), np.full((48, 64, 3), 128, np.uint8))
    return folder


@pytest.fixture
def two_people(monkeypatch) -> None:
    """A detector that finds two people in every image."""

    def load_detector(*_args, **_options):
        return lambda images: [Detections(TWO_BOXES, np.ones(2)) for _ in images]

    monkeypatch.setattr("pose.inference.find_detector.load_detector", load_detector)


@pytest.fixture
def predict(tmp_path, weights):
    def call(*arguments: object, output: Path | None = None) -> None:
        main(
            ["--weights", str(weights), "--no-flip", "--output", str(output or tmp_path / "out"), *map(str, arguments)]
        )

    return call


def names_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_images_give_drawn_images_and_one_json(tmp_path, photos, predict, two_people, capsys):
    predict(photos, "--detector", "any", "--keypoint-score", -1)
    out = tmp_path / "out"
    assert names_in(out) == {"1.png", "2.jpg", "photos.json"}
    assert (cv2.imread(str(out / "1.png")) != 128).any()
    frames = json.loads((out / "photos.json").read_text())["frames"]
    assert [(frame["file_name"], len(frame["persons"])) for frame in frames] == [("1.png", 2), ("2.jpg", 2)]
    assert "id" not in frames[0]["persons"][0]  # nobody is tracked from photo to photo
    assert capsys.readouterr().out == f"photos: 2 images, 4 people; saved {out}, {out / 'photos.json'}\n"


def test_a_video_counts_people_and_not_poses_and_numbers_them(tmp_path, video, predict, two_people, capsys):
    predict(video, "--detector", "any")
    out = tmp_path / "out"
    assert names_in(out) == {"in.mp4", "in.json"}
    source = open_source(out / "in.mp4")
    assert (source.fps, source.size_wh, source.count) == (12.5, (64, 48), 5)
    frames = json.loads((out / "in.json").read_text())["frames"]
    assert len(frames) == 5
    assert "in.mp4: 5 frames, 2 people; saved" in capsys.readouterr().out


def test_without_tracking_the_summary_does_not_claim_a_number_of_people(video, predict, two_people, capsys):
    predict(video, "--detector", "any", "--no-track")
    assert "5 frames, up to 2 people at once" in capsys.readouterr().out


def test_keypoints_are_saved_without_drawing(tmp_path, video, photos, predict, two_people, monkeypatch):
    monkeypatch.setattr("pose.video.pipeline.draw_poses", lambda *_, **__: pytest.fail("drawn"))
    predict(video, photos, "--detector", "any", "--save", "json,csv,coco")
    out = tmp_path / "out"
    formats = (".json", ".csv", "_coco.json")
    assert names_in(out) == {f"{name}{suffix}" for name in ("in", "photos") for suffix in formats}
    rows = list(csv.DictReader((out / "in.csv").open()))
    assert [row["frame"] for row in rows] == [str(frame) for frame in range(5) for _ in range(2)]
    assert {row["image_id"] for row in json.loads((out / "photos_coco.json").read_text())} == {1, 2}
    persons = json.loads((out / "in.json").read_text())["frames"][3]["persons"]
    assert [person["bbox_xywh"] for person in persons] == TWO_BOXES.tolist()
    assert [float(rows[6]["nose_x"]), float(rows[6]["nose_y"])] == persons[0]["keypoints"][0][:2]


def test_every_frame_of_a_video_can_be_an_image_and_nothing_can_be_saved(tmp_path, video, predict, two_people):
    predict(video, "--detector", "any", "--save", "image")
    assert names_in(tmp_path / "out") == {f"in/00000{index}.jpg" for index in range(5)}
    predict(video, "--detector", "any", "--save", "none", output=tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_detect_every_runs_the_detector_less_often(video, predict, monkeypatch):
    seen = []

    def load_detector(*_args, **_options):
        return lambda images: seen.append(len(images)) or [Detections(TWO_BOXES, np.ones(2)) for _ in images]

    monkeypatch.setattr("pose.inference.find_detector.load_detector", load_detector)
    predict(video, "--detector", "any", "--detect-every", 2, "--save", "none")
    assert seen == [1, 1, 1]


def test_show_opens_a_window_for_each_input_and_keeps_an_image(photos, video, predict, two_people, monkeypatch):
    events = []

    class FakeWindow(contextlib.AbstractContextManager):
        def __init__(self, title):
            self.image = None
            events.append(title)

        def __exit__(self, *_):
            events.append("close")

        def show(self):
            return False

        def wait(self):
            assert self.image.shape == (48, 64, 3)
            events.append("wait")

    monkeypatch.setattr("pose.video.window.Window", FakeWindow)
    predict(photos, video, "--detector", "any", "--save", "none", "--show")
    assert events == ["photos", "wait", "close", str(video), "close"]


def test_images_of_one_name_in_two_folders_do_not_overwrite_each_other(tmp_path, predict):
    for folder, value in (("a", 10), ("b", 200)):
        (tmp_path / folder).mkdir()
        cv2.imwrite(str(tmp_path / folder / "1.png"), np.full((48, 64, 3), value, np.uint8))
    predict(tmp_path / "a", tmp_path / "b", "--save", "image", "--detector", "pose")
    drawn = [cv2.imread(str(tmp_path / "out" / folder / "1.png")) for folder in ("a", "b")]
    assert [np.median(image) for image in drawn] == [10, 200]


def test_nobody_found_says_what_to_do_and_is_no_error(photos, predict, caplog, monkeypatch):
    predict(photos, "--save", "none", "--detector", "pose")
    assert "photos: nobody found; without a detector only a person who fills much" in caplog.text
    caplog.clear()
    monkeypatch.setattr(
        "pose.inference.find_detector.load_detector",
        lambda *_, **__: lambda images: [Detections(np.zeros((0, 4)), np.zeros(0)) for _ in images],
    )
    predict(photos, "--save", "none", "--detector", "any")
    assert "photos: nobody found; try a lower --score" in caplog.text


def test_everybody_found_gives_no_advice(photos, predict, two_people, caplog):
    predict(photos, "--save", "none", "--detector", "any")
    assert "found" not in caplog.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("photos", "--output", "photos"), "is an input of the same command"),
        (("photos/*.png", "--output", "photos", "--save", "image"), "is an input of the same command"),
        (("in.mp4", "--output", "."), "is an input of the same command"),
        (("no.jpg",), "no such video, image or folder"),
        (("photos", "--save", "video"), "draw it with --save image"),
        (("photos", "--save", "jsn"), "did you mean 'json'"),
        (("photos", "--weights", "no.pt"), r"no.pt"),
        (("photos", "--detector", "no.onnx"), "no such detector file"),
        (("in.mp4", "--detector", "pose", "--detect-every", "2"), "there is no detector to run less often"),
        (("photos", "in.mp4", "--output", "in.mp4"), "in.mp4"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_written(
    tmp_path, video, photos, weights, refusal, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    before = {name: (tmp_path / name).read_bytes() for name in names_in(tmp_path)}
    line = refusal(lambda: cli.run(main, ["--weights", str(weights), *arguments]))
    assert message in line
    assert {name: (tmp_path / name).read_bytes() for name in names_in(tmp_path)} == before


def test_help_shows_an_example_and_the_formats(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    assert "dyconv-pose predict photo.jpg" in capsys.readouterr().out


def test_weights_can_be_a_packaged_model_by_its_name(tmp_path, photos, two_people, capsys):
    main(["--weights", "default", "--no-flip", "--output", str(tmp_path / "out"), "--detector", "any", str(photos)])
    assert "2 images, 4 people" in capsys.readouterr().out
