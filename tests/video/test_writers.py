"""Writers: videos, images, folders and JSON; atomic, and never over an input."""

import json
import signal
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from pose.errors import MediaError
from pose.images import write_image
from pose.inference.poses import Poses
from pose.skeleton import COCO
from pose.video.encoding import h264_available
from pose.video.readers import Frame, FrameSource, open_source
from pose.video.writers import open_json_writer, open_writer


def video_source(size_wh=(64, 48), fps=28.051948, count=5, kind="video", location="in.mp4") -> FrameSource:
    def frames():
        for index in range(count):
            image = np.full((size_wh[1], size_wh[0], 3), 50 * index, np.uint8)
            yield Frame(index, image, index, f"{index:06d}.jpg", index / (fps or 1))

    return FrameSource(location, kind, frames(), size_wh, fps, None if kind == "camera" else range(count))


@pytest.fixture(params=["pyav", "opencv"])
def encoder(request, monkeypatch):
    """Write videos with each of the two encoders."""
    if request.param == "opencv":
        monkeypatch.setattr("pose.video.writers.h264_available", lambda: False)
    elif not h264_available():
        pytest.skip("needs PyAV with libx264")
    return request.param


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def copy(source: FrameSource, output: Path) -> None:
    with open_writer(output, source) as writer:
        for frame in source:
            writer(frame, frame.image)


@pytest.mark.usefixtures("encoder")
@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".webm", ".mkv", ".mov"])
def test_a_video_keeps_frame_rate_size_and_number_of_frames(tmp_path, suffix):
    output = tmp_path / f"new/out{suffix}"
    copy(video_source(), output)
    read = open_source(output)
    assert read.fps == pytest.approx(28.052, abs=1e-3)
    assert read.size_wh == (64, 48)
    levels = [round(float(frame.image.mean()) / 50) for frame in read]
    assert levels == [0, 1, 2, 3, 4]
    assert names_in(output.parent) == [output.name]


@pytest.mark.usefixtures("encoder")
@pytest.mark.parametrize("fps", [0.5, 29.97003, 66.6667, 119.88012, 240.0])
def test_a_video_keeps_unusual_frame_rates(tmp_path, fps):
    copy(video_source(fps=fps), tmp_path / "out.mp4")
    assert open_source(tmp_path / "out.mp4").fps == pytest.approx(fps, rel=1e-4)


@pytest.mark.usefixtures("encoder")
def test_odd_sizes_are_padded_to_even_ones(tmp_path):
    copy(video_source(size_wh=(65, 47)), tmp_path / "out.mp4")
    assert open_source(tmp_path / "out.mp4").size_wh == (66, 48)


def test_camera_frames_play_in_real_time(tmp_path, encoder):
    source = video_source(fps=10.0, kind="camera", location="0", size_wh=(64, 48))
    with open_writer(tmp_path / "out.mp4", source) as writer:
        for index, time_s in enumerate((0.0, 0.5, 1.0)):
            image = np.zeros((48, 64, 3), np.uint8)
            writer(Frame(index, image, index, "", time_s), image)
    times = [frame.time_s for frame in open_source(tmp_path / "out.mp4")]
    assert times[-1] == pytest.approx(1.0, abs=0.01)
    assert len(times) == (11 if encoder == "opencv" else 3)  # OpenCV repeats frames, PyAV writes their times


def test_a_frame_of_another_size_than_the_video_is_refused(tmp_path):
    small = Frame(0, np.zeros((8, 10, 3), np.uint8), 0, "a.png")
    with pytest.raises(MediaError, match=r"a\.png is 10x8, the video is 64x48"):
        copy(replace(video_source(), frames=iter([small])), tmp_path / "out.mp4")
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("output", ["out.mp4", "out.json"])
def test_an_interruption_keeps_the_old_file_and_leaves_no_partial_file(tmp_path, output):
    (tmp_path / output).write_bytes(b"old")
    source = video_source()
    opened = (
        open_writer(tmp_path / output, source)
        if output.endswith("mp4")
        else open_json_writer(tmp_path / output, source, COCO.names)
    )
    with pytest.raises(KeyboardInterrupt), opened:
        raise KeyboardInterrupt
    assert (tmp_path / output).read_bytes() == b"old"
    assert names_in(tmp_path) == [output]


@contextmanager
def file_size_limit(size: int):
    """Let writes beyond a file size fail, as on a full disk."""
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)


@pytest.mark.usefixtures("encoder")
@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".avi", ".webm"])
def test_a_full_disk_is_reported_and_leaves_the_older_file(tmp_path, capfd, suffix):
    source = video_source(count=40)
    (tmp_path / f"out{suffix}").write_bytes(b"older")
    noise = np.random.default_rng(0).integers(0, 255, (40, 48, 64, 3), np.uint8)

    def write():
        with file_size_limit(20_000), open_writer(tmp_path / f"out{suffix}", source) as writer:
            for index, image in enumerate(noise):
                writer(Frame(index, image, index, "", index / 28), image)

    with pytest.raises(MediaError, match=rf"out{suffix}: (cannot write|\d+ of 40 frames can be read back)"):
        write()
    assert names_in(tmp_path) == [f"out{suffix}"]
    assert (tmp_path / f"out{suffix}").read_bytes() == b"older"
    assert "WARN" not in capfd.readouterr().err


