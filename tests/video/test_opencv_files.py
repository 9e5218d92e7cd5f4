"""The module that gives paths to OpenCV: paths on which it would crash, and names that it would take for others."""

import os
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import cv2
import numpy as np
import pytest

from pose.errors import MediaError
from pose.video import opencv_files
from pose.video.opencv_files import open_capture, open_video_writer
from pose.video.readers import open_source
from pose.video.window import Window


@pytest.mark.parametrize("name", [os.fsdecode(b"caf\xe9.mp4"), "\ud800.mp4", "nul\0.mp4"], ids=ascii)
def test_a_path_that_opencv_cannot_take_is_refused(tmp_path, name):
    for open_file in (open_capture, lambda path: open_video_writer(Path(path), "mp4v", 10, (64, 48))):
        with pytest.raises(MediaError, match=r"UTF-8|no file can have this name") as caught:
            open_file(f"{tmp_path}/{name}")
        assert len(str(caught.value).splitlines()) == 1


def test_a_video_at_a_path_that_is_not_utf8_is_refused_with_what_to_do(tmp_path):
    path = os.path.join(os.fsencode(tmp_path), b"caf\xe9.avi")
    try:
        Path(os.fsdecode(path)).write_bytes(b"no video")
    except OSError:
        pytest.skip("this file system has no names other than UTF-8")
    with pytest.raises(MediaError, match="rename the file or the folder"):
        open_source(os.fsdecode(path))


@pytest.mark.parametrize("number", ["100", "99999999999999999999", "9" * 5000], ids=len)
def test_a_number_that_no_camera_has_is_refused(number):
    with pytest.raises(MediaError, match="expected a number up to 99"):
        open_source(number)


def test_images_with_numbers_are_not_taken_for_a_video(tmp_path):
    png = cv2.imencode(".png", np.zeros((8, 10, 3), np.uint8))[1].tobytes()
    for number in range(3):  # OpenCV's image backend reads all files from this one on
        (tmp_path / f"clip{number}.xyz").write_bytes(png)
    try:
        frames = len(list(open_source(tmp_path / "clip0.xyz")))
    except MediaError:
        frames = 0
    assert frames <= 1


def test_the_title_of_a_window_is_text_that_opencv_can_take(monkeypatch):
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "GUI: GTK")
    monkeypatch.setenv("DISPLAY", ":0")
    assert Window(os.fsdecode(b"caf\xe9.mp4")).title == "caf?.mp4"


class Handler(BaseHTTPRequestHandler):
    """Answers with a page, with text that does not end, or not at all."""

    def do_GET(self):
        if self.path == "/silent.mp4":
            time.sleep(3)
            return
        self.send_response(200)
        self.end_headers()
        try:
            self.wfile.write(b"<html><body>Not found</body></html>" * 100)
            while self.path == "/endless.mp4":
                self.wfile.write(b"text " * 10_000)
        except ConnectionError:
            pass


@pytest.fixture(scope="module")
def server(serve):
    return serve(Handler)


@pytest.mark.parametrize("name", ["page.mp4", "endless.mp4", "silent.mp4"])
def test_an_address_that_is_no_video_is_refused_in_time(server, monkeypatch, capfd, name):
    monkeypatch.setattr(opencv_files, "TIMEOUT_MS", 1000)
    start = time.monotonic()
    with pytest.raises(MediaError, match="cannot read a single frame"):
        open_source(f"{server}/{name}")
    assert time.monotonic() - start < 20
    assert capfd.readouterr().err == ""
