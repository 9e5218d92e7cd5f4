"""Image reading and cropping, compared with OpenCV's imread, copied pixels, ramps and averages."""

import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest

from pose.errors import DataError, MediaError
from pose.geometry import View, compose, invert, transform_points, view_to_matrix
from pose.images import (
    crop,
    decode,
    find_images,
    read_crop,
    read_image,
    read_upright_image,
    reduction_for,
    write_image,
)

IDENTITY = np.array([[1.0, 0, 0], [0, 1, 0]])
# JPEG application segment with EXIF orientation 6 (rotate by 90 degrees).
EXIF_ROTATED = bytes.fromhex("ffe100224578696600004d4d002a00000008000101120003000000010006000000000000")


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def test_read_image_returns_bgr_as_opencv_does(tmp_path, image):
    cv2.imwrite(str(tmp_path / "image.png"), image)

    np.testing.assert_array_equal(read_image(tmp_path / "image.png"), image)
    np.testing.assert_array_equal(read_image(str(tmp_path / "image.png")), image)


def test_read_image_accepts_file_names_beyond_ascii(tmp_path, image):
    path = tmp_path / "Übung 人.png"
    path.write_bytes(cv2.imencode(".png", image)[1].tobytes())

    np.testing.assert_array_equal(read_image(path), image)


def test_read_image_converts_gray_and_transparent_images_to_three_channels(tmp_path, image):
    cv2.imwrite(str(tmp_path / "gray.png"), image[..., 0])
    cv2.imwrite(str(tmp_path / "transparent.png"), np.dstack([image, image[..., :1]]))

    np.testing.assert_array_equal(read_image(tmp_path / "gray.png"), image[..., [0, 0, 0]])
    np.testing.assert_array_equal(read_image(tmp_path / "transparent.png"), image)


def test_read_image_ignores_the_exif_orientation(tmp_path, image):
    plain = cv2.imencode(".jpg", image)[1].tobytes()
    path = tmp_path / "rotated.jpg"
    path.write_bytes(plain[:2] + EXIF_ROTATED + plain[2:])

    assert cv2.imread(str(path)).shape == (30, 20, 3), "the EXIF segment of this test is wrong"
    np.testing.assert_array_equal(read_image(path), cv2.imdecode(np.frombuffer(plain, np.uint8), cv2.IMREAD_COLOR))


@pytest.mark.parametrize("content", [None, b"", b"no image at all"])
def test_read_image_names_an_unreadable_image_in_one_line(tmp_path, content):
    path = tmp_path / "image.jpg"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(DataError, match=r"image\.jpg") as caught:
        read_image(path)
    assert "\n" not in str(caught.value)


def test_read_image_refuses_a_folder(tmp_path):
    with pytest.raises(DataError, match="cannot read"):
        read_image(tmp_path)


def test_crop_returns_rgb_and_keeps_the_pixels_of_an_integer_shift(image):
    shift = IDENTITY.copy()
    shift[:, 2] = [-3, -5]  # input (0, 0) is image (3, 5)

    np.testing.assert_array_equal(crop(image, shift, (10, 8)), image[5:13, 3:13, ::-1])


def test_crop_is_black_outside_the_image(image):
    shifted = IDENTITY.copy()
    shifted[:, 2] = [4, 2]

    warped = crop(image, shifted, (40, 30))

    np.testing.assert_array_equal(warped[2:22, 4:34], image[..., ::-1])
    assert not warped[:2].any()
    assert not warped[22:].any()
    assert not warped[:, :4].any()
    assert not warped[:, 34:].any()


def test_crop_interpolates_between_neighbors():
    ramp = np.zeros((5, 8, 3), dtype=np.uint8)
    ramp[...] = (np.arange(8) * 16)[None, :, None]

    halved = crop(ramp, [[2, 0, 0], [0, 2, 0]], (14, 8))

    np.testing.assert_array_equal(halved[2, :, 0], np.arange(14) * 8)


JPEG_100 = [cv2.IMWRITE_JPEG_QUALITY, 100]
SIZE_WH = (24, 32)


def downscaling(factor, rotation_deg=0.0, flip=False, center=(150, 130)):
    """Return the image_to_input matrix of a crop with ``factor`` image pixels per input pixel."""
    return view_to_matrix(View(center, (24 * factor, 32 * factor), rotation_deg, flip), SIZE_WH)


