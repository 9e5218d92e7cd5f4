"""Reading images and the one warp, against OpenCV's imread, a pixel-by-pixel copy, ramps and averages."""

import cv2
import numpy as np
import pytest

from pose.errors import DataError
from pose.geometry import View, compose, invert, transform_points, view_to_matrix
from pose.images import crop, decode, read_crop, read_image, reduction_for

IDENTITY = np.array([[1.0, 0, 0], [0, 1, 0]])
# A JPEG application segment that says orientation 6 (turn by 90 degrees).
EXIF_TURNED = bytes.fromhex("ffe100224578696600004d4d002a00000008000101120003000000010006000000000000")


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def test_read_image_gives_bgr_as_opencv_does(tmp_path, image):
    cv2.imwrite(str(tmp_path / "image.png"), image)

    np.testing.assert_array_equal(read_image(tmp_path / "image.png"), image)
    np.testing.assert_array_equal(read_image(str(tmp_path / "image.png")), image)


def test_read_image_finds_names_beyond_ascii(tmp_path, image):
    path = tmp_path / "Übung 人.png"
    path.write_bytes(cv2.imencode(".png", image)[1].tobytes())

    np.testing.assert_array_equal(read_image(path), image)


def test_read_image_turns_gray_and_transparent_images_into_three_channels(tmp_path, image):
    cv2.imwrite(str(tmp_path / "gray.png"), image[..., 0])
    cv2.imwrite(str(tmp_path / "transparent.png"), np.dstack([image, image[..., :1]]))

    np.testing.assert_array_equal(read_image(tmp_path / "gray.png"), image[..., [0, 0, 0]])
    np.testing.assert_array_equal(read_image(tmp_path / "transparent.png"), image)


def test_read_image_ignores_the_orientation_tag(tmp_path, image):
    plain = cv2.imencode(".jpg", image)[1].tobytes()
    path = tmp_path / "turned.jpg"
    path.write_bytes(plain[:2] + EXIF_TURNED + plain[2:])

    assert cv2.imread(str(path)).shape == (30, 20, 3), "the tag of this test does not work"
    np.testing.assert_array_equal(read_image(path), cv2.imdecode(np.frombuffer(plain, np.uint8), cv2.IMREAD_COLOR))


@pytest.mark.parametrize("content", [None, b"", b"no image at all"])
def test_a_image_that_cannot_be_read_is_named_in_one_line(tmp_path, content):
    path = tmp_path / "image.jpg"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(DataError, match=r"image\.jpg") as caught:
        read_image(path)
    assert "\n" not in str(caught.value)


def test_a_folder_is_no_image(tmp_path):
    with pytest.raises(DataError, match="cannot read"):
        read_image(tmp_path)


def test_crop_gives_rgb_and_keeps_the_pixels_of_an_integer_shift(image):
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


def test_crop_interpolates_between_neighbours():
    ramp = np.zeros((5, 8, 3), dtype=np.uint8)
    ramp[...] = (np.arange(8) * 16)[None, :, None]

    halved = crop(ramp, [[2, 0, 0], [0, 2, 0]], (14, 8))

    np.testing.assert_array_equal(halved[2, :, 0], np.arange(14) * 8)


JPEG_100 = [cv2.IMWRITE_JPEG_QUALITY, 100]
SIZE_WH = (24, 32)


def shrinking(factor, rotation_deg=0.0, flip=False, center=(150, 130)):
    """A matrix that shows ``factor`` image pixels in each input pixel."""
    return view_to_matrix(View(center, (24 * factor, 32 * factor), rotation_deg, flip), SIZE_WH)


@pytest.mark.parametrize(
    ("pixels_per_input", "reduction"),
    [(0.2, 1), (1, 1), (1.99, 1), (2.01, 2), (3.99, 2), (4.01, 4), (7.9, 4), (8.1, 8), (100, 8)],
)
@pytest.mark.parametrize(("rotation_deg", "flip"), [(0, False), (30, True)])
def test_a_image_is_never_reduced_below_the_resolution_of_its_crop(pixels_per_input, reduction, rotation_deg, flip):
    assert reduction_for(shrinking(pixels_per_input, rotation_deg, flip)) == reduction


