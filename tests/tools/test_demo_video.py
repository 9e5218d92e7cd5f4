"""tools/demo_video.py from the command line."""

import json

import cv2
import numpy as np
import pytest

from pose.cli import run
from pose.errors import CheckpointError, ConfigError, MediaError, PoseError
from pose.inference.detectors import whole_frame
from pose.tools.demo_video import main
from pose.video.readers import open_source

WHOLE = ("--detector", "none")


def demo(*args: object) -> None:
    main([str(arg) for arg in args])


def test_a_video_with_boxes_gives_a_video_and_json(tmp_path, weights, video, capsys):
    boxes = tmp_path / "boxes.json"
    rows = [{"image_id": i, "category_id": 1, "bbox": [5, 5, 20, 30], "score": 0.9} for i in (1, 1, 2, 3)]
    boxes.write_text(json.dumps(rows))
    output, keypoints = tmp_path / "out.mp4", tmp_path / "out.json"
    demo("--weights", weights, "--input", video, "--output", output, "--boxes", boxes, "--json", keypoints)
    source = open_source(output)
    assert (source.fps, source.size_wh, source.count) == (12.5, (64, 48), 5)
    content = json.loads(keypoints.read_text())
    assert [len(frame["persons"]) for frame in content["frames"]] == [0, 2, 1, 1, 0]
    assert [[person["id"] for person in frame["persons"]] for frame in content["frames"]] == [
        [],
        [1, None],
        [1],
        [1],
        [],
    ]
    assert np.shape(content["frames"][3]["persons"][0]["keypoints"]) == (17, 3)
    assert f"{output}: 5 frames, 1 person; keypoints in {keypoints}" in capsys.readouterr().out


def test_no_track_writes_no_ids_and_says_how_many_people_are_in_a_frame(tmp_path, weights, video, capsys):
    options = ("--no-track", "--json", tmp_path / "out.json")
    demo("--weights", weights, "--input", video, "--output", tmp_path / "out.mp4", *options, *WHOLE)
    assert "out.mp4: 5 frames, up to 1 person at once" in capsys.readouterr().out
    frames = json.loads((tmp_path / "out.json").read_text())["frames"]
    assert all("id" not in person for frame in frames for person in frame["persons"])


def test_detect_every_runs_the_detector_less_often_and_needs_one(tmp_path, weights, video, monkeypatch):
    seen = []

    def load(*_args, **_options):
        return lambda images: seen.append(len(images)) or whole_frame(images)

    monkeypatch.setattr("pose.inference.find_detector.load_detector", load)
    demo("--weights", weights, "--input", video, "--output", tmp_path / "o.mp4", "--detect-every", 2, "--detector", "a")
    assert seen == [1, 1, 1]
    with pytest.raises(ConfigError, match="--detect-every: there is no detector"):
        demo(
            "--weights",
            weights,
            "--input",
            video,
            "--output",
            tmp_path / "o.mp4",
            "--detect-every",
            2,
            "--detector",
            "pose",
        )


def test_side_by_side_doubles_the_width_and_the_background_can_be_black(tmp_path, weights, video):
    output = tmp_path / "out.mp4"
    demo("--weights", weights, "--input", video, "--output", output, "--side-by-side", "--background", "black", *WHOLE)
    frames = list(open_source(output))
    assert {frame.size_wh for frame in frames} == {(128, 48)}
    assert frames[4].image[:, 8:56].mean() > 140
    assert np.median(frames[4].image[:, 72:120]) < 10


def test_detector_none_on_an_image_and_a_folder(tmp_path, weights):
    images = tmp_path / "images"
    images.mkdir()
    for name, size in (("a.png", (30, 40)), ("b.jpg", (50, 20))):
        cv2.imwrite(str(images / name), np.full((*size, 3), 128, np.uint8))
    demo(
        "--weights",
        weights,
        "--input",
        images / "a.png",
        "--output",
        tmp_path / "a.jpg",
        "--no-flip",
        "--bf16",
        *WHOLE,
    )
    demo("--weights", weights, "--input", images, "--output", tmp_path / "drawn", "--batch-frames", 1, *WHOLE)
    assert cv2.imread(str(tmp_path / "a.jpg")).shape == (30, 40, 3)
    assert cv2.imread(str(tmp_path / "drawn/b.jpg")).shape == (50, 20, 3)
    assert (cv2.imread(str(tmp_path / "drawn/a.png")) != 128).any()


def test_tracking_finds_no_person_in_an_empty_video(tmp_path, video, capsys):
    output = tmp_path / "out.mp4"
    demo("--input", video, "--output", output)
    assert f"{output}: 5 frames, 0 people" in capsys.readouterr().out


