"""Writers of drawn frames and keypoints: a video, an image, a folder of images, a JSON file.

A writer is a context manager that provides a function to call once per frame. Each file is written under a temporary
name in its folder and renamed when it is complete.
"""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import ArrayLike

from pose.errors import MediaError
from pose.files import check_outputs, replacing_with, to_json, writing
from pose.images import IMAGE_SUFFIXES, Image, write_image
from pose.inference.formats import person_rows
from pose.inference.poses import Poses
from pose.video.encoding import FOURCC, H264_SUFFIXES, H264Encoder, OpenCvEncoder, VideoEncoder, h264_available
from pose.video.opencv_files import open_capture
from pose.video.readers import Frame, FrameSource

logger = logging.getLogger(__name__)

IMAGES_FPS = 10.0
"""Frame rate of a video that is written from images."""

ImageWriter = Callable[[Frame, Image], None]
"""Function that writes the drawn image of a frame."""
PoseWriter = Callable[[Frame, Poses, ArrayLike], None]
"""Function that writes the poses of a frame and their (N,) scores."""


def open_writer(
    output: str | Path,
    source: FrameSource,
    size_wh: tuple[int, int] | None = None,
    renames: ExitStack | None = None,
) -> AbstractContextManager[ImageWriter]:
    """Open the image writer for an output path, by its suffix: a video, an image, or (no suffix) a folder.

    A video keeps the source's frame rate, and with PyAV its frame times and audio. A folder keeps the names of image
    files; frames of a video are named ``000000.jpg`` and so on.

    Args:
        output: the path.
        source: where the frames come from.
        size_wh: width and height of the images of a video; by default those of the source.
        renames: see `pose.files.replacing_with`; for a video.

    Raises:
        MediaError: the suffix is unknown, the output is one image but the source has several frames, or the output is
            the source.
    """
    check_outputs([output], [source.location])
    path = Path(output)
    suffix = path.suffix.lower()
    if suffix in FOURCC:
        return _video_writer(path, source, size_wh or source.size_wh, renames)
    if suffix in IMAGE_SUFFIXES:
        if source.count != 1:
            raise MediaError(f"{output}: one image cannot hold all of {source.location}; give a folder or a video")
        return _image_writer(path)
    if path.is_dir() or not suffix:
        return _folder_writer(path, source)
    known = ", ".join((*FOURCC, *IMAGE_SUFFIXES))
    raise MediaError(f"{output}: cannot write {suffix} files; expected {known}, or a folder's name without a suffix")


@contextmanager
def _video_writer(
    path: Path, source: FrameSource, size_wh: tuple[int, int], renames: ExitStack | None
) -> Iterator[ImageWriter]:
    fps = source.fps or IMAGES_FPS
    with replacing_with(path, renames) as temporary:
        encoder = _open_encoder(temporary, path, source, fps, _even(size_wh))
        written = 0

        def write(frame: Frame, image: Image) -> None:
            nonlocal written
            if frame.size_wh != source.size_wh:
                sizes = "{}x{}, the video is {}x{}".format(*frame.size_wh, *source.size_wh)
                raise MediaError(f"{path}: {frame.file_name} is {sizes}; give a folder as the output")
            time_s = written / fps if frame.time_s is None else frame.time_s
            copies = 1
            if source.kind == "camera" and not encoder.keeps_times:
                # The models may be slower than the camera: repeat frames, so that the video plays in real time.
                copies = max(0, round(time_s * fps) + 1 - written)
            for _ in range(copies):
                encoder.write(_pad_to_even(image), time_s)
            written += copies

        try:
            yield write
        finally:
            encoder.close()
        _check_readable(temporary, path, written)


