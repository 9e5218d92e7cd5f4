"""Frame readers: iterate over a video, a camera, an image or a folder of images.

    for frame in open_source("street.mp4"):
        frame.image  # (H, W, 3) uint8 BGR, upright

Only the current frame is in memory. To add a kind of source, write a function that returns a `FrameSource` and call it
in `open_source`.
"""

import logging
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2

from pose.errors import MediaError
from pose.images import IMAGE_SUFFIXES, Image, find_images, read_upright_image
from pose.video.lost_frames import lost_frames_message
from pose.video.opencv_files import open_capture

logger = logging.getLogger(__name__)

DEFAULT_FPS = 30.0
"""For a video or camera that reports no plausible frame rate."""
MIN_FPS, MAX_FPS = 0.01, 1000.0
"""Plausible frame rates in Hz."""
MAX_FRAMES = 10_000_000
"""Plausible number of frames, a day of 100 Hz. A file that states more does not know it."""
MAX_TIME_S = 1e8
"""Plausible time of a frame, three years."""
MAX_DAMAGED_FRAMES = 1000
"""Maximum number of damaged frames in a row behind which good ones are searched; a damaged file may state millions."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame of a source.

    Attributes:
        index: position in the source, from 0.
        image: (H, W, 3) uint8 BGR, rotated upright by the file's rotation or EXIF orientation.
        image_id: id in box files: the number in an image's file name (``000000000139.jpg``: 139), otherwise ``index``.
        file_name: name of the image file; frames of a video or camera are named by their index.
        time_s: presentation time in seconds; None for images.
    """

    index: int
    image: Image
    image_id: int
    file_name: str
    time_s: float | None = None

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.image.shape[1], self.image.shape[0]


@dataclass(frozen=True, eq=False)
class FrameSource:
    """An open source of frames, which can be iterated once.

    Attributes:
        location: path, URL or camera number.
        kind: kind of source.
        frames: iterator over the frames.
        size_wh: width and height of the first frame; images in a folder may differ.
        fps: frame rate in Hz; None for images.
        image_ids: `Frame.image_id` of all frames; None if the number of frames is unknown, as for a camera.
    """

    location: str
    kind: Literal["video", "camera", "image", "folder"]
    frames: Iterator[Frame]
    size_wh: tuple[int, int]
    fps: float | None = None
    image_ids: range | tuple[int, ...] | None = None

    @property
    def count(self) -> int | None:
        """Number of frames that the file reports; None if unknown."""
        return None if self.image_ids is None else len(self.image_ids)

    def __iter__(self) -> Iterator[Frame]:
        return self.frames


def open_source(location: str | Path) -> FrameSource:
    """Open a video file or URL, an image, a folder of images (sorted by name), or a camera (an integer).

    Raises:
        MediaError: the source does not exist, is empty, or OpenCV cannot read it; also while iterating, if an image is
            damaged. A video that is cut or damaged ends with a warning that says how many frames are lost.
    """
    location = str(location)
    if location.isdecimal():
        return _open_capture(open_capture(location), location, "camera")
    if "://" in location:
        return _open_capture(open_capture(location), location, "video")
    path = Path(location)
    if path.is_dir():
        return _open_images(find_images(path), location, "folder")
    if not path.is_file():
        reason = "not a regular file" if os.path.exists(path) else "no such video, image or folder"
        raise MediaError(f"{location}: {reason}; for a camera give its number, such as 0")
    if path.suffix.lower() in IMAGE_SUFFIXES:
        _check_still(path)
        return _open_images([path], location, "image")
    return _open_capture(open_capture(location), location, "video")


def _open_images(paths: list[Path], location: str, kind: Literal["image", "folder"]) -> FrameSource:
    first = read_upright_image(paths[0])
    image_ids = tuple(int(path.stem) if path.stem.isdecimal() else index for index, path in enumerate(paths))
    frames = (
        Frame(index, read_upright_image(path), image_id, path.name)
        for index, (path, image_id) in enumerate(zip(paths, image_ids, strict=True))
    )
    return FrameSource(location, kind, frames, (first.shape[1], first.shape[0]), image_ids=image_ids)


def _check_still(path: Path) -> None:
    """Check that an image is not animated: only its first frame would be read.

    Raises:
        MediaError: it has several frames.
    """
    if path.suffix.lower() not in (".png", ".webp"):
        return
    import PIL.Image

    try:
        with PIL.Image.open(path) as image:
            frames = getattr(image, "n_frames", 1)
    except Exception:  # Pillow has a different class for each kind of damage; reading the image says what is wrong
        return
    if frames > 1:
        raise MediaError(f"{path}: an animation of {frames} frames; convert it to a video or a GIF, or give a folder")


def _open_capture(capture: cv2.VideoCapture, location: str, kind: Literal["video", "camera"]) -> FrameSource:
    image = _next_image(capture)
    if image is None:
        capture.release()
        hint = "is it connected and not in use?" if kind == "camera" else "expected a video that FFmpeg can decode"
        raise MediaError(f"{kind} {location}: cannot read a single frame; {hint}")
    fps = capture.get(cv2.CAP_PROP_FPS)
    fps = float(fps) if MIN_FPS <= fps <= MAX_FPS else DEFAULT_FPS  # NaN compares false
    count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    count_known = kind == "video" and 0 < count <= MAX_FRAMES
    frames = _camera_frames(capture) if kind == "camera" else _video_frames(capture, image, location, fps)
    size_wh = image.shape[1], image.shape[0]
    return FrameSource(location, kind, frames, size_wh, fps, range(int(count)) if count_known else None)


def _next_image(capture: cv2.VideoCapture) -> Image | None:
    return capture.read()[1]  # type: ignore[return-value]


def _video_frames(capture: cv2.VideoCapture, image: Image | None, location: str, fps: float) -> Iterator[Frame]:
    count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    index = 0
    try:
        while image is not None:
            time_s = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            time_s = time_s if 0 <= time_s <= MAX_TIME_S else index / fps  # NaN compares false
            yield Frame(index, image, index, _file_name(index), time_s)
            index += 1
            image = _next_image(capture)
            failed = 0
            # Behind damaged frames there may be good ones.
            while image is None and failed < min(count - index, MAX_DAMAGED_FRAMES):
                image = _next_image(capture)
                failed += 1
    finally:
        capture.release()
    message = lost_frames_message(location, index, count)
    if message is not None:
        logger.warning("warning: %s", message)


def _camera_frames(capture: cv2.VideoCapture) -> Iterator[Frame]:
    start = time.monotonic()
    index = 0
    try:
        while (image := _next_image(capture)) is not None:
            yield Frame(index, image, index, _file_name(index), time.monotonic() - start)
            index += 1
    finally:
        capture.release()


def _file_name(index: int) -> str:
    return f"{index:06d}.jpg"
