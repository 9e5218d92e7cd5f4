"""Images of users: EXIF against PIL, tensors and PIL images against arrays, and downloads from a local server."""

import time
from http.server import BaseHTTPRequestHandler

import cv2
import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
import torch
from torchvision.transforms.functional import to_tensor

from pose.errors import DataError, MediaError
from pose.images import read_image
from pose.inference.sources import download_image, expand, load_image

EXIF_ORIENTATION = 0x0112


@pytest.fixture
def image() -> np.ndarray:
    """An image of 60x40 pixels that no rotation or reflection maps to itself."""
    rng = np.random.default_rng(2)
    return cv2.GaussianBlur(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8), (0, 0), 3)


def save_rotated(image, path, orientation):
    exif = PIL.Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    PIL.Image.fromarray(np.ascontiguousarray(image[..., ::-1])).save(path, exif=exif, quality=100)


def pil_upright(path) -> np.ndarray:
    with PIL.Image.open(path) as opened:
        return np.asarray(PIL.ImageOps.exif_transpose(opened).convert("RGB"))[..., ::-1]


# --- EXIF


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_files_are_rotated_upright_as_pil_does_for_every_orientation(image, tmp_path, orientation, suffix):
    path = tmp_path / f"a{suffix}"
    save_rotated(image, path, orientation)
    expected = pil_upright(path)
    assert expected.shape == ((40, 60, 3) if orientation < 5 else (60, 40, 3))
    difference = np.abs(load_image(path).astype(int) - expected)  # two decoders differ by rounding
    assert difference.max() <= 4
    with PIL.Image.open(path) as opened:
        np.testing.assert_array_equal(load_image(opened), expected)


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_data_sets_are_read_without_rotation(image, tmp_path, orientation):
    save_rotated(image, tmp_path / "a.png", orientation)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), image)


# --- pixels


def test_pil_images_of_other_modes_are_converted_to_color(image):
    rgb = PIL.Image.fromarray(np.ascontiguousarray(image[..., ::-1]))
    np.testing.assert_array_equal(load_image(rgb), image)
    gray = load_image(rgb.convert("L"))
    assert gray.shape == (40, 60, 3)
    np.testing.assert_array_equal(gray[..., 0], gray[..., 2])
    np.testing.assert_array_equal(load_image(rgb.convert("RGBA")), image)


@pytest.mark.parametrize("mode", ["I", "F", "I;16", "LAB"])
def test_pil_images_of_more_than_8_bits_are_refused_not_clipped(mode):
    with pytest.raises(DataError, match=f"8 bits per channel, got a PIL image of mode {mode}"):
        load_image(PIL.Image.new(mode, (10, 10)))


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "La", "RGBa"]
)
def test_all_modes_of_pil_are_images_or_refused_with_one_line(mode):
    try:
        assert load_image(PIL.Image.new(mode, (10, 8))).shape == (8, 10, 3)
    except DataError as error:
        assert len(str(error).splitlines()) == 1


def test_a_pil_image_of_a_truncated_or_closed_file_is_refused(image, tmp_path):
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), image)
    path.write_bytes(path.read_bytes()[:500])
    opened = PIL.Image.open(path)
    with pytest.raises(DataError, match="a PIL image cannot be decoded"):
        load_image(opened)
    opened.close()
    with pytest.raises(DataError, match="a PIL image cannot be decoded"):
        load_image(opened)


@pytest.mark.parametrize(
    "pixels",
    [
        np.ma.array(np.zeros((4, 5, 3), np.uint8), mask=True),
        np.zeros((4, 5, 3), np.float32),
        np.full((4, 5, 3), np.nan),
        np.zeros((4, 5), np.uint8),
        np.zeros((4, 5, 4), np.uint8),
        np.zeros((0, 5, 3), np.uint8),
        np.zeros((4, 5, 3), bool),
        np.zeros((4, 5, 3), object),
        np.zeros((4, 5, 3), "S1"),
        b"a.png",
        None,
        7,
    ],
    ids=lambda pixels: f"{type(pixels).__name__} {getattr(pixels, 'dtype', '')} {getattr(pixels, 'shape', '')}",
)
def test_pixels_of_another_type_or_shape_are_refused_with_one_line(pixels):
    with pytest.raises(DataError, match=r"expected an image of \(H, W, 3\) uint8 BGR"):
        load_image(pixels)


@pytest.mark.parametrize(
    "name", ["nul\0.png", "surrogate\ud800.png", "http://127.0.0.1:1/nul\0.png", "http://\ud800/a.png"]
)
def test_names_and_addresses_with_impossible_characters_are_refused(name):
    assert expand(name) is None
    with pytest.raises(DataError, match=r"no file can have this name|cannot be downloaded"):
        load_image(name)


def test_a_name_that_is_too_long_is_one_image_that_cannot_be_read():
    assert expand(302 * "a") is None
    with pytest.raises(DataError):
        load_image(302 * "a")


