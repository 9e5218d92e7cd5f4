"""Frames of a video file that could not be read.

Containers list their frames or state a duration, so a file that is cut or damaged can be told from one that ends. An
editor that trims a video without encoding it anew keeps frames before the new start in the file; they are listed but
not shown. PyAV, if installed, tells them apart.
"""

from pathlib import Path

INDEXED_SUFFIXES = (".mp4", ".m4v", ".mov", ".avi")
"""Containers with an index of all frames; others state a duration only."""
MIN_COMPLETE = 0.9
"""Fraction of the expected frames from which on a video counts as complete, if the number is only an estimate."""


def lost_frames_message(location: str, read: int, reported: float) -> str | None:
    """Return one line about the frames of a file that were not read, or None if it is complete.

    Args:
        location: path or address of the video.
        read: number of frames until the reader found no more.
        reported: number of frames that OpenCV reports: of the index, or the duration times the frame rate.
    """
    if not read < reported < 1e9:
        return None
    suffix = Path(location).suffix.lower()
    if suffix not in INDEXED_SUFFIXES:
        if read >= MIN_COMPLETE * reported:
            return None
        return (
            f"{location}: {read} frames could be read, about {reported:.0f} fit its duration; "
            "it may be cut or damaged, or its audio is longer"
        )
    can_hide = suffix != ".avi"
    expected = _shown_frames(location) if can_hide else round(reported)
    if expected is None:
        return (
            f"{location}: {reported - read:.0f} of {reported:.0f} frames are lost: the file is cut or damaged, or "
            "trimmed, which hides frames; `pip install 'dyconv-pose[video]'` tells which"
        )
    if expected <= read:
        return None
    return f"{location}: {expected - read} of {expected} frames are lost, the file is cut or damaged"


def _shown_frames(location: str) -> int | None:
    """Return the number of frames that a complete file shows; None if PyAV is missing or cannot read the file."""
    try:
        import av
    except ImportError:
        return None
    shown, end = 0, 0
    try:
        with av.open(location) as container:
            video = container.streams.video[0]
            for packet in container.demux(video):
                if packet.pts is not None and not packet.is_discard:
                    shown, end = shown + 1, max(end, packet.pts + (packet.duration or 0))
            missing = (video.start_time or 0) + (video.duration or 0) - end
            rate = float((video.average_rate or 0) * (video.time_base or 0))
    except (av.FFmpegError, IndexError):  # IndexError: no video
        return None
    return shown + max(0, round(missing * rate))
