"""From an image to the input of a detector: resize, padding, color order, normalization, layout."""

from dataclasses import dataclass

import numpy as np
import PIL.Image

from pose.geometry import Array, Float32
from pose.images import Image

LETTERBOX_GRAY = 114
"""Padding of YOLOX's and RTMDet's letterbox."""


@dataclass(frozen=True)
class ModelInput:
    """The image input of a detector.

    Attributes:
        name: of the tensor.
        layout: ``"NCHW"``, ``"NHWC"`` or ``"CHW"``.
        size_wh: width and height; None if the model resizes images of any size itself.
        keep_aspect: resize with the image's aspect ratio and pad right and bottom, or stretch.
        rgb: color order, BGR otherwise.
        mean: (3,) in 0..255, subtracted.
        std: (3,) in 0..255, the divisor after it.
    """

    name: str
    layout: str
    size_wh: tuple[int, int] | None
    keep_aspect: bool
    rgb: bool
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def prepare(self, image: Image) -> tuple[Float32, Array]:
        """Convert an image.

        Args:
            image: (H, W, 3) uint8 BGR.

        Returns:
            The input tensor, and the scale (2,) along x and y in input pixels per image pixel.
        """
        if self.size_wh is None:
            resized, scale_xy = image, np.ones(2)
        elif self.keep_aspect:
            resized, scale_xy = letterbox(image, self.size_wh)
        else:
            resized = resize(image, self.size_wh)
            scale_xy = np.divide(self.size_wh, image.shape[1::-1])
        channels = resized[..., ::-1] if self.rgb else resized
        values: Float32 = channels.astype(np.float32)
        if any(self.mean) or self.std != (1.0, 1.0, 1.0):
            values -= np.array(self.mean, dtype=np.float32)
            values /= np.array(self.std, dtype=np.float32)
        if self.layout != "NHWC":
            values = values.transpose(2, 0, 1)
        return np.ascontiguousarray(values if self.layout == "CHW" else values[None]), scale_xy


def resize(image: Image, size_wh: tuple[int, int]) -> Image:
    """Resize an image.

    Pillow's filter widens as the image shrinks, whereas OpenCV's skips pixels: small persons keep their shape.
    """
    return np.asarray(PIL.Image.fromarray(image).resize(size_wh, PIL.Image.Resampling.BILINEAR))


def letterbox(image: Image, input_wh: tuple[int, int]) -> tuple[Image, Array]:
    """Resize an image to fit the top left of a gray input.

    Returns:
        (h, w, 3) uint8 of the input's size, and the scale (2,) in input pixels per image pixel.
    """
    height, width = image.shape[:2]
    ratio = min(input_wh[0] / width, input_wh[1] / height)
    resized_wh = max(1, int(width * ratio)), max(1, int(height * ratio))
    canvas = np.full((input_wh[1], input_wh[0], 3), LETTERBOX_GRAY, dtype=np.uint8)
    canvas[: resized_wh[1], : resized_wh[0]] = resize(image, resized_wh)
    return canvas, np.array([ratio, ratio])