def test_a_float_tensor_and_a_byte_tensor_are_the_same_image(image):
    rgb = np.ascontiguousarray(image[..., ::-1])
    as_float, as_bytes = to_tensor(rgb), torch.from_numpy(rgb).permute(2, 0, 1)
    assert as_float.dtype == torch.float32
    np.testing.assert_array_equal(load_image(as_float), image)
    np.testing.assert_array_equal(load_image(as_bytes), image)
    np.testing.assert_array_equal(load_image(as_float.clone().requires_grad_()), image)


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.zeros(40, 60, 3), r"\(3, H, W\) RGB.*got torch.float32 \(40, 60, 3\)"),
        (torch.zeros(3, 40, 60, dtype=torch.int64), "got torch.int64"),
        (torch.full((3, 40, 60), 255.0), "0..1, got 255 to 255; pass the image before its normalization"),
        (torch.full((3, 40, 60), -0.1), "0..1, got -0.1"),
        (torch.full((3, 40, 60), float("nan")), "0..1, got nan"),
        (torch.zeros(3, 0, 60), "got torch.float32"),
    ],
    ids=["channels last", "int64", "0..255", "normalized", "nan", "empty"],
)
def test_other_tensors_are_refused_with_one_line(tensor, message):
    with pytest.raises(DataError, match=message) as caught:
        load_image(tensor)
    assert "\n" not in str(caught.value)


# --- several images


def test_lists_folders_and_batches_are_several_images(image, tmp_path):
    for name in ("b.png", "a.png"):
        cv2.imwrite(str(tmp_path / name), image)
    (tmp_path / "notes.txt").write_text("no image")
    assert expand(tmp_path) == expand(str(tmp_path)) == [tmp_path / "a.png", tmp_path / "b.png"]
    assert expand(["a.png", image]) == ["a.png", image]
    assert expand((tmp_path / "a.png",)) == [tmp_path / "a.png"]
    assert expand([]) == []
    assert len(expand(np.stack([image, image]))) == 2
    assert [tensor.shape for tensor in expand(torch.zeros(2, 3, 40, 60))] == [(3, 40, 60)] * 2


def test_one_image_is_not_several(image, tmp_path):
    for source in (image, "a.png", tmp_path / "a.png", "http://host/a.png", torch.zeros(3, 4, 4), None, [[1, 2]]):
        assert expand(source) is None


def test_a_folder_without_images_is_an_error(tmp_path):
    with pytest.raises(MediaError, match="no images in this folder"):
        expand(tmp_path)


# --- addresses


class Handler(BaseHTTPRequestHandler):
    """Serves /image.png and misbehaves at other paths."""

    encoded = b""

    def do_GET(self):
        if self.path == "/image.png":
            self.answer(self.encoded)
        elif self.path == "/text.png":
            self.answer(b"no image")
        elif self.path == "/empty.png":
            self.answer(b"")
        elif self.path == "/redirect.png":
            self.redirect("/image.png")
        elif self.path == "/to_file.png":
            self.redirect("file:///etc/passwd")
        elif self.path == "/to_ftp.png":
            self.redirect("ftp://127.0.0.1/a.png")
        elif self.path == "/endless.png":
            self.drip(b"x" * 65536, 0)
        elif self.path == "/slow.png":
            self.drip(b"x", 0.05)
        elif self.path == "/silent.png":
            time.sleep(1.5)
        else:
            self.send_error(404)

    def answer(self, content):
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def redirect(self, location):
        self.send_response(302)
        self.send_header("Location", location)
        self.end_headers()

    def drip(self, block, pause_s):
        self.send_response(200)
        self.end_headers()
        try:
            for _ in range(40):
                self.wfile.write(block)
                time.sleep(pause_s)
        except ConnectionError:
            pass


@pytest.fixture(scope="module")
def server(serve):
    return serve(Handler)


@pytest.mark.parametrize("name", ["image.png", "redirect.png"])
def test_an_address_is_downloaded_and_rotated_upright(server, image, tmp_path, monkeypatch, name):
    save_rotated(image, tmp_path / "a.png", 6)
    monkeypatch.setattr(Handler, "encoded", (tmp_path / "a.png").read_bytes())
    np.testing.assert_array_equal(load_image(f"{server}/{name}"), pil_upright(tmp_path / "a.png"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.png", "cannot be downloaded .*404"),
        ("text.png", "not an image"),
        ("empty.png", "not an image"),
        ("to_file.png", "cannot be downloaded"),
        ("to_ftp.png", "cannot be downloaded"),
        ("endless.png", "larger than 1 MiB"),
        ("slow.png", "not downloaded within 0.5 s"),
        ("silent.png", "(no answer|not downloaded) within 0.5 s"),
    ],
)
def test_a_bad_download_is_one_line_with_the_address(server, name, message):
    with pytest.raises(DataError, match=message) as caught:
        download_image(f"{server}/{name}", max_bytes=1 << 20, timeout_s=0.5)
    assert str(caught.value).startswith(f"{server}/{name}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("address", ["ftp://host/a.png", "file:///etc/hosts", "data://text/plain,x", "s3://a/b.png"])
def test_other_protocols_are_refused(address):
    with pytest.raises(DataError, match="expected an address with http:// or https://"):
        load_image(address)


@pytest.mark.parametrize("address", ["http://", "http://[::1", "http://127.0.0.1:1/a.png", "http://a b/c.png"])
def test_an_address_that_cannot_be_reached_is_one_line(address):
    with pytest.raises(DataError, match="cannot be downloaded") as caught:
        load_image(address)
    assert "\n" not in str(caught.value)
