"""Inputs of a command: what is an image or a video, names that stay unique, and downloads."""

import functools
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest

from pose.errors import MediaError
from pose.video.inputs import find_inputs, unique_names


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path):
    handler = functools.partial(QuietHandler, directory=str(tmp_path))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def write(folder: Path, *names: str) -> None:
    for value, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.full((20, 30, 3), value, np.uint8))


def test_files_folders_and_globs_of_images_are_one_source_and_each_video_is_its_own(tmp_path):
    write(tmp_path, "photos/b.png", "photos/a.png", "more/c.jpg", "d.jpg")
    for name in ("street.mp4", "park.avi"):
        (tmp_path / name).write_bytes(b"")
    arguments = ["d.jpg", "photos", "more/*.jpg", "street.mp4", "0", "rtsp://host/live/stream1", "park.avi"]
    images, *videos = find_inputs([a if a == "0" or "://" in a else str(tmp_path / a) for a in arguments])
    assert images.has_images
    assert images.file_names == ("d.jpg", "a.png", "b.png", "c.jpg")
    assert images.name == "images"
    assert images.files == [tmp_path / name for name in ("d.jpg", "photos/a.png", "photos/b.png", "more/c.jpg")]
    assert [video.name for video in videos] == ["street", "camera0", "stream1", "park"]
    assert [video.files for video in videos] == [[tmp_path / "street.mp4"], [], [], [tmp_path / "park.avi"]]


def test_frames_have_the_pixels_ids_and_names_of_their_files(tmp_path):
    write(tmp_path, "139.png", "7.png")
    (images,) = find_inputs([str(tmp_path / "139.png"), str(tmp_path / "7.png")])
    source = images.open()
    assert (source.kind, source.count, source.image_ids) == ("folder", 2, (139, 7))
    frames = list(source)
    assert [(f.index, f.image_id, f.file_name, f.time_s) for f in frames] == [
        (0, 139, "139.png", None),
        (1, 7, "7.png", None),
    ]
    assert [f.image[0, 0, 0] for f in frames] == [0, 1]


@pytest.mark.parametrize("names", [("1.png", "b.png"), ("a/1.png", "b/1.png"), ("1.png", "01.png")])
def test_image_ids_are_positions_if_the_names_do_not_number_all_images(tmp_path, names):
    write(tmp_path, *names)
    (images,) = find_inputs([str(tmp_path / name) for name in names])
    assert images.open().image_ids == (0, 1)


def test_the_name_is_that_of_the_only_image_or_folder(tmp_path):
    write(tmp_path, "photos/b.png", "photos/a.png")
    assert find_inputs([str(tmp_path / "photos/a.png")])[0].name == "a"
    assert find_inputs([str(tmp_path / "photos/a.png")])[0].open().kind == "image"
    assert find_inputs([str(tmp_path / "photos")])[0].name == "photos"


def test_names_that_repeat_get_as_many_folders_as_tell_them_apart():
    assert unique_names([Path("/x/a/1.jpg"), Path("/x/b/1.jpg")]) == ["a/1.jpg", "b/1.jpg"]
    assert unique_names([Path("/x/a/1.jpg"), Path("/y/a/1.jpg"), Path("/z/2.jpg")]) == [
        "x/a/1.jpg",
        "y/a/1.jpg",
        "z/2.jpg",
    ]
    assert unique_names([Path("/a/1.jpg"), "http://host/b/1.jpg"]) == ["a/1.jpg", "b/1.jpg"]
    assert unique_names([]) == []


def test_a_link_to_itself_is_refused_in_one_line(tmp_path):
    write(tmp_path, "a.png")
    (tmp_path / "loop.png").symlink_to("loop.png")
    (source,) = find_inputs([str(tmp_path)])
    with pytest.raises(MediaError, match=r"loop\.png") as caught:
        list(source.open())
    assert "\n" not in str(caught.value)


def test_names_of_addresses_stay_inside_the_output_folder():
    assert unique_names(["http://host/../../etc/a.jpg", "http://host/%2e%2e/%2e%2e/a.jpg"][:1]) == ["a.jpg"]
    names = unique_names(["http://host/x/..%2f..%2fa.jpg", "http://host/y/..%2f..%2fa.jpg"])
    assert names == ["x/a.jpg", "y/a.jpg"]


def test_addresses_that_differ_only_after_the_path_are_refused():
    with pytest.raises(MediaError, match="name of another input"):
        find_inputs(["http://host/a.jpg?v=1", "http://host/a.jpg?v=2"])


def test_an_input_that_is_named_twice_is_read_once(tmp_path):
    write(tmp_path, "a.png", "b.png")
    (images,) = find_inputs([str(tmp_path), str(tmp_path / "a.png"), str(tmp_path / "*.png")])
    assert images.file_names == ("a.png", "b.png")


def test_paths_are_shown_as_they_were_given(tmp_path, monkeypatch):
    write(tmp_path, "a.png", "b.png")
    monkeypatch.chdir(tmp_path)
    (images,) = find_inputs(["b.png", str(tmp_path / "a.png"), "a.png", "./b.png"])
    assert images.locations == (Path("b.png"), tmp_path / "a.png")
    assert find_inputs(["a.png"])[0].open().location == "a.png"


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tmp_path):
    write(tmp_path, "a[1].png", "a1.png")
    assert find_inputs([str(tmp_path / "a[1].png")])[0].file_names == ("a[1].png",)


@pytest.mark.parametrize(
    ("name", "message"), [("no.jpg", "no such video, image or folder"), ("*.png", "no file matches"), ("", "no images")]
)
def test_what_does_not_exist_is_named(tmp_path, name, message):
    with pytest.raises(MediaError, match=message):
        find_inputs([str(tmp_path / name)])


def test_images_are_downloaded_upright(tmp_path, server):
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    PIL.Image.new("RGB", (30, 20)).save(tmp_path / "phone.jpg", exif=exif)
    (images,) = find_inputs([f"{server}/phone.jpg"])
    assert (images.name, images.files) == ("phone", [])
    (frame,) = images.open()
    assert frame.size_wh == (20, 30)