def test_smooth_changes_keypoints_after_the_first_frame(tmp_path, weights, video, monkeypatch):
    monkeypatch.setattr("pose.video.smoothing.MIN_KEYPOINT_SCORE", -1.0)  # the scores of this model are low
    keypoints = []
    for options in ((), ("--smooth",)):
        demo(
            "--weights",
            weights,
            "--input",
            video,
            "--output",
            tmp_path / "o.mp4",
            "--json",
            tmp_path / "o.json",
            *WHOLE,
            *options,
        )
        frames = json.loads((tmp_path / "o.json").read_text())["frames"]
        keypoints.append(np.array([frame["persons"][0]["keypoints"] for frame in frames]))
    unsmoothed, smoothed = keypoints
    np.testing.assert_array_equal(smoothed[0], unsmoothed[0])
    np.testing.assert_array_equal(smoothed[..., 2], unsmoothed[..., 2])
    assert (smoothed[1:, :, :2] != unsmoothed[1:, :, :2]).any()


def test_an_exported_model_matches_its_weights_and_fixes_flip(suffix, tmp_path, weights, video):
    from pose.tools.export import main as export

    model, files = tmp_path / f"model{suffix}", [tmp_path / "from_weights.json", tmp_path / "from_exported.json"]
    export(["--weights", str(weights), "--output", str(model), "--flip"])
    for source, keypoints in zip((weights, model), files, strict=True):
        demo("--weights", source, "--input", video, "--output", tmp_path / "o.mp4", "--json", keypoints, *WHOLE)
    from_weights, from_exported = (
        [person["keypoints"] for frame in json.loads(file.read_text())["frames"] for person in frame["persons"]]
        for file in files
    )
    assert np.shape(from_exported) == (5, 17, 3)
    np.testing.assert_allclose(np.array(from_exported)[..., 2], np.array(from_weights)[..., 2], atol=1e-3)
    demo("--weights", model, "--input", video, "--output", tmp_path / "tracked.mp4")
    with pytest.raises(ConfigError, match="--no-flip: the flip averaging of an exported model is fixed"):
        demo("--weights", model, "--input", video, "--output", tmp_path / "out.mp4", "--no-flip")
    if suffix == ".onnx":
        with pytest.raises(PoseError, match=r"bf16: model\.onnx is an ONNX model, which computes in float32"):
            demo("--weights", model, "--input", video, "--output", tmp_path / "out.mp4", "--bf16")


def test_max_frames_ends_the_video_early(tmp_path, weights, video):
    demo("--weights", weights, "--input", video, "--output", tmp_path / "out.avi", "--max-frames", 2)
    assert len(list(open_source(tmp_path / "out.avi"))) == 2


def test_mistakes_are_refused_before_anything_is_written(tmp_path, weights, video):
    before = video.read_bytes()
    with pytest.raises(MediaError, match="is an input"):
        demo("--weights", weights, "--input", video, "--output", video)
    with pytest.raises(MediaError, match="no such video"):
        demo("--weights", weights, "--input", tmp_path / "no.mp4", "--output", tmp_path / "out.mp4")
    with pytest.raises(MediaError, match="no such detector file"):
        demo("--weights", weights, "--input", video, "--output", tmp_path / "out.mp4", "--detector", "no.onnx")
    with pytest.raises(CheckpointError):
        demo("--weights", tmp_path / "no.pt", "--input", video, "--output", tmp_path / "out.mp4")
    assert video.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


@pytest.mark.parametrize(
    ("broken", "message"), [(b"no image", r"b\.png: not an image"), (None, r"b\.png is 50x40, the video is 64x48")]
)
def test_an_error_after_the_first_frames_leaves_no_output_file(tmp_path, weights, broken, message):
    images = tmp_path / "images"
    images.mkdir()
    for name, size_hw in (("a.png", (48, 64)), ("b.png", (40, 50))):
        cv2.imwrite(str(images / name), np.full((*size_hw, 3), 128, np.uint8))
    if broken:
        (images / "b.png").write_bytes(broken)
    with pytest.raises(MediaError, match=message):
        demo(
            *("--weights", weights, "--input", images, *WHOLE, "--batch-frames", 1),
            *("--output", tmp_path / "out.mp4", "--json", tmp_path / "out.json"),
        )
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


@pytest.mark.parametrize("extra", [["--boxes", "a.json", "--detector", "none"], ["--batch-frames", "0"]])
def test_invalid_arguments_exit_with_status_2(extra):
    with pytest.raises(SystemExit) as caught:
        run(main, ["--weights", "w", "--input", "a", "--output", "b", *extra])
    assert caught.value.code == 2


def test_help_shows_an_example(capsys):
    with pytest.raises(SystemExit) as caught:
        demo("--help")
    assert caught.value.code == 0
    assert "dyconv-pose demo-video --weights best.pt --input" in capsys.readouterr().out


def test_a_real_video_with_a_real_detector(tmp_path, weights, shared):
    """Five frames of a street with several persons."""
    clip = shared / "data/video/mmpose_demo.mp4"
    detector = shared / "data/detector/yolox_nano.onnx"
    arguments = ["--weights", weights, "--detector", detector, "--json", tmp_path / "out.json", "--no-flip"]
    demo("--input", clip, "--output", tmp_path / "out.webm", *arguments)
    source = open_source(tmp_path / "out.webm")
    assert (source.fps, source.size_wh, len(list(source))) == (5.0, (960, 540), 5)
    assert all(len(frame["persons"]) >= 5 for frame in json.loads((tmp_path / "out.json").read_text())["frames"])