@pytest.mark.parametrize(
    ("pixels_per_input", "reduction"),
    [(0.2, 1), (1, 1), (1.99, 1), (2.01, 2), (3.99, 2), (4.01, 4), (7.9, 4), (8.1, 8), (100, 8)],
)
@pytest.mark.parametrize(("rotation_deg", "flip"), [(0, False), (30, True)])
def test_the_reduction_is_never_coarser_than_the_crop(pixels_per_input, reduction, rotation_deg, flip):
    assert reduction_for(downscaling(pixels_per_input, rotation_deg, flip)) == reduction


@pytest.mark.parametrize("size_wh", [(320, 256), (323, 261)], ids=["whole blocks", "partial blocks"])
@pytest.mark.parametrize("rotation_deg", [0, 25])
@pytest.mark.parametrize("factor", [2, 3, 4, 5, 8])
def test_a_crop_of_a_reduced_image_shows_the_same_region(tmp_path, factor, rotation_deg, size_wh):
    """On ramps, an average equals the value at its center; without its offset, a reduction by n is (n - 1) / 2 off."""
    y, x = np.indices(size_wh[::-1])
    slopes = np.array([0.7, -0.9])
    ramps = np.dstack([0 * x, 250 + slopes[1] * y, 5 + slopes[0] * x]).round().astype(np.uint8)  # B, G, R
    path = tmp_path / "ramps.jpg"
    sampling = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    cv2.imwrite(str(path), ramps, [*JPEG_100, *sampling])
    image_to_input = downscaling(factor, rotation_deg, flip=True)
    reduction = reduction_for(image_to_input)
    assert reduction > 1

    cropped = read_crop(path, image_to_input, SIZE_WH)

    rows, columns = np.indices(cropped.shape[:2])
    points_image = transform_points(np.dstack([columns, rows]).reshape(-1, 2), invert(image_to_input))
    inside = ((points_image > 2 * factor) & (points_image < np.array(size_wh) - 2 * factor)).all(axis=1)
    assert inside.sum() > 200
    decoded_image = (cropped.reshape(-1, 3)[inside, :2] - [5, 250]) / slopes  # positions from the colors of the ramps
    np.testing.assert_allclose((decoded_image - points_image[inside]).mean(axis=0), 0, atol=reduction / 8)


