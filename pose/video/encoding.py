"""Video encoders: H.264 with the audio of the source by PyAV, and OpenCV's codecs where PyAV is not installed.

An encoder writes frames with their times to a file, and is closed at the end.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pose.errors import MediaError
from pose.files import writing
from pose.images import Image
from pose.video.opencv_files import open_video_writer, without_warnings

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

logger = logging.getLogger(__name__)

FOURCC = {".mp4": "mp4v", ".m4v": "mp4v", ".mov": "mp4v", ".mkv": "mp4v", ".avi": "MJPG", ".webm": "VP90"}
"""Codec of each container: those that OpenCV's wheels can encode on every platform."""
H264_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv")
"""Containers of H.264 with audio."""
H264_OPTIONS = {"preset": "veryfast", "crf": "20"}
"""Options of libx264: a quality without visible loss, and an encoding time near that of OpenCV's MPEG-4."""
MIN_TICKS_HZ = 90_000
"""Minimum resolution of frame times, as in MPEG transport streams."""


class VideoEncoder(Protocol):
    """Writes frames to a video file."""

    keeps_times: bool
    """Whether frames are shown at their times, and not at a constant rate."""

    def write(self, image: Image, time_s: float) -> None:
        """Append a (H, W, 3) BGR image of the video's size, shown at a time in seconds."""

    def close(self) -> None:
        """Complete the file."""


def h264_available() -> bool:
    """Return whether PyAV is installed and can encode H.264."""
    try:
        import av
    except ImportError:
        return False
    return "libx264" in av.codecs_available


class OpenCvEncoder:
    """Encodes at a constant rate, without audio.

    Args:
        file: file to write.
        path: its final name, for the error message and the codec.
        fps: frame rate in Hz.
        size_wh: even width and height.

    Raises:
        MediaError: OpenCV cannot open the file.
    """

    keeps_times = False

    def __init__(self, file: Path, path: Path, fps: float, size_wh: tuple[int, int]) -> None:
        # MPEG-4 stores the rate as a fraction of 16-bit integers, and OpenCV's denominator is a power of ten.
        rate = round(fps, 3 if fps < 65 else 2 if fps < 655 else 0)
        self._video = open_video_writer(file, FOURCC[path.suffix.lower()], rate, size_wh)
        if not self._video.isOpened():
            raise MediaError(f"{path}: OpenCV cannot write a video here; is the folder writable, and does .mp4 work?")

    def write(self, image: Image, time_s: float) -> None:
        """Append an image; the time is ignored."""
        with without_warnings():  # of a full disk, which is noticed when the file is complete
            self._video.write(image)

    def close(self) -> None:
        """Complete the file."""
        with without_warnings():
            self._video.release()


