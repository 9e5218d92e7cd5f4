"""A window that shows the newest drawn image. Needs a build of OpenCV with windows."""

import os
import re
import sys
from types import TracebackType

import cv2

from pose.errors import MediaError
from pose.images import Image

ESCAPE = 27


class Window:
    """A window of OpenCV; use it as a context manager, from the main thread. Another thread may set ``image``.

    Args:
        title: title of the window.

    Attributes:
        image: the (H, W, 3) BGR image to show next.

    Raises:
        MediaError: this build of OpenCV has no windows, or there is no display.
    """

    def __init__(self, title: str) -> None:
        if re.search(r"GUI:\s+NONE", cv2.getBuildInformation()):
            raise MediaError(
                "--show: this OpenCV cannot open windows; "
                "`pip uninstall opencv-python-headless` and `pip install opencv-python`, or leave the option out"
            )
        if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise MediaError("--show: there is no display (DISPLAY is not set); leave the option out")
        self.title = title.encode("utf-8", "replace").decode()  # OpenCV crashes on other characters
        self.image: Image | None = None

    def __enter__(self) -> "Window":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.image is not None:
            cv2.destroyWindow(self.title)

    def show(self) -> bool:
        """Show the image, and return whether the user wants to end: by q, by Escape or by closing the window."""
        if self.image is None:
            return False
        cv2.imshow(self.title, self.image)
        key = cv2.waitKey(1) & 0xFF
        return key in (ord("q"), ESCAPE) or cv2.getWindowProperty(self.title, cv2.WND_PROP_VISIBLE) < 1

    def wait(self) -> None:
        """Show the image, if there is one, until the user ends it as in `show`."""
        while self.image is not None and not self.show():
            pass