@pytest.mark.parametrize("size_wh", [(320, 256), (323, 261)], ids=["whole blocks", "a part of a block left"])
@pytest.mark.parametrize("rotation_deg", [0, 25])
@pytest.mark.parametrize("factor", [2, 3, 4, 5, 8])
def test_a_reduced_image_is_cropped_to_the_same_place(tmp_path, factor, rotation_deg, size_wh):
    """On ramps every average is the value in its middle; a reduction by n without its offset is (n - 1) / 2 off."""
    y, x = np.indices(size_wh[::-1])
    slopes = np.array([0.7, -0.9])
    ramps = np.dstack([0 * x, 250 + slopes[1] * y, 5 + slopes[0] * x]).round().astype(np.uint8)  # B, G, R
    path = tmp_path / "ramps.jpg"
    sampling = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    cv2.imwrite(str(path), ramps, [*JPEG_100, *sampling])
    matrix = shrinking(factor, rotation_deg, flip=True)
    reduction = reduction_for(matrix)
    assert reduction > 1

    found = read_crop(path, matrix, SIZE_WH)

    rows, columns = np.indices(found.shape[:2])
    in_image = transform_points(np.dstack([columns, rows]).reshape(-1, 2), invert(matrix))
    inside = ((in_image > 2 * factor) & (in_image < np.array(size_wh) - 2 * factor)).all(axis=1)
    assert inside.sum() > 200
    shown_at = (found.reshape(-1, 3)[inside, :2] - [5, 250]) / slopes  # where the ramps have the colors of the crop
    np.testing.assert_allclose((shown_at - in_image[inside]).mean(axis=0), 0, atol=reduction / 8)


@pytest.mark.parametrize("reduction", [2, 4, 8])
@pytest.mark.parametrize("size_wh", [(64, 48), (61, 43)])
def test_a_reduced_pixel_averages_its_block(reduction, size_wh):
    noise = np.random.default_rng(1).integers(0, 256, (*size_wh[::-1], 1), dtype=np.uint8)
    smooth = cv2.GaussianBlur(np.dstack([noise] * 3), (0, 0), 4)
    encoded = cv2.imencode(".jpg", smooth, JPEG_100)[1]
    whole = [length // reduction for length in smooth.shape[:2]]

    found = decode(encoded, "noise", reduction)

    assert found.shape[:2] == tuple(-(-length // reduction) for length in smooth.shape[:2])
    blocks = smooth[: whole[0] * reduction, : whole[1] * reduction].reshape(whole[0], reduction, whole[1], reduction, 3)
    difference = np.abs(found[: whole[0], : whole[1]].astype(float) - blocks.mean(axis=(1, 3)))
    assert difference.max() < 4


def test_a_reduced_crop_is_closer_to_the_average_of_what_it_shows(tmp_path):
    noise = np.random.default_rng(2).integers(0, 256, (256, 320, 3), dtype=np.uint8)
    image = cv2.GaussianBlur(noise, (0, 0), 1)
    path = tmp_path / "fine.jpg"
    cv2.imwrite(str(path), image, JPEG_100)
    matrix, many = shrinking(5, 20), 8
    finer = compose(np.array([[many, 0, (many - 1) / 2], [0, many, (many - 1) / 2]]), matrix)
    large_wh = (SIZE_WH[0] * many, SIZE_WH[1] * many)
    average = crop(image, finer, large_wh).reshape(32, many, 24, many, 3).mean(axis=(1, 3))

    errors = [
        np.abs(found - average).mean() for found in (read_crop(path, matrix, SIZE_WH), crop(image, matrix, SIZE_WH))
    ]

    assert errors[0] < 0.6 * errors[1]


@pytest.mark.parametrize(("suffix", "factor"), [(".png", 5), (".webp", 5), (".jpg", 1.9), (".jpg", 0.5)])
def test_other_images_and_larger_crops_are_decoded_whole(tmp_path, suffix, factor):
    noise = np.random.default_rng(3).integers(0, 256, (256, 320, 3), dtype=np.uint8)
    path = tmp_path / f"image{suffix}"
    cv2.imwrite(str(path), noise)
    matrix = shrinking(factor)

    np.testing.assert_array_equal(read_crop(path, matrix, SIZE_WH), crop(read_image(path), matrix, SIZE_WH))


def test_a_jpeg_is_known_by_its_content(tmp_path):
    noise = np.random.default_rng(3).integers(0, 256, (256, 320, 3), dtype=np.uint8)
    paths = tmp_path / "image.jpg", tmp_path / "image.png"
    for path in paths:
        path.write_bytes(cv2.imencode(".jpg", noise)[1].tobytes())

    np.testing.assert_array_equal(*(read_crop(path, shrinking(5), SIZE_WH) for path in paths))
    assert (read_crop(paths[1], shrinking(5), SIZE_WH) != crop(read_image(paths[1]), shrinking(5), SIZE_WH)).any()


def test_a_reduced_image_ignores_the_orientation_tag(image):
    plain = cv2.imencode(".jpg", image)[1].tobytes()
    turned = np.frombuffer(plain[:2] + EXIF_TURNED + plain[2:], np.uint8)

    np.testing.assert_array_equal(decode(turned, "", 2), decode(np.frombuffer(plain, np.uint8), "", 2))
    assert decode(turned, "", 2).shape == (10, 15, 3)


@pytest.mark.parametrize("content", [None, b"", b"no image at all", b"\xff\xd8\xff\xe0 torn"])
def test_a_image_that_cannot_be_cropped_is_named_in_one_line(tmp_path, content):
    path = tmp_path / "image.jpg"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(DataError, match=r"image\.jpg") as caught:
        read_crop(path, shrinking(5), SIZE_WH)
    assert "\n" not in str(caught.value)
