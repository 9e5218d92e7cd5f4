"""Image reading, decoding, writing and cropping.

Images are (H, W, 3) uint8 in OpenCV's BGR order. Crops are (h, w, 3) uint8 in RGB, the order the models are trained on.
"""

import io
import math
import stat
import warnings
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

MAX_IMAGE_BYTES = 1 << 30
"""Maximum size of an image file."""

_MAX_SIDES = {".webp": 16_383, ".jpg": 65_500, ".jpeg": 65_500}
MAX_SIDE = 1_000_000
"""Maximum width and height of an image that is written, in pixels; less in formats that cannot hold it."""

_JPEG_MAGIC = b"\xff\xd8\xff"
_TIFF_MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_BIG_TIFF = 43
_TIFF_BITS, _TIFF_COLORS, _TIFF_NUMBERS = 258, 262, 339
"""Tags of a TIFF file: bits per sample, photometric interpretation, sample format."""
_TIFF_KNOWN_COLORS = (0, 1, 2, 3, 5, 6)
"""Two kinds of gray, RGB, palette, CMYK, YCbCr; OpenCV takes Lab for CMYK."""
_REDUCED_FLAGS = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
"""OpenCV's decoding flags by reduction n: a JPEG is decoded to one pixel per n x n image pixels."""


# --- reading


def read_image(path: str | Path, *, upright: bool = False) -> Image:
    """Read an image as (H, W, 3) uint8 BGR: gray, palette, 16 bit and CMYK are converted, of several only the first.

    Protocol: the annotations of data sets are in raw pixels, so its EXIF orientation is ignored by default.

    Args:
        path: the file.
        upright: rotate the image as its EXIF orientation says.

    Raises:
        DataError: the file is missing, not a regular file, empty or not an image, or too large.
    """
    return decode(_read_bytes(Path(path)), path, upright=upright)


def read_upright_image(path: Path) -> Image:
    """Read an image as `read_image` does, rotated as its EXIF orientation says.

    For data sets use `read_image`, which keeps the pixel coordinates of the annotations.

    Raises:
        MediaError: the image cannot be read.
    """
    try:
        return read_image(path, upright=True)
    except DataError as error:
        raise MediaError(str(error)) from None


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
        DataError: it is not an image, larger than OpenCV's limit of pixels (`pose` sets one), or of other colors.
    """
    if encoded[:4].tobytes() in _TIFF_MAGICS:
        _check_tiff(encoded, name)
    flags = _REDUCED_FLAGS[reduction] | (0 if upright else cv2.IMREAD_IGNORE_ORIENTATION)
    try:
        image = cv2.imdecode(encoded, flags) if encoded.size else None
    except cv2.error as error:
        if "CV_IO_MAX" in str(error):
            raise DataError(f"{name}: too many pixels, more than OPENCV_IO_MAX_IMAGE_PIXELS; shrink it") from None
        image = None
    if image is None:
        raise _not_an_image(encoded, name)
    return np.asarray(image, dtype=np.uint8)


def _not_an_image(encoded: NDArray[np.uint8], name: object) -> DataError:
    return DataError(f"{name}: not an image OpenCV can read ({encoded.size} bytes); replace or remove it")


def _check_tiff(encoded: NDArray[np.uint8], name: object) -> None:
    """Refuse TIFF files whose colors or numbers OpenCV cannot convert to BGR of 8 bits.

    Raises:
        DataError: it is such a file.
    """
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    file = io.BytesIO(encoded.tobytes())
    try:
        tags = ImageFileDirectory_v2(file.read(16 if encoded[2] == _BIG_TIFF else 8))
        file.seek(tags.next)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # damaged tags
            tags.load(file)
        colors = tags.get(_TIFF_COLORS, 0)
        bits, numbers = max(tags.get(_TIFF_BITS, (1,))), max(tags.get(_TIFF_NUMBERS, (1,)))
    except Exception:  # Pillow has a different class for each kind of damage
        raise _not_an_image(encoded, name) from None
    if colors not in _TIFF_KNOWN_COLORS or bits > 16 or numbers != 1:
        raise DataError(
            f"{name}: expected a TIFF of gray, RGB, CMYK or palette colors as integers of 1 to 16 bits; convert it"
        )


def _read_bytes(path: Path) -> NDArray[np.uint8]:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe or device could be endless
            raise DataError(f"{path}: cannot read the image: expected a regular file, got a folder, pipe or device")
        if status.st_size > MAX_IMAGE_BYTES:
            raise DataError(f"{path}: cannot read the image: it has more than {MAX_IMAGE_BYTES >> 20} MiB")
        return np.frombuffer(path.read_bytes(), dtype=np.uint8)
    except OSError as error:
        raise DataError(f"{path}: cannot read the image ({error.strerror}); check the path") from None
    except ValueError:  # a null character, or a lone surrogate
        raise DataError(f"{str(path)!r}: cannot read the image: no file can have this name") from None


# --- writing


def write_image(path: str | Path, image: Image) -> None:
    """Write a BGR image in the format given by the path's suffix.

    Raises:
        MediaError: the suffix is not that of an image, or the path cannot be written.
    """
    path = Path(path)
    check_image_name(path)
    height, width = image.shape[:2]
    if max(width, height) > _MAX_SIDES.get(path.suffix.lower(), MAX_SIDE):
        raise MediaError(f"{path}: {width}x{height} pixels do not fit {path.suffix}; take .png, or a smaller image")
    _, encoded = cv2.imencode(path.suffix, image)
    with replacing(path) as temporary, writing(path):
        temporary.write_bytes(encoded.tobytes())


def check_image_name(path: Path) -> None:
    """Check that an image can be written with this file name; call it before long work.

    Raises:
        MediaError: the suffix is not that of an image.
    """
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        raise MediaError(f"{path}: not the file name of an image; expected {', '.join(IMAGE_SUFFIXES)}")


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