class H264Encoder:
    """Encodes H.264 with frame times, and copies the audio of another file, unchanged, up to the last frame.

    Args:
        file: file to write.
        path: its final name, for the error message.
        fps: nominal frame rate in Hz.
        size_wh: even width and height.
        audio_file: the source of the frames, if its audio is to be copied; it may have none.

    Attributes:
        lost_audio: codec of the audio, if the container cannot hold it.

    Raises:
        MediaError: the file cannot be written.
    """

    keeps_times = True

    def __init__(self, file: Path, path: Path, fps: float, size_wh: tuple[int, int], audio_file: Path | None) -> None:
        import av

        rate = Fraction(fps).limit_denominator(1001)  # 29.97 Hz is 30000/1001
        # A unit of time of which frames at the nominal rate last a whole number.
        self._time_base = 1 / (Fraction(rate.numerator) * -(-MIN_TICKS_HZ // rate.numerator))
        self._path, self._frame_ticks, self._pts = path, int(1 / rate / self._time_base), -1
        # The index at the start of an MP4 file, so that a browser plays it before all of it is loaded.
        options = {} if path.suffix.lower() == ".mkv" else {"movflags": "+faststart"}
        with writing(path):
            self._file = _CheckedFile(file)
        self._output = av.open(self._file, "w", options=options, io_open=lambda *_: file.open("rb"))
        self._video = self._output.add_stream("libx264", rate=rate)
        self._video.options = dict(H264_OPTIONS)
        self._video.width, self._video.height = size_wh
        self._video.pix_fmt = "yuv420p"
        self._video.time_base = self._video.codec_context.time_base = self._time_base
        self._audio = None if audio_file is None else _AudioCopy(audio_file, self._output)
        self.lost_audio = None if self._audio is None else self._audio.lost_codec

    def write(self, image: Image, time_s: float) -> None:
        """Append an image, and the audio until its end."""
        import av

        frame = av.VideoFrame.from_ndarray(image, format="bgr24")
        pts = round(time_s / self._time_base)
        # Readers that do not know the times of frames report the same for all.
        self._pts = pts if pts > self._pts else self._pts + self._frame_ticks
        frame.pts, frame.duration, frame.time_base = self._pts, self._frame_ticks, self._time_base
        end_s = float((self._pts + self._frame_ticks) * self._time_base)
        packets = [] if self._audio is None else self._audio.until(end_s)
        with self._refusals():
            self._output.mux([*packets, *self._video.encode(frame)])
        with writing(self._path):
            self._file.check()

    def close(self) -> None:
        """Complete the file."""
        try:
            with self._refusals():
                self._output.mux(self._video.encode(None))
                self._output.close()
        finally:
            with writing(self._path):
                self._file.close()

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        import av

        try:
            yield
        except av.FFmpegError as error:
            size = f"{self._video.width}x{self._video.height}"
            raise MediaError(
                f"{self._path}: FFmpeg cannot write H.264 of {size} pixels ({error.strerror}); take .avi or a folder"
            ) from None


class _CheckedFile:
    """A file for FFmpeg, to which no write seems to fail: where one does, FFmpeg may end in a segmentation fault.

    Attributes:
        name: its path, by whose suffix FFmpeg chooses the container.
    """

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._file = path.open("wb", buffering=0)
        self._error: OSError | None = None
        self.seek, self.tell = self._file.seek, self._file.tell

    def write(self, data: bytes) -> int:
        """Write all of the data, or keep the error for `check`."""
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            self._error = self._error or error
        return len(data)

    def check(self) -> None:
        """Raise the first error.

        Raises:
            OSError: a write failed.
        """
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Close the file, and raise the first error as `check` does."""
        self._file.close()
        self.check()


class _AudioCopy:
    """Copies the packets of a file's first audio stream into another file."""

    def __init__(self, audio_file: Path, output: "OutputContainer") -> None:
        import av

        self.lost_codec: str | None = None
        self._packets: Iterator[tuple[float, Packet[Any]]] = iter(())
        self._waiting: tuple[float, Packet[Any]] | None = None
        try:
            source = av.open(str(audio_file))
        except av.FFmpegError as error:
            logger.warning("%s: its audio cannot be read (%s)", audio_file, error.strerror)
            return
        if source.streams.audio and source.streams.video:
            audio, video = source.streams.audio[0], source.streams.video[0]
            try:
                stream = output.add_stream_from_template(audio)
            except ValueError:
                self.lost_codec = audio.codec_context.name
            else:
                self._packets = _shifted_packets(source, audio, stream, _start_s(video))
                self._waiting = next(self._packets, None)

    def until(self, end_s: float) -> "list[Packet[Any]]":
        """Return the packets that start before a time in seconds and were not returned yet."""
        packets = []
        while self._waiting is not None and self._waiting[0] < end_s:
            packets.append(self._waiting[1])
            self._waiting = next(self._packets, None)
        return packets


def _start_s(video: "VideoStream") -> float:
    return float((video.start_time or 0) * (video.time_base or 0))


def _shifted_packets(
    source: "InputContainer", audio: "AudioStream", stream: "AudioStream", start_s: float
) -> "Iterator[tuple[float, Packet[Any]]]":
    """Yield start time and packet for ``stream``, with times from the first frame of the video, as readers count.

    Audio that is damaged ends there, with a warning. A packet that does not follow the one before is left out.
    """
    import av

    last = None
    try:
        for packet in source.demux(audio):
            if packet.pts is None or packet.dts is None or packet.time_base is None:
                continue
            shift = round(start_s / packet.time_base)
            packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, stream
            if packet.pts >= 0 and (last is None or packet.dts > last):
                last = packet.dts
                yield float(packet.pts * packet.time_base), packet
    except av.FFmpegError as error:
        logger.warning("%s: the rest of its audio cannot be read (%s)", source.name, error.strerror)
