"""Image reading, decoding, writing and cropping.

Images are (H, W, 3) uint8 in OpenCV's BGR order. Crops are (h, w, 3) uint8 in RGB, the order the models are trained on.
"""

import math
import stat
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from pose.config.pose import InputConfig
from pose.errors import DataError, MediaError
from pose.files import replacing, writing
from pose.geometry import Array, box_to_view, compose, invert, pixel_blocks, view_to_matrix

Image = NDArray[np.uint8]
"""(H, W, 3) uint8."""

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""File name suffixes of images, in lower case."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Mean of RGB in 0..1, as torchvision's ImageNet weights expect."""
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Standard deviation of RGB in 0..1, as torchvision's ImageNet weights expect."""

_JPEG_MAGIC = b"\xff\xd8\xff"
_REDUCED_FLAGS = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
"""OpenCV's decoding flags by reduction n: a JPEG is decoded to one pixel per n x n image pixels."""


# --- reading


def read_image(path: str | Path, *, upright: bool = False) -> Image:
    """Read an image as (H, W, 3) uint8 BGR.

    Protocol: the annotations of data sets are in raw pixels, so its EXIF orientation is ignored by default.

    Args:
        path: the file.
        upright: rotate the image as its EXIF orientation says.

    Raises:
        DataError: the file is missing, empty or not an image.
    """
    return decode(_read_bytes(Path(path)), path, upright=upright)


def read_upright_image(path: Path) -> Image:
    """Read an image as (H, W, 3) uint8 BGR, rotated as its EXIF orientation says.

    For data sets use `read_image`, which keeps the pixel coordinates of the annotations.

    Raises:
        MediaError: the file is missing or not an image.
    """
    try:
        encoded = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise MediaError(f"{path}: cannot read the image ({error.strerror})") from None
    image = cv2.imdecode(encoded, cv2.IMREAD_COLOR) if encoded.size else None
    if image is None:
        raise MediaError(f"{path}: not an image OpenCV can read ({encoded.size} bytes); replace or remove it")
    return np.asarray(image, dtype=np.uint8)


def find_images(folder: Path) -> list[Path]:
    """Return the image files of a folder, sorted by name.

    Raises:
        MediaError: the folder does not exist or has no images.
    """
    if not folder.is_dir():
        raise MediaError(f"{folder}: no such folder of images")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    if not paths:
        raise MediaError(f"{folder}: no images in this folder; expected {', '.join(IMAGE_SUFFIXES)}")
    return paths


def decode(encoded: NDArray[np.uint8], name: object, reduction: int = 1, *, upright: bool = False) -> Image:
    """Decode an image as `read_image` does.

    Args:
        encoded: content of the file.
        name: of the image, for the error message.
        reduction: 1, 2, 4 or 8: decode a JPEG to one pixel per ``reduction`` x ``reduction`` image pixels.
        upright: rotate the image as its EXIF orientation says.

    Raises:
        DataError: it is not an image.
    """
    flags = _REDUCED_FLAGS[reduction] | (0 if upright else cv2.IMREAD_IGNORE_ORIENTATION)
    image = None if encoded.size == 0 else cv2.imdecode(encoded, flags)
    if image is None:
        raise DataError(
            f"{name}: not an image OpenCV can read ({encoded.size} bytes); replace it or remove it from the data set"
        )
    return np.asarray(image, dtype=np.uint8)


def _read_bytes(path: Path) -> NDArray[np.uint8]:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe or device could be endless
            raise DataError(f"{path}: cannot read the image: expected a regular file, got a folder, pipe or device")
        return np.frombuffer(path.read_bytes(), dtype=np.uint8)
    except OSError as error:
        raise DataError(
            f"{path}: cannot read the image ({error.strerror}); check the path of the image folder"
        ) from None


# --- writing


def write_image(path: str | Path, image: Image) -> None:
    """Write a BGR image in the format given by the path's suffix.

    Raises:
        MediaError: the suffix is not that of an image, or the path cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        raise MediaError(f"{path}: not the file name of an image; expected {', '.join(IMAGE_SUFFIXES)}")
    _, encoded = cv2.imencode(path.suffix, image)
    with replacing(path) as temporary, writing(path):
        temporary.write_bytes(encoded.tobytes())


# --- cropping


def crop(image_bgr: Image, image_to_input: ArrayLike, size_wh: tuple[int, int]) -> Image:
    """Warp an image through a (2, 3) matrix to an (h, w, 3) RGB crop: bilinear, black outside the image."""
    warped = cv2.warpAffine(image_bgr, np.asarray(image_to_input, dtype=np.float64), size_wh, flags=cv2.INTER_LINEAR)
    return np.asarray(cv2.cvtColor(warped, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def person_crop(image_bgr: Image, bbox_xywh: ArrayLike, input_config: InputConfig) -> tuple[Image, Array, float]:
    """Crop a person box, upright.

    Returns:
        crop (h, w, 3) uint8 RGB, the (2, 3) matrix heatmap_to_image, and the area of the view in square image pixels.
    """
    view = box_to_view(bbox_xywh, input_config.aspect_ratio, input_config.padding)
    image_to_input = view_to_matrix(view, input_config.size_wh)
    heatmap_to_image = invert(view_to_matrix(view, input_config.heatmap_wh))
    return crop(image_bgr, image_to_input, input_config.size_wh), heatmap_to_image, view.area


def read_crop(path: str | Path, image_to_input: ArrayLike, size_wh: tuple[int, int]) -> Image:
    """Read an image file and crop it as `decode_crop` does.

    Raises:
        DataError: as `read_image`.
    """
    return decode_crop(_read_bytes(Path(path)), path, image_to_input, size_wh)


def decode_crop(encoded: NDArray[np.uint8], name: object, image_to_input: ArrayLike, size_wh: tuple[int, int]) -> Image:
    """Decode and crop an image as `decode` and `crop` do, but a JPEG at no higher resolution than the crop needs.

    Where the crop downscales a JPEG by 2, 4 or 8, the decoder averages blocks of pixels. This is faster than a full
    decode, and closer to the area average: a bilinear warp that downscales reads four pixels and skips those between.
    Protocol: training only; published figures are tested with fully decoded images.

    Args:
        encoded: content of the file.
        name: of the image, for the error message.
        image_to_input: (2, 3) matrix.
        size_wh: width and height of the crop.

    Raises:
        DataError: it is not an image.
    """
    image_to_input = np.asarray(image_to_input, dtype=np.float64)
    reduction = reduction_for(image_to_input) if encoded[:3].tobytes() == _JPEG_MAGIC else 1
    reduced_to_input = compose(image_to_input, pixel_blocks(reduction)) if reduction > 1 else image_to_input
    return crop(decode(encoded, name, reduction), reduced_to_input, size_wh)


def reduction_for(image_to_input: Array) -> int:
    """Return the largest reduction (1, 2, 4 or 8) at which the decoded image is no coarser than its crop."""
    (a, b, _), (c, d, _) = image_to_input.tolist()
    scale = math.sqrt(abs(a * d - b * c))  # input pixels per image pixel
    return max(reduction for reduction in _REDUCED_FLAGS if reduction == 1 or reduction * scale <= 1)
