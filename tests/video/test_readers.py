"""Frame readers: videos, images, folders and cameras."""

import os
import struct
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest

from pose.errors import MediaError
from pose.video.readers import DEFAULT_FPS, MAX_DAMAGED_FRAMES, _camera_frames, _open_capture, open_source


def write_video(path: Path, count: int = 6, size_wh: tuple[int, int] = (64, 48), fps: float = 28.05) -> Path:
    """Write a video whose frame i has the gray value 40 * i."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, size_wh)
    for index in range(count):
        writer.write(np.full((size_wh[1], size_wh[0], 3), 40 * index, np.uint8))
    writer.release()
    return path


def test_a_video_yields_all_frames_in_order_with_their_times(tmp_path):
    source = open_source(write_video(tmp_path / "a.mp4"))
    assert (source.kind, source.size_wh, source.count) == ("video", (64, 48), 6)
    assert source.fps == pytest.approx(28.05, abs=1e-3)
    frames = list(source)
    assert [frame.index for frame in frames] == [frame.image_id for frame in frames] == list(range(6))
    assert [round(float(frame.image.mean()) / 40) for frame in frames] == list(range(6))
    assert [frame.time_s for frame in frames] == pytest.approx(np.arange(6) / 28.05, abs=2e-3)


def test_a_video_frame_is_not_overwritten_by_the_next(tmp_path):
    frames = list(open_source(write_video(tmp_path / "a.mp4")))
    assert frames[0].image.max() < 10


def test_a_video_is_rotated_by_its_rotation_metadata(tmp_path):
    path = write_video(tmp_path / "a.mp4")
    content = path.read_bytes()
    start = (
        content.index(b"tkhd") + 4 + 40
    )  # version, flags, times, id, duration, layer, volume: then nine 16.16 numbers
    quarter_turn = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 48 << 16, 0, 1 << 30)
    path.write_bytes(content[:start] + quarter_turn + content[start + 36 :])
    source = open_source(path)
    assert source.size_wh == (48, 64)
    assert {frame.image.shape for frame in source} == {(64, 48, 3)}


def test_an_image_is_rotated_by_its_exif_orientation(tmp_path):
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    PIL.Image.new("RGB", (30, 20)).save(tmp_path / "a.jpg", exif=exif)
    assert open_source(tmp_path / "a.jpg").size_wh == (20, 30)


def test_a_folder_yields_its_images_sorted_by_name(tmp_path):
    for name in ("000000000139.png", "b.JPG", "a.png"):
        cv2.imwrite(str(tmp_path / name), np.zeros((8, 10, 3), np.uint8))
    (tmp_path / "notes.txt").write_text("no image")
    source = open_source(tmp_path)
    assert (source.kind, source.count, source.fps) == ("folder", 3, None)
    frames = list(source)
    assert [frame.file_name for frame in frames] == ["000000000139.png", "a.png", "b.JPG"]
    assert [frame.image_id for frame in frames] == [139, 1, 2] == list(source.image_ids)
    assert frames[0].time_s is None


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.mp4", None, "no such video"),
        ("empty.mp4", b"", "cannot read a single frame"),
        ("text.mp4", b"not a video" * 50, "cannot read a single frame"),
        ("empty.png", b"", "not an image"),
        ("text.jpg", b"not an image", "not an image"),
    ],
)
def test_an_unreadable_source_is_refused_with_one_line(tmp_path, capfd, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(MediaError, match=message) as caught:
        open_source(tmp_path / name)
    assert name in str(caught.value)
    assert capfd.readouterr().err == ""
    assert "\n" not in str(caught.value)


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(MediaError, match="no images"):
        open_source(tmp_path)


def test_a_damaged_image_in_a_folder_is_named_in_the_error(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 10, 3), np.uint8))
    (tmp_path / "b.png").write_bytes(b"broken")
    with pytest.raises(MediaError, match=r"b\.png"):
        list(open_source(tmp_path))


def write_noise(path: Path, fourcc: str, count: int = 40) -> bytes:
    """Write a video of noise, whose frames are about equally long, and return its content."""
    rng = np.random.default_rng(0)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*fourcc), 10, (64, 48))
    for _ in range(count):
        writer.write(rng.integers(0, 255, (48, 64, 3), np.uint8))
    writer.release()
    return path.read_bytes()


@pytest.mark.parametrize(("suffix", "fourcc"), [(".avi", "MJPG"), (".webm", "VP80")])
def test_a_cut_video_yields_its_frames_and_says_how_many_are_lost(tmp_path, caplog, suffix, fourcc):
    path = tmp_path / f"a{suffix}"
    content = write_noise(path, fourcc)
    path.write_bytes(content[: len(content) // 2])
    frames = list(open_source(path))
    assert 15 <= len(frames) <= 22
    assert [frame.index for frame in frames] == list(range(len(frames)))
    (record,) = caplog.records
    assert str(path) in record.message
    lost, read = f"{40 - len(frames)} of 40 frames are lost", f"{len(frames)} frames could be read, about 40"
    assert (lost if suffix == ".avi" else read) in record.message


def test_frames_behind_a_damaged_part_are_read(tmp_path, caplog):
    path = tmp_path / "a.mp4"
    content = bytearray(write_noise(path, "mp4v"))
    middle = content.index(b"mdat") + len(content) // 2
    content[middle : middle + len(content) // 10] = bytes(len(content) // 10)
    path.write_bytes(content)
    frames = list(open_source(path))
    assert frames[-1].time_s == pytest.approx(3.9)
    lost = 40 - len(frames)
    assert [f"{lost} of 40 frames are lost" in record.message for record in caplog.records] == [True] * (lost > 0)


def test_a_complete_video_gives_no_warning(tmp_path, caplog):
    assert len(list(open_source(write_video(tmp_path / "a.mp4")))) == 6
    assert caplog.records == []


class FakeCamera:
    """A capture of three frames."""

    def __init__(self):
        self.remaining, self.released = 3, False

    def read(self):
        self.remaining -= 1
        return self.remaining >= 0, np.zeros((4, 6, 3), np.uint8) if self.remaining >= 0 else None

    def release(self):
        self.released = True


def test_camera_frames_have_times_and_the_camera_is_released():
    camera = FakeCamera()
    times = [frame.time_s for frame in _camera_frames(camera)]
    assert len(times) == 3
    assert times == sorted(times)
    assert times[0] >= 0
    assert camera.released


def test_a_number_opens_a_camera(monkeypatch):
    class Absent(FakeCamera):
        def __init__(self, index, *_):
            assert index == 7
            super().__init__()
            self.remaining = 0

    monkeypatch.setattr(cv2, "VideoCapture", Absent)
    with pytest.raises(MediaError, match="camera 7"):
        open_source("7")


class FakeVideo:
    """A capture of three frames whose container states what it is told to."""

    def __init__(self, fps=10.0, count=3.0, time_ms=0.0):
        self.stated = {cv2.CAP_PROP_FPS: fps, cv2.CAP_PROP_FRAME_COUNT: count, cv2.CAP_PROP_POS_MSEC: time_ms}
        self.reads = 0

    def get(self, name):
        return self.stated[name]

    def read(self):
        self.reads += 1
        return (True, np.zeros((4, 6, 3), np.uint8)) if self.reads <= 3 else (False, None)

    def release(self):
        pass


@pytest.mark.parametrize("fps", [0.0, -1.0, float("nan"), float("inf"), 1e9, 1e-9])
def test_a_frame_rate_that_no_video_has_is_replaced(fps):
    assert _open_capture(FakeVideo(fps=fps), "a.mp4", "video").fps == DEFAULT_FPS


@pytest.mark.parametrize("time_ms", [float("nan"), float("inf"), -1.0, 1e300])
def test_a_time_that_no_frame_has_is_replaced_by_that_of_the_frame_rate(time_ms):
    times = [frame.time_s for frame in _open_capture(FakeVideo(time_ms=time_ms), "a.mp4", "video")]
    assert times == pytest.approx([0, 0.1, 0.2])


@pytest.mark.parametrize("count", [9e8, 1e18, float("inf"), float("nan"), -5.0, 0.0])
def test_a_video_that_states_millions_of_frames_ends_soon_after_its_last(count):
    video = FakeVideo(count=count)
    source = _open_capture(video, "a.mp4", "video")
    assert source.count is None
    assert len(list(source)) == 3
    assert video.reads <= 4 + MAX_DAMAGED_FRAMES


@pytest.mark.parametrize("suffix", [".webp", ".png"])
def test_an_animated_image_is_refused_and_a_gif_is_a_video(tmp_path, suffix):
    first, *others = [PIL.Image.new("RGB", (32, 24), (50 * index, 0, 0)) for index in range(4)]
    first.save(tmp_path / f"a{suffix}", save_all=True, append_images=others)
    with pytest.raises(MediaError, match="an animation of 4 frames; convert it to a video"):
        open_source(tmp_path / f"a{suffix}")
    first.save(tmp_path / f"still{suffix}")
    assert open_source(tmp_path / f"still{suffix}").count == 1
    first.save(tmp_path / "a.gif", save_all=True, append_images=others, duration=100)
    assert [frame.time_s for frame in open_source(tmp_path / "a.gif")] == pytest.approx([0, 0.1, 0.2, 0.3])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("name", ["a.mp4", "a.png"])
def test_a_pipe_or_device_is_refused_and_never_read(tmp_path, name):
    os.mkfifo(tmp_path / name)  # reading it would wait for ever
    for path in (tmp_path / name, "/dev/zero"):
        with pytest.raises(MediaError, match="not a regular file"):
            open_source(path)


@pytest.mark.parametrize("suffix", [".avi", ".mp4", ".webm"])
def test_damaged_videos_are_read_or_refused_with_one_line(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    content = write_noise(path, {".avi": "MJPG", ".mp4": "mp4v", ".webm": "VP80"}[suffix], 12)
    rng = np.random.default_rng(0)
    for _ in range(15):
        damaged = bytearray(content)
        for place in rng.integers(0, 1500, 5):
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            assert len(list(open_source(path))) <= 100
        except MediaError as error:
            assert len(str(error).splitlines()) == 1
