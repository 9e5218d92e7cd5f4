"""Images in, crops out: reading and the one warp that a person's crop takes.

Images are (H, W, 3) uint8 in OpenCV's BGR order; crops are (h, w, 3) uint8 in RGB, the order the models are trained on.
"""

import math
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from pose.config.pose import InputConfig
from pose.errors import DataError, MediaError
from pose.geometry import box_to_view, compose, invert, pixel_blocks, view_to_matrix

Image = NDArray[np.uint8]

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Of RGB in 0..1, as torchvision's ImageNet weights expect."""
IMAGENET_STD = (0.229, 0.224, 0.225)

JPEG_START = b"\xff\xd8\xff"
DECODING = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
"""OpenCV's flags by reduction: a JPEG can be decoded with a pixel for each n x n of the image's."""


def read_image(path: str | Path) -> Image:
    """Read an image as (H, W, 3) uint8 BGR, its EXIF orientation ignored (protocol: annotations are in raw pixels).

    Raises:
        DataError: the file is missing, empty or not an image.
    """
    return decode(_read(Path(path)), path)


def read_upright_image(path: Path) -> Image:
    """Read an image as people see it, turned as its EXIF orientation says: (H, W, 3) uint8 BGR.

    Data sets are read with `read_image`, which leaves the pixels where the annotations expect them.

    Raises:
        MediaError: the file is missing or not an image.
    """
    try:
        encoded = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise MediaError(f"{path}: cannot read the image ({error.strerror})") from None
    image = cv2.imdecode(encoded, cv2.IMREAD_COLOR) if encoded.size else None
    if image is None:
        raise MediaError(f"{path}: not an image OpenCV can read ({encoded.size} bytes); replace it or take it away")
    return np.asarray(image, dtype=np.uint8)


def find_images(folder: Path) -> list[Path]:
    """Return the image files of a folder, sorted by name.

    Raises:
        MediaError: there is no such folder, or it has none.
    """
    if not folder.is_dir():
        raise MediaError(f"{folder}: no such folder of images")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    if not paths:
        raise MediaError(f"{folder}: no images in this folder; expected {', '.join(IMAGE_SUFFIXES)}")
    return paths


def read_crop(path: str | Path, matrix: ArrayLike, size_wh: tuple[int, int]) -> Image:
    """Crop an image file as `decode_crop` does.

    Raises:
        DataError: as `read_image`.
    """
    return decode_crop(_read(Path(path)), path, matrix, size_wh)


def decode_crop(encoded: NDArray[np.uint8], name: object, matrix: ArrayLike, size_wh: tuple[int, int]) -> Image:
    """Crop an encoded image as `crop` does, a JPEG decoded no larger than the crop needs.

    Where the crop shrinks a JPEG to a half, a quarter or an eighth, the decoder gives the averages of blocks of pixels.
    That is faster, and closer to the average of what a pixel of the crop shows: a bilinear warp that shrinks looks at
    four pixels and skips those between. Protocol: training only; published figures are tested with whole images.

    Args:
        encoded: the file's content.
        name: of the image, for the message.
        matrix: (2, 3) image to input.
        size_wh: of the crop.

    Raises:
        DataError: it is not an image.
    """
    matrix = np.asarray(matrix, dtype=np.float64)
    reduction = reduction_for(matrix) if encoded[:3].tobytes() == JPEG_START else 1
    if reduction > 1:
        matrix = compose(matrix, pixel_blocks(reduction))
    return crop(decode(encoded, name, reduction), matrix, size_wh)


def reduction_for(matrix: NDArray[np.float64]) -> int:
    """Return 1, 2, 4 or 8: how much smaller an image may be decoded, and still not be coarser than its crop."""
    (a, b, _), (c, d, _) = matrix.tolist()
    inputs_per_pixel = math.sqrt(abs(a * d - b * c))
    return max(reduction for reduction in DECODING if reduction == 1 or reduction * inputs_per_pixel <= 1)


def decode(encoded: NDArray[np.uint8], name: object, reduction: int = 1) -> Image:
    """Decode an image as `read_image` does; a JPEG with a pixel for each ``reduction`` x ``reduction`` (1, 2, 4, 8).

    Raises:
        DataError: it is not an image.
    """
    flags = DECODING[reduction] | cv2.IMREAD_IGNORE_ORIENTATION
    image = None if encoded.size == 0 else cv2.imdecode(encoded, flags)
    if image is None:
        raise DataError(f"{name}: not an image OpenCV can read ({encoded.size} bytes); fetch it again or leave it out")
    return np.asarray(image, dtype=np.uint8)


def _read(path: Path) -> NDArray[np.uint8]:
    try:
        return np.frombuffer(path.read_bytes(), dtype=np.uint8)
    except OSError as error:
        raise DataError(
            f"{path}: cannot read the image ({error.strerror}); check the path of the image folder"
        ) from None


def crop(image_bgr: Image, matrix: ArrayLike, size_wh: tuple[int, int]) -> Image:
    """Warp an image through a (2, 3) image-to-input matrix, bilinear, black outside; returns (h, w, 3) RGB."""
    warped = cv2.warpAffine(image_bgr, np.asarray(matrix, dtype=np.float64), size_wh, flags=cv2.INTER_LINEAR)
    return np.asarray(cv2.cvtColor(warped, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def person_crop(
    image_bgr: Image, bbox_xywh: ArrayLike, input_config: InputConfig
) -> tuple[Image, NDArray[np.float64], float]:
    """Crop one box upright.

    Returns:
        crop (h, w, 3) uint8 RGB, the (2, 3) matrix from heatmap to image, and the view's area in square image pixels.
    """
    view = box_to_view(bbox_xywh, input_config.aspect_ratio, input_config.padding)
    image = crop(image_bgr, view_to_matrix(view, input_config.size_wh), input_config.size_wh)
    return image, invert(view_to_matrix(view, input_config.heatmap_wh)), view.area