@pytest.mark.skipif(not h264_available(), reason="needs PyAV with libx264")
def test_a_size_that_h264_does_not_have_is_refused(tmp_path):
    with pytest.raises(MediaError, match=r"out\.mp4: FFmpeg cannot write H\.264 of 2x20000 pixels"):
        copy(video_source(size_wh=(1, 20_000), count=1), tmp_path / "out.mp4")
    assert names_in(tmp_path) == []


def test_the_size_of_a_video_can_differ_from_that_of_the_source(tmp_path):
    source = video_source()
    with open_writer(tmp_path / "out.mp4", source, (128, 48)) as writer:
        for frame in source:
            writer(frame, np.hstack([frame.image, frame.image]))
    assert open_source(tmp_path / "out.mp4").size_wh == (128, 48)


def test_one_image_becomes_one_image_and_several_frames_are_refused(tmp_path):
    copy(video_source(count=1, fps=None), tmp_path / "out.png")
    assert cv2.imread(str(tmp_path / "out.png")).shape == (48, 64, 3)
    with pytest.raises(MediaError, match="one image cannot hold"):
        open_writer(tmp_path / "out.png", video_source())


def test_a_folder_keeps_file_names(tmp_path):
    copy(video_source(count=2), tmp_path / "out")
    assert names_in(tmp_path / "out") == ["000000.jpg", "000001.jpg"]


def test_an_unknown_suffix_is_refused_with_a_list_of_known_ones(tmp_path):
    with pytest.raises(MediaError, match=r"\.gif files; expected \.mp4"):
        open_writer(tmp_path / "out.gif", video_source())


def test_no_output_overwrites_an_input(tmp_path):
    image_path = tmp_path / "a.png"
    write_image(image_path, np.zeros((4, 4, 3), np.uint8))
    before = image_path.read_bytes()
    for output in (image_path, tmp_path / "." / "a.png"):
        with pytest.raises(MediaError, match="is an input"):
            open_writer(output, open_source(image_path))
    with pytest.raises(MediaError, match="is an input"):
        open_writer(tmp_path, open_source(tmp_path))
    with pytest.raises(MediaError, match="is an input"):  # the drawn image would have the path of the input
        copy(open_source(image_path), tmp_path)
    assert image_path.read_bytes() == before


def poses_of(count: int) -> Poses:
    keypoints = np.full((count, 17, 2), 1.23, np.float32)
    return Poses(keypoints, np.full((count, 17), 0.5, np.float32), np.ones((count, 4), np.float32))


def test_json_contains_all_frames_and_persons(tmp_path):
    source = video_source(count=3)
    with open_json_writer(tmp_path / "out.json", source, COCO.names) as writer:
        for frame, count in zip(source, (0, 2, 1), strict=True):
            writer(frame, poses_of(count), np.full(count, 0.25))
    content = json.loads((tmp_path / "out.json").read_text())
    assert (content["fps"], content["size_wh"]) == (28.051948, [64, 48])
    assert content["keypoint_names"] == list(COCO.names)
    assert [len(frame["persons"]) for frame in content["frames"]] == [0, 2, 1]
    assert [frame["index"] for frame in content["frames"]] == [0, 1, 2]
    assert content["frames"][2]["time_s"] == pytest.approx(2 / 28.051948, abs=1e-4)
    person = content["frames"][2]["persons"][0]
    assert person == {"bbox_xywh": [1.0] * 4, "score": 0.25, "keypoints": [[1.23, 1.23, 0.5]] * 17}


def test_json_has_the_numbers_of_tracked_persons(tmp_path):
    source = video_source(count=1)
    with open_json_writer(tmp_path / "out.json", source, COCO.names) as writer:
        writer(next(iter(source)), replace(poses_of(2), ids=np.array([7, 0])), [0.5, 0.5])
    (frame,) = json.loads((tmp_path / "out.json").read_text())["frames"]
    assert [person["id"] for person in frame["persons"]] == [7, None]


def test_json_without_frames_is_valid(tmp_path):
    with open_json_writer(tmp_path / "out.json", video_source(), COCO.names):
        pass
    assert json.loads((tmp_path / "out.json").read_text())["frames"] == []


def test_json_of_a_folder_has_file_names_and_sizes(tmp_path):
    source = video_source(count=1, fps=None, kind="folder")
    with open_json_writer(tmp_path / "out.json", source, COCO.names) as writer:
        frame = next(iter(source))
        writer(Frame(0, frame.image, 139, "139.jpg"), poses_of(0), [])
    content = json.loads((tmp_path / "out.json").read_text())
    assert (content["fps"], content["size_wh"]) == (None, None)
    assert content["frames"] == [
        {"index": 0, "time_s": None, "file_name": "139.jpg", "size_wh": [64, 48], "persons": []}
    ]
