"""Reading videos, images, folders and cameras."""

import struct
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest

from pose.errors import MediaError
from pose.video.readers import _camera_frames, open_source


def write_video(path: Path, count: int = 6, size_wh: tuple[int, int] = (64, 48), fps: float = 28.05) -> Path:
    """A video whose frame i is gray 40 * i."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, size_wh)
    for index in range(count):
        writer.write(np.full((size_wh[1], size_wh[0], 3), 40 * index, np.uint8))
    writer.release()
    return path


def test_video_gives_every_frame_in_order_with_its_time(tmp_path):
    source = open_source(write_video(tmp_path / "a.mp4"))
    assert (source.kind, source.size_wh, source.count) == ("video", (64, 48), 6)
    assert source.fps == pytest.approx(28.05, abs=1e-3)
    frames = list(source)
    assert [frame.index for frame in frames] == [frame.image_id for frame in frames] == list(range(6))
    assert [round(float(frame.image.mean()) / 40) for frame in frames] == list(range(6))
    assert [frame.time_s for frame in frames] == pytest.approx(np.arange(6) / 28.05, abs=2e-3)


def test_video_frames_stay_as_they_were_when_the_next_is_read(tmp_path):
    frames = list(open_source(write_video(tmp_path / "a.mp4")))
    assert frames[0].image.max() < 10


def test_video_is_turned_as_its_rotation_says(tmp_path):
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


def test_image_is_turned_as_its_exif_says(tmp_path):
    import PIL.Image

    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    PIL.Image.new("RGB", (30, 20)).save(tmp_path / "a.jpg", exif=exif)
    assert open_source(tmp_path / "a.jpg").size_wh == (20, 30)


def test_folder_gives_images_by_name_and_leaves_other_files(tmp_path):
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
def test_what_cannot_be_read_is_one_line_that_names_it(tmp_path, capfd, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(MediaError, match=message) as caught:
        open_source(tmp_path / name)
    assert name in str(caught.value)
    assert capfd.readouterr().err == ""
    assert "\n" not in str(caught.value)


def test_folder_without_images_is_refused(tmp_path):
    with pytest.raises(MediaError, match="no images"):
        open_source(tmp_path)


def test_damaged_image_in_a_folder_is_named(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 10, 3), np.uint8))
    (tmp_path / "b.png").write_bytes(b"broken")
    with pytest.raises(MediaError, match=r"b\.png"):
        list(open_source(tmp_path))


def test_video_that_is_cut_short_is_an_error_after_its_good_frames(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "a.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for _ in range(40):
        writer.write(rng.integers(0, 255, (48, 64, 3), np.uint8))
    writer.release()
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    frames = iter(open_source(path))
    good = list(islice(frames, 15))
    assert [frame.index for frame in good] == list(range(15))
    with pytest.raises(MediaError, match=r"frame \d\d of 40 cannot be read"):
        list(frames)


class FakeCamera:
    """A capture of three frames."""

    def __init__(self):
        self.left, self.released = 3, False

    def read(self):
        self.left -= 1
        return self.left >= 0, np.zeros((4, 6, 3), np.uint8) if self.left >= 0 else None

    def release(self):
        self.released = True


def test_camera_frames_carry_the_time_since_the_start_and_the_camera_is_released():
    camera = FakeCamera()
    times = [frame.time_s for frame in _camera_frames(camera)]
    assert len(times) == 3
    assert times == sorted(times)
    assert times[0] >= 0
    assert camera.released


def test_number_is_a_camera(monkeypatch):
    class Absent(FakeCamera):
        def __init__(self, index):
            assert index == 7
            super().__init__()
            self.left = 0

    monkeypatch.setattr(cv2, "VideoCapture", Absent)
    with pytest.raises(MediaError, match="camera 7"):
        open_source("7")
