"""The window: one line where it cannot open; keys and closing where it can."""

import sys

import cv2
import numpy as np
import pytest

from pose.errors import MediaError
from pose.video.window import ESCAPE, Window


@pytest.fixture
def opencv(monkeypatch):
    """An OpenCV with windows: returns the shown images, and settings for the key and whether the window is open."""
    state = {"shown": [], "key": -1, "visible": 1.0}
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "  GUI:                           QT5\n")
    monkeypatch.setattr(cv2, "imshow", lambda title, image: state["shown"].append(image))
    monkeypatch.setattr(cv2, "waitKey", lambda _delay: state["key"])
    monkeypatch.setattr(cv2, "getWindowProperty", lambda _title, _property: state["visible"])
    monkeypatch.setattr(cv2, "destroyWindow", lambda _title: state.update(visible=0.0))
    monkeypatch.setenv("DISPLAY", ":0")
    return state


def test_an_opencv_without_windows_is_refused_with_what_to_install(monkeypatch):
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "  GUI:                           NONE\n")
    with pytest.raises(MediaError, match="pip install opencv-python"):
        Window("a")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems always have a display")
@pytest.mark.usefixtures("opencv")
def test_no_display_is_refused(monkeypatch):
    monkeypatch.delenv("DISPLAY")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(MediaError, match="no display"):
        Window("a")


def test_the_newest_image_is_shown_until_a_key_or_the_user_closes_it(opencv):
    image = np.zeros((4, 4, 3), np.uint8)
    with Window("a") as window:
        assert not window.show()
        window.image = image
        assert not window.show()
        assert opencv["shown"] == [image]
        for key in (ord("q"), ESCAPE):
            opencv["key"] = key
            assert window.show()
        opencv.update(key=-1, visible=0.0)
        assert window.show()


def test_wait_shows_the_image_until_a_key_and_returns_at_once_without_one(opencv, monkeypatch):
    keys = iter([-1, -1, ord("q")])
    monkeypatch.setattr(cv2, "waitKey", lambda _delay: next(keys))
    with Window("a") as window:
        window.wait()
        window.image = np.zeros((4, 4, 3), np.uint8)
        window.wait()
    assert len(opencv["shown"]) == 3
