"""Pictures in, crops out: reading and the one warp that a person's crop takes.

Pictures are (H, W, 3) uint8 in OpenCV's BGR order; crops are (h, w, 3) uint8 in RGB, the order the nets are trained on.
"""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from pose.config import InputConfig
from pose.errors import DataError
from pose.geometry import box_to_view, invert, view_to_matrix

Image = NDArray[np.uint8]


def read_image(path: str | Path) -> Image:
    """Read a picture as (H, W, 3) uint8 BGR, its EXIF orientation ignored (protocol: annotations are in raw pixels).

    Raises:
        DataError: the file is missing, empty or not a picture.
    """
    path = Path(path)
    try:
        encoded = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise DataError(
            f"{path}: cannot read the picture ({error.strerror}); check the path of the image folder"
        ) from None
    image = None if encoded.size == 0 else cv2.imdecode(encoded, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        raise DataError(f"{path}: not a picture OpenCV can read ({encoded.size} bytes); fetch it again or leave it out")
    return np.asarray(image, dtype=np.uint8)


def crop(image_bgr: Image, matrix: ArrayLike, size_wh: tuple[int, int]) -> Image:
    """Warp a picture through a (2, 3) image-to-input matrix, bilinear, black outside; returns (h, w, 3) RGB."""
    warped = cv2.warpAffine(image_bgr, np.asarray(matrix, dtype=np.float64), size_wh, flags=cv2.INTER_LINEAR)
    return np.asarray(cv2.cvtColor(warped, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def person_crop(
    image_bgr: Image, bbox_xywh: ArrayLike, geometry: InputConfig
) -> tuple[Image, NDArray[np.float64], float]:
    """Crop one box upright.

    Returns:
        crop (h, w, 3) uint8 RGB, the (2, 3) matrix from heatmap to image, and the view's area in square image pixels.
    """
    view = box_to_view(bbox_xywh, geometry.aspect_ratio, geometry.padding)
    image = crop(image_bgr, view_to_matrix(view, geometry.size_wh), geometry.size_wh)
    return image, invert(view_to_matrix(view, geometry.heatmap_wh)), view.area