@pytest.mark.parametrize("reduction", [2, 4, 8])
@pytest.mark.parametrize("size_wh", [(64, 48), (61, 43)])
def test_a_pixel_of_a_reduced_image_averages_its_block(reduction, size_wh):
    noise = np.random.default_rng(1).integers(0, 256, (*size_wh[::-1], 1), dtype=np.uint8)
    smooth = cv2.GaussianBlur(np.dstack([noise] * 3), (0, 0), 4)
    encoded = cv2.imencode(".jpg", smooth, JPEG_100)[1]
    whole = [length // reduction for length in smooth.shape[:2]]

    reduced = decode(encoded, "noise", reduction)

    assert reduced.shape[:2] == tuple(-(-length // reduction) for length in smooth.shape[:2])
    blocks = smooth[: whole[0] * reduction, : whole[1] * reduction].reshape(whole[0], reduction, whole[1], reduction, 3)
    difference = np.abs(reduced[: whole[0], : whole[1]].astype(float) - blocks.mean(axis=(1, 3)))
    assert difference.max() < 4


def test_a_crop_of_a_reduced_image_is_closer_to_the_area_average(tmp_path):
    noise = np.random.default_rng(2).integers(0, 256, (256, 320, 3), dtype=np.uint8)
    image = cv2.GaussianBlur(noise, (0, 0), 1)
    path = tmp_path / "fine.jpg"
    cv2.imwrite(str(path), image, JPEG_100)
    image_to_input, samples = downscaling(5, 20), 8
    input_to_finer = np.array([[samples, 0, (samples - 1) / 2], [0, samples, (samples - 1) / 2]])
    finer_wh = (SIZE_WH[0] * samples, SIZE_WH[1] * samples)
    finer = crop(image, compose(input_to_finer, image_to_input), finer_wh)
    average = finer.reshape(32, samples, 24, samples, 3).mean(axis=(1, 3))

    errors = [
        np.abs(cropped - average).mean()
        for cropped in (read_crop(path, image_to_input, SIZE_WH), crop(image, image_to_input, SIZE_WH))
    ]

    assert errors[0] < 0.6 * errors[1]


@pytest.mark.parametrize(("suffix", "factor"), [(".png", 5), (".webp", 5), (".jpg", 1.9), (".jpg", 0.5)])
def test_other_formats_and_larger_crops_are_decoded_at_full_resolution(tmp_path, suffix, factor):
    noise = np.random.default_rng(3).integers(0, 256, (256, 320, 3), dtype=np.uint8)
    path = tmp_path / f"image{suffix}"
    cv2.imwrite(str(path), noise)
    image_to_input = downscaling(factor)

    expected = crop(read_image(path), image_to_input, SIZE_WH)
    np.testing.assert_array_equal(read_crop(path, image_to_input, SIZE_WH), expected)


def test_a_jpeg_is_recognized_by_its_content(tmp_path):
    noise = np.random.default_rng(3).integers(0, 256, (256, 320, 3), dtype=np.uint8)
    paths = tmp_path / "image.jpg", tmp_path / "image.png"
    for path in paths:
        path.write_bytes(cv2.imencode(".jpg", noise)[1].tobytes())

    np.testing.assert_array_equal(*(read_crop(path, downscaling(5), SIZE_WH) for path in paths))
    assert (read_crop(paths[1], downscaling(5), SIZE_WH) != crop(read_image(paths[1]), downscaling(5), SIZE_WH)).any()


def test_a_reduced_image_ignores_the_exif_orientation(image):
    plain = cv2.imencode(".jpg", image)[1].tobytes()
    rotated = np.frombuffer(plain[:2] + EXIF_ROTATED + plain[2:], np.uint8)

    np.testing.assert_array_equal(decode(rotated, "", 2), decode(np.frombuffer(plain, np.uint8), "", 2))
    assert decode(rotated, "", 2).shape == (10, 15, 3)


@pytest.mark.parametrize("content", [None, b"", b"no image at all", b"\xff\xd8\xff\xe0 truncated"])
def test_read_crop_names_an_unreadable_image_in_one_line(tmp_path, content):
    path = tmp_path / "image.jpg"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(DataError, match=r"image\.jpg") as caught:
        read_crop(path, downscaling(5), SIZE_WH)
    assert "\n" not in str(caught.value)


# --- paths, sizes and colors that OpenCV does not take


@pytest.fixture
def latin_folder(tmp_path) -> Path:
    """A folder whose name is not UTF-8."""
    folder = os.path.join(os.fsencode(tmp_path), b"caf\xe9")
    try:
        os.mkdir(folder)
    except OSError:
        pytest.skip("this file system has no names other than UTF-8")
    return Path(os.fsdecode(folder))


def test_images_are_read_and_written_at_paths_that_are_not_utf8(latin_folder, image):
    write_image(latin_folder / "a.png", image)
    np.testing.assert_array_equal(read_image(latin_folder / "a.png"), image)
    np.testing.assert_array_equal(read_upright_image(find_images(latin_folder)[0]), image)


@pytest.mark.parametrize("name", ["nul\0.png", "surrogate\ud800.png"])
@pytest.mark.parametrize("read", [read_image, read_upright_image])
def test_a_name_that_no_file_can_have_is_refused(name, read):
    with pytest.raises((DataError, MediaError), match="no file can have this name") as caught:
        read(Path(name))
    assert str(caught.value).isprintable()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipes_and_devices_are_refused_and_never_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")  # reading it would wait for ever
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    for name in ("pipe.png", "zero.png"):
        with pytest.raises(DataError, match=rf"{name}: .*expected a regular file"):
            read_image(tmp_path / name)


def png_claiming(width: int, height: int) -> bytes:
    """Return a PNG of a few bytes whose header claims a size."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(60_000, 60_000), (400_000, 400_000)])
def test_an_image_that_claims_too_many_pixels_is_refused_before_it_is_decoded(tmp_path, size):
    path = tmp_path / "bomb.png"
    path.write_bytes(png_claiming(*size))
    with pytest.raises(DataError, match=r"bomb\.png: too many pixels"):
        read_image(path)


def test_the_limit_of_pixels_is_set_before_opencv_is_imported(tmp_path):
    path = tmp_path / "bomb.png"
    path.write_bytes(png_claiming(20_000, 20_000))  # OpenCV's own limit is 2**30
    code = f"from pose.images import read_image; read_image({str(path)!r})"
    environment = {name: value for name, value in os.environ.items() if name != "OPENCV_IO_MAX_IMAGE_PIXELS"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert "too many pixels" in done.stderr


def encoded_by_pil(image: PIL.Image.Image, kind: str) -> np.ndarray:
    file = io.BytesIO()
    image.save(file, kind, **({"quality": 100} if kind == "JPEG" else {}))
    return np.frombuffer(file.getvalue(), np.uint8)


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("P", "TIFF"), ("P", "PNG"), ("CMYK", "TIFF"), ("CMYK", "JPEG"), ("L", "TIFF"), ("1", "TIFF"), ("RGBA", "TIFF")],
)
def test_palette_gray_and_cmyk_images_have_the_colors_of_pillow(mode, kind):
    gradient = np.dstack([np.tile(np.arange(64) * 4, (48, 1)), np.full((48, 64), 90), np.full((48, 64), 200)])
    converted = PIL.Image.fromarray(gradient.astype(np.uint8)).convert(mode)
    encoded = encoded_by_pil(converted, kind)
    with PIL.Image.open(io.BytesIO(encoded.tobytes())) as opened:
        expected = np.asarray(opened.convert("RGB"))[..., ::-1].astype(int)
    assert np.abs(decode(encoded, "a") - expected).max() <= 6  # two decoders


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_16_bits_are_divided_by_256(suffix, channels):
    levels = np.random.default_rng(0).integers(0, 1 << 16, (20, 30, channels), dtype=np.uint16)
    decoded = decode(cv2.imencode(suffix, levels)[1], "a")
    assert np.abs(decoded - np.broadcast_to(levels, (20, 30, 3)) / 256).max() <= 2


@pytest.mark.parametrize(
    "pixels",
    [PIL.Image.new("LAB", (4, 4), (150, 20, 30)), PIL.Image.new("F", (4, 4), 0.5), PIL.Image.new("I", (4, 4), 70_000)],
    ids=["LAB", "float", "32 bit"],
)
def test_tiff_files_of_other_colors_and_numbers_are_refused(pixels, capfd):
    with pytest.raises(DataError, match=r"a\.tif: expected a TIFF of gray, RGB, CMYK or palette colors"):
        decode(encoded_by_pil(pixels, "TIFF"), "a.tif")
    assert capfd.readouterr().err == ""


def test_a_tiff_with_damaged_tags_is_not_an_image():
    encoded = encoded_by_pil(PIL.Image.new("RGB", (4, 4)), "TIFF")
    with pytest.raises(DataError, match="not an image"):
        decode(encoded[:20], "a.tif")


@pytest.mark.parametrize(("suffix", "side"), [(".webp", 16_384), (".jpg", 65_501)])
def test_an_image_that_its_format_cannot_hold_is_refused(tmp_path, capfd, suffix, side):
    with pytest.raises(MediaError, match=rf"1x{side} pixels do not fit {suffix}"):
        write_image(tmp_path / f"a{suffix}", np.zeros((side, 1, 3), np.uint8))
    assert capfd.readouterr().err == ""


# --- upright images and folders


def test_read_upright_image_rotates_by_the_exif_orientation(tmp_path, image):
    plain = cv2.imencode(".jpg", image)[1].tobytes()
    path = tmp_path / "rotated.jpg"
    path.write_bytes(plain[:2] + EXIF_ROTATED + plain[2:])

    assert read_image(path).shape == (20, 30, 3)
    assert read_upright_image(path).shape == (30, 20, 3)


@pytest.mark.parametrize("content", [None, b"", b"no image at all"])
def test_read_upright_image_names_an_unreadable_image_in_one_line(tmp_path, content):
    path = tmp_path / "image.jpg"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(MediaError, match=r"image\.jpg") as caught:
        read_upright_image(path)
    assert "\n" not in str(caught.value)


def test_find_images_sorts_by_name_and_skips_other_files(tmp_path):
    for name in ("b.JPG", "a.png", "notes.txt", "c.webp"):
        (tmp_path / name).write_bytes(b"")

    assert [path.name for path in find_images(tmp_path)] == ["a.png", "b.JPG", "c.webp"]


def test_find_images_refuses_a_missing_or_empty_folder(tmp_path):
    with pytest.raises(MediaError, match="no such folder"):
        find_images(tmp_path / "missing")
    with pytest.raises(MediaError, match="no images in this folder"):
        find_images(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_or_device_is_no_image_and_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    for path in (tmp_path / "pipe.jpg", tmp_path / "zero.jpg", Path("/dev/zero"), tmp_path):
        with pytest.raises(DataError, match="expected a regular file"):
            read_image(path)
        with pytest.raises(DataError, match="expected a regular file"):
            read_crop(path, np.eye(2, 3), (4, 4))
