"""Reading pictures and the one warp, against OpenCV's imread and a pixel-by-pixel copy."""

import cv2
import numpy as np
import pytest

from pose.errors import DataError
from pose.images import crop, read_image

IDENTITY = np.array([[1.0, 0, 0], [0, 1, 0]])
# A JPEG application segment that says orientation 6 (turn by 90 degrees).
EXIF_TURNED = bytes.fromhex("ffe100224578696600004d4d002a00000008000101120003000000010006000000000000")


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def test_read_image_gives_bgr_as_opencv_does(tmp_path, image):
    cv2.imwrite(str(tmp_path / "picture.png"), image)

    np.testing.assert_array_equal(read_image(tmp_path / "picture.png"), image)
    np.testing.assert_array_equal(read_image(str(tmp_path / "picture.png")), image)


def test_read_image_finds_names_beyond_ascii(tmp_path, image):
    path = tmp_path / "Übung 人.png"
    path.write_bytes(cv2.imencode(".png", image)[1].tobytes())

    np.testing.assert_array_equal(read_image(path), image)


def test_read_image_turns_gray_and_transparent_pictures_into_three_channels(tmp_path, image):
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


@pytest.mark.parametrize("content", [None, b"", b"no picture at all"])
def test_a_picture_that_cannot_be_read_is_named_in_one_line(tmp_path, content):
    path = tmp_path / "picture.jpg"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(DataError, match=r"picture\.jpg") as caught:
        read_image(path)
    assert "\n" not in str(caught.value)


def test_a_folder_is_no_picture(tmp_path):
    with pytest.raises(DataError, match="cannot read"):
        read_image(tmp_path)


def test_crop_gives_rgb_and_keeps_the_pixels_of_an_integer_shift(image):
    shift = IDENTITY.copy()
    shift[:, 2] = [-3, -5]  # input (0, 0) is image (3, 5)

    np.testing.assert_array_equal(crop(image, shift, (10, 8)), image[5:13, 3:13, ::-1])


def test_crop_is_black_outside_the_picture(image):
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
