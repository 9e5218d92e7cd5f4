"""Messages about lost frames: cut, damaged and trimmed files, exact and estimated numbers."""

import sys

import numpy as np
import pytest

from pose.video import lost_frames
from pose.video.lost_frames import lost_frames_message
from pose.video.readers import open_source

av = pytest.importorskip("av")


@pytest.fixture
def shown(monkeypatch):
    """Set the number of frames that the complete file shows."""
    return lambda count: monkeypatch.setattr(lost_frames, "_shown_frames", lambda _location: count)


def test_an_index_gives_the_exact_number(shown):
    shown(300)
    assert lost_frames_message("a.mp4", 288, 300) == "a.mp4: 12 of 300 frames are lost, the file is cut or damaged"
    assert lost_frames_message("a.mp4", 299, 300) is not None


def test_frames_that_a_trimmed_file_hides_are_not_lost(shown):
    shown(24)
    assert lost_frames_message("a.mp4", 24, 30) is None
    assert lost_frames_message("a.mp4", 20, 30) == "a.mp4: 4 of 24 frames are lost, the file is cut or damaged"


def test_without_pyav_the_message_names_both_causes(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    message = lost_frames_message("a.mp4", 24, 30)
    assert message is not None
    assert "6 of 30 frames are lost: the file is cut or damaged, or trimmed" in message


def test_an_estimated_number_is_reported_only_if_it_is_much_larger():
    assert lost_frames_message("a.webm", 95, 100) is None
    message = lost_frames_message("a.webm", 80, 100)
    assert message is not None
    assert message.startswith("a.webm: 80 frames could be read, about 100 fit its duration")


@pytest.mark.parametrize("reported", [0, -1, 10, 1e18, float("nan")])
def test_a_complete_video_or_an_unknown_number_gives_no_message(reported):
    assert lost_frames_message("a.mp4", 10, reported) is None


@pytest.mark.parametrize("gop_size", [1, 100], ids=["only_key_frames", "one_key_frame"])
def test_a_trimmed_file_is_complete_until_it_is_cut(tmp_path, caplog, gop_size):
    """As editors do, the packets are copied and the first five get times before the start."""
    path = tmp_path / "b.mp4"
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 64, 48, "yuv420p", gop_size
        for index in range(20):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 100 + index, np.uint8), format="bgr24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with av.open(str(tmp_path / "a.mp4")) as source, av.open(str(path), "w") as container:
        container_stream = container.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.pts -= 5 * packet.duration
                packet.dts -= 5 * packet.duration
                packet.stream = container_stream
                container.mux(packet)
    source = open_source(path)
    assert (source.count, len(list(source))) == (20, 15)
    assert caplog.records == []
    assert lost_frames_message(str(path), 12, 20) == f"{path}: 3 of 15 frames are lost, the file is cut or damaged"