def _open_encoder(
    temporary: Path, path: Path, source: FrameSource, fps: float, size_wh: tuple[int, int]
) -> VideoEncoder:
    """Open an H.264 encoder with the audio of the source if PyAV is installed, otherwise one of OpenCV."""
    is_h264 = path.suffix.lower() in H264_SUFFIXES
    if not is_h264 or not h264_available():
        hint = "for H.264 with audio: pip install 'dyconv-pose[video]'" if is_h264 else "an .mp4 file can have audio"
        if source.kind == "video":
            logger.info("%s: written by OpenCV (%s), without audio; %s", path, FOURCC[path.suffix.lower()], hint)
        return OpenCvEncoder(temporary, path, fps, size_wh)
    location = Path(source.location)
    encoder = H264Encoder(
        temporary, path, fps, size_wh, location if source.kind == "video" and location.is_file() else None
    )
    if encoder.lost_audio is not None:
        logger.warning("%s: no audio, as %s cannot hold %s; .mkv can", path, path.suffix, encoder.lost_audio)
    return encoder


def _check_readable(temporary: Path, path: Path, written: int) -> None:
    """Check that all frames are in the file: OpenCV does not report a full disk.

    Raises:
        MediaError: fewer frames can be read back.
    """
    capture = open_capture(str(temporary))
    # The index of MP4 and MOV is written last and is exact; other headers may promise frames that are missing.
    is_exact = path.suffix.lower() in (".mp4", ".m4v", ".mov")
    readable = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if is_exact else sum(1 for _ in iter(capture.grab, False))
    capture.release()
    if readable < written:
        raise MediaError(f"{path}: {max(readable, 0)} of {written} frames can be read back; is the disk full?")


def _even(size_wh: tuple[int, int]) -> tuple[int, int]:
    return size_wh[0] + size_wh[0] % 2, size_wh[1] + size_wh[1] % 2


def _pad_to_even(image: Image) -> Image:
    """Repeat the last row or column of an odd size, which OpenCV's encoders would cut off."""
    height, width = image.shape[:2]
    if height % 2 == width % 2 == 0:
        return image
    return np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


@contextmanager
def _image_writer(path: Path) -> Iterator[ImageWriter]:
    yield lambda _frame, image: write_image(path, image)


@contextmanager
def _folder_writer(folder: Path, source: FrameSource) -> Iterator[ImageWriter]:
    def write(frame: Frame, image: Image) -> None:
        path = folder / frame.file_name
        check_outputs([path], [source.location])
        write_image(path, image)

    yield write


@contextmanager
def open_json_writer(
    path: str | Path, source: FrameSource, keypoint_names: Sequence[str], renames: ExitStack | None = None
) -> Iterator[PoseWriter]:
    """Open a writer of all keypoints as one JSON object with one line per frame; one frame at a time is in memory.

    ``{"fps", "size_wh", "keypoint_names", "frames": [{"index", "time_s", "persons": [{"id", "bbox_xywh", "score",
    "keypoints": [[x, y, score], ...]}]}]}`` in image pixels and seconds. For images, ``fps`` and ``time_s`` are
    null and each frame has a ``file_name``; for a folder, each frame has its own ``size_wh``. Without tracking there is
    no ``id``; it is null for a person who was seen in too few frames to be counted. ``renames`` as for
    `pose.files.replacing_with`.
    """
    path = Path(path)
    header = {
        "fps": source.fps,
        "size_wh": None if source.kind == "folder" else source.size_wh,
        "keypoint_names": list(keypoint_names),
    }
    separator = "\n"
    with replacing_with(path, renames) as temporary:
        with writing(path):
            file = temporary.open("w", encoding="utf-8")

        def write(frame: Frame, poses: Poses, scores: ArrayLike) -> None:
            nonlocal separator
            row = _frame_row(frame, source) | {"persons": person_rows(poses, scores)}
            with writing(path):
                file.write(separator + to_json(row, path))
            separator = ",\n"

        with file:
            file.write(to_json(header, path)[:-1] + ', "frames": [')
            yield write
            with writing(path):
                file.write("\n]}\n")
                file.flush()
                os.fsync(file.fileno())  # a full disk shows here at the latest, before any file is renamed


def _frame_row(frame: Frame, source: FrameSource) -> dict[str, object]:
    row: dict[str, object] = {"index": frame.index, "time_s": frame.time_s and round(frame.time_s, 4)}
    if source.fps is None:
        row["file_name"] = frame.file_name
    if source.kind == "folder":
        row["size_wh"] = frame.size_wh
    return row
