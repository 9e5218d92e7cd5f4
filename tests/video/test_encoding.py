"""H.264 by PyAV: codec, pixel values, frame times, and the audio of the source."""

import errno
import logging
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from pose.errors import MediaError
from pose.video.encoding import H264Encoder, _shifted_packets, h264_available
from pose.video.readers import open_source
from pose.video.writers import open_writer

av = pytest.importorskip("av")
if not h264_available():
    pytest.skip("needs PyAV with libx264", allow_module_level=True)

SAMPLE_RATE = 8000
TIMES = np.arange(20) / 10


def write_clip(path: Path, times=TIMES, audio="aac", audio_s=2.5) -> Path:
    """Write frames of rising brightness at given times, and a tone that lasts longer."""
    time_base = Fraction(1, 1000)
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=10)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        video.time_base = video.codec_context.time_base = time_base
        sound = container.add_stream(audio, rate=SAMPLE_RATE) if audio else None
        for index, time_s in enumerate(times):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 10 * index, np.uint8), format="bgr24")
            frame.pts, frame.time_base = round(time_s * 1000), time_base
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if sound is not None:
            wave = np.sin(np.arange(int(audio_s * SAMPLE_RATE)) * 0.35).astype(np.float32)
            samples = (wave * 20_000).astype(np.int16) if sound.format.name.startswith("s16") else wave
            tone = av.AudioFrame.from_ndarray(samples[None], format=sound.format.name, layout="mono")
            tone.sample_rate, tone.pts, tone.time_base = SAMPLE_RATE, 0, Fraction(1, SAMPLE_RATE)
            resampler = av.AudioResampler(sound.format.name, sound.layout, SAMPLE_RATE, frame_size=1024)
            for part in [*resampler.resample(tone), *resampler.resample(None)]:
                container.mux(sound.encode(part))
            container.mux(sound.encode(None))
    return path


def copy(source_path: Path, output: Path, max_frames=None) -> Path:
    source = open_source(source_path)
    with open_writer(output, source) as writer:
        for frame in source:
            if frame.index == max_frames:
                break
            writer(frame, frame.image)
    return output


def audio_packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(audio=0) if packet.pts is not None and packet.pts >= 0]


@pytest.mark.parametrize("suffix", [".mp4", ".m4v", ".mov", ".mkv"])
def test_video_is_h264_and_the_audio_is_copied(tmp_path, suffix):
    clip = write_clip(tmp_path / "in.mp4")
    output = copy(clip, tmp_path / f"out{suffix}")
    with av.open(str(output)) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        assert container.streams.video[0].codec_context.pix_fmt == "yuv420p"
        assert container.streams.audio[0].codec_context.name == "aac"
    copied, original = audio_packets(output), audio_packets(clip)
    assert copied == original[: len(copied)]
    # The video lasts 2 s, the audio 2.5 s; a packet lasts 1024 samples.
    assert len(copied) * 1024 / SAMPLE_RATE == pytest.approx(2.0, abs=2 * 1024 / SAMPLE_RATE)


def test_frame_rate_number_and_content_are_kept(tmp_path):
    clip = write_clip(tmp_path / "in.mp4")
    output = open_source(copy(clip, tmp_path / "out.mp4"))
    assert (output.fps, output.count) == (10, 20)
    brightness = [[float(frame.image.mean()) for frame in source] for source in (output, open_source(clip))]
    assert brightness[0] == pytest.approx(brightness[1], abs=4)


def test_audio_ends_with_the_last_frame_that_is_written(tmp_path):
    output = copy(write_clip(tmp_path / "in.mp4"), tmp_path / "out.mp4", max_frames=5)
    assert len(audio_packets(output)) * 1024 / SAMPLE_RATE == pytest.approx(0.5, abs=2 * 1024 / SAMPLE_RATE)


def test_frames_of_a_variable_rate_keep_their_times(tmp_path):
    times = np.array([0, 0.1, 0.15, 0.6, 0.7, 1.5])
    output = copy(write_clip(tmp_path / "in.mp4", times), tmp_path / "out.mp4")
    assert [frame.time_s for frame in open_source(output)] == pytest.approx(times, abs=2e-3)


def test_a_source_without_audio_gives_a_video_without(tmp_path, caplog):
    output = copy(write_clip(tmp_path / "in.mp4", audio=None), tmp_path / "out.mp4")
    with av.open(str(output)) as container:
        assert not container.streams.audio
    assert caplog.records == []


def test_audio_that_the_container_cannot_hold_is_named(tmp_path, caplog):
    output = copy(write_clip(tmp_path / "in.mkv", audio="pcm_s16le", audio_s=2), tmp_path / "out.m4v")
    assert open_source(output).count == 20
    assert [record.message for record in caplog.records] == [
        f"{output}: no audio, as .m4v cannot hold pcm_s16le; .mkv can"
    ]


def test_without_pyav_opencv_writes_and_one_line_says_so(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("pose.video.writers.h264_available", lambda: False)
    with caplog.at_level(logging.INFO):
        output = copy(write_clip(tmp_path / "in.mp4"), tmp_path / "out.mp4")
    assert open_source(output).count == 20
    (record,) = caplog.records
    assert "without audio; for H.264 with audio: pip install 'dyconv-pose[video]'" in record.message


def test_pyav_that_is_missing_or_has_no_encoder_is_not_used(monkeypatch):
    monkeypatch.setattr(av, "codecs_available", {"mpeg4"})
    assert not h264_available()
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    assert not h264_available()


def test_ffmpeg_never_sees_a_failed_write_which_it_may_not_survive(tmp_path):
    """After a full disk, FFmpeg ended one of two videos in a segmentation fault."""

    class FullDisk:
        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self):
            pass

    encoder = H264Encoder(tmp_path / "a.mov", tmp_path / "a.mov", 10, (64, 48), None)
    encoder._file._file.close()
    encoder._file._file = FullDisk()
    rng = np.random.default_rng(0)
    with pytest.raises(MediaError, match="No space left on device"):
        for index in range(200):
            encoder.write(rng.integers(0, 255, (48, 64, 3), np.uint8), index / 10)
    for _ in range(2):
        with pytest.raises(MediaError, match="No space left on device"):
            encoder.close()


def test_a_source_whose_audio_cannot_be_read_gives_a_video_and_a_warning(tmp_path, caplog):
    (tmp_path / "in.mp4").write_bytes(b"no media" * 100)
    encoder = H264Encoder(tmp_path / "a.mp4", tmp_path / "a.mp4", 10, (64, 48), tmp_path / "in.mp4")
    encoder.write(np.zeros((48, 64, 3), np.uint8), 0.0)
    encoder.close()
    assert len(list(open_source(tmp_path / "a.mp4"))) == 1
    assert ["audio cannot be read" in record.message for record in caplog.records] == [True]


def test_audio_whose_packets_do_not_follow_each_other_is_thinned_out(tmp_path):
    """FFmpeg refuses such packets, and with them the video."""
    path = write_clip(tmp_path / "in.mkv", audio="pcm_s16le")
    with av.open(str(path)) as source, av.open(str(tmp_path / "out.mkv"), "w") as output:
        audio = source.streams.audio[0]
        stream = output.add_stream_from_template(audio)
        packets = [packet for packet in source.demux(audio) if packet.pts is not None]
        packets[2].pts = packets[2].dts = packets[0].dts

        class Source:
            name = "in.mkv"
            demux = staticmethod(lambda _: iter(packets))

        times = [time_s for time_s, _ in _shifted_packets(Source, audio, stream, 0.0)]
    assert len(times) == len(packets) - 1
    assert times == sorted(times)
