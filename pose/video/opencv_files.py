"""Videos that OpenCV opens and writes: the only module that gives a path to OpenCV, which crashes on some.

Images are read and written as bytes in `pose.images`, where any path works.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2

from pose.errors import MediaError

# As `without_warnings`, for FFmpeg.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

TIMEOUT_MS = 20_000
"""Maximum time until a stream answers, and until its next frame."""
MAX_CAMERA = 99


def open_capture(location: str) -> cv2.VideoCapture:
    """Open a video file, the address of a stream or a camera number, without OpenCV's own warnings on stderr.

    Files and streams are opened by FFmpeg alone where this build of OpenCV has it: other backends take a name with
    digits for the first of many images.

    Raises:
        MediaError: the location has characters that OpenCV cannot take, or is too large for the number of a camera.
    """
    if location.isdecimal():
        if len(location) > len(str(MAX_CAMERA)):
            raise MediaError(f"camera {location}: expected a number up to {MAX_CAMERA}")
        return _open(int(location), cv2.CAP_ANY, [])
    timeouts = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, TIMEOUT_MS]
    has_ffmpeg = cv2.CAP_FFMPEG in cv2.videoio_registry.getBackends()
    return _open(opencv_text(location), *((cv2.CAP_FFMPEG, timeouts) if has_ffmpeg else (cv2.CAP_ANY, [])))


def _open(location: str | int, backend: int, options: list[int]) -> cv2.VideoCapture:
    with without_warnings():
        return cv2.VideoCapture(location, backend, options)


@contextmanager
def without_warnings() -> Iterator[None]:
    """Keep OpenCV from printing warnings on stderr: our one-line error message says what a user needs."""
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)


def open_video_writer(file: Path, codec: str, fps: float, size_wh: tuple[int, int]) -> cv2.VideoWriter:
    """Open a video file to write.

    Args:
        file: its suffix chooses the container.
        codec: four characters, such as ``mp4v``.
        fps: frame rate in Hz.
        size_wh: width and height in pixels.

    Raises:
        MediaError: the path has characters that OpenCV cannot take.
    """
    return cv2.VideoWriter(opencv_text(file), cv2.VideoWriter.fourcc(*codec), fps, size_wh)


def opencv_text(location: str | Path) -> str:
    """Return a path as text that OpenCV can take: with other characters than those of UTF-8 it is a segmentation fault.

    Raises:
        MediaError: it has a byte that is not UTF-8, or a null character.
    """
    text = str(location)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise MediaError(f"{location}: a video needs a path of valid UTF-8; rename the file or the folder") from None
    if "\0" in text:
        raise MediaError(f"{text!r}: no file can have this name")
    return text
