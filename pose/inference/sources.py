"""Images as users give them: arrays, PIL images, torch tensors, files, addresses, and lists and folders of them.

An image that a user gives is upright: the EXIF orientation of files and PIL images is applied. Data sets are read by
`pose.images.read_image`, which ignores it, as COCO's annotations do.
"""

import os
import sys
import time
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import numpy as np
import PIL.Image
import PIL.ImageOps

from pose import __version__
from pose.errors import DataError
from pose.images import Image, decode, find_images, read_image

if TYPE_CHECKING:
    import torch

Pixels: TypeAlias = Union[Image, PIL.Image.Image, "torch.Tensor"]
"""One image: (H, W, 3) uint8 BGR, PIL image, or (3, H, W) RGB tensor (uint8, or float 0..1)."""
Source: TypeAlias = str | Path | Pixels
"""One image: path, http(s) address, or pixels."""

MAX_DOWNLOAD_BYTES = 64 << 20
"""Maximum size of an image that is downloaded."""
DOWNLOAD_TIMEOUT_S = 20.0
"""Maximum time in seconds until an image is downloaded, and without an answer."""
_BLOCK_BYTES = 1 << 16


def expand(source: Any) -> list[Any] | None:
    """Return the images of a list, a folder or a batch, or None if the source is one image.

    Args:
        source: a list or tuple of images, a folder, (N, H, W, 3) uint8 BGR, a (N, 3, H, W) tensor, or one image.

    Raises:
        MediaError: the folder has no images.
    """
    if isinstance(source, (list, tuple)) and all(_is_source(item) for item in source):
        return list(source)
    if isinstance(source, (str, Path)):
        # os.path.isdir is also false for what cannot be a path, such as a name that is too long.
        return [*find_images(Path(source))] if not is_address(source) and os.path.isdir(source) else None
    if (isinstance(source, np.ndarray) or _is_tensor(source)) and source.ndim == 4:
        return list(source)
    return None


def load_image(source: Any) -> Image:
    """Return one image as (H, W, 3) uint8 BGR, upright.

    Args:
        source: see `Source`.

    Raises:
        DataError: the image cannot be read or downloaded, or is of the wrong type or shape.
    """
    if isinstance(source, (str, Path)):
        return download_image(str(source)) if is_address(source) else read_image(source, upright=True)
    if isinstance(source, PIL.Image.Image):
        return _from_pil(source)
    if _is_tensor(source):
        return _from_tensor(source)
    return check_image(source)


def is_address(source: str | Path) -> bool:
    """Return whether a string is an address such as ``https://...`` and no path."""
    return isinstance(source, str) and "://" in source


def check_image(image: Any) -> Image:
    """Return an array if it is an image.

    Raises:
        DataError: it is not (H, W, 3) uint8.
    """
    is_uint8 = isinstance(image, np.ndarray) and image.dtype == np.uint8
    if not is_uint8 or np.ma.isMaskedArray(image) or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise DataError(
            "predictor: expected an image of (H, W, 3) uint8 BGR, got "
            f"{getattr(image, 'dtype', type(image).__name__)} {getattr(image, 'shape', '')}; read it with cv2.imread"
        )
    return np.asarray(image)


def _from_pil(image: PIL.Image.Image) -> Image:
    if image.mode[0] in "IF" or image.mode == "LAB":
        raise DataError(
            "predictor: expected an image of 8 bits per channel, "
            f"got a PIL image of mode {image.mode}; convert it to RGB"
        )
    try:
        rgb = np.asarray(PIL.ImageOps.exif_transpose(image).convert("RGB"))
    except Exception as error:  # it is decoded here; Pillow has a different class for each kind of damage
        raise DataError(f"predictor: a PIL image cannot be decoded ({' '.join(str(error).split()):.80})") from None
    return check_image(np.ascontiguousarray(rgb[..., ::-1]))


def _is_source(item: object) -> bool:
    return isinstance(item, (str, Path, np.ndarray, PIL.Image.Image)) or _is_tensor(item)


def _is_tensor(source: object) -> bool:
    """Return whether an object is a tensor of PyTorch, without importing PyTorch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(source, torch.Tensor)


def _from_tensor(image: "torch.Tensor") -> Image:
    values = image.detach().cpu().numpy()
    is_float = values.dtype.kind == "f"
    if values.ndim != 3 or values.shape[0] != 3 or not values.size or not (is_float or values.dtype == np.uint8):
        raise DataError(
            "predictor: expected an image tensor of (3, H, W) RGB, uint8 or float 0..1, got "
            f"{image.dtype} {tuple(image.shape)}"
        )
    if is_float:
        if not (values.min() >= 0 and values.max() <= 1):  # NaN compares false
            raise DataError(
                f"predictor: expected a float tensor in 0..1, got {values.min():.3g} to {values.max():.3g}; "
                "pass the image before its normalization"
            )
        values = np.round(values * 255).astype(np.uint8)
    return np.ascontiguousarray(values[::-1].transpose(1, 2, 0))


# --- addresses


def download_image(
    address: str, *, max_bytes: int = MAX_DOWNLOAD_BYTES, timeout_s: float = DOWNLOAD_TIMEOUT_S
) -> Image:
    """Download an image as (H, W, 3) uint8 BGR, upright.

    Args:
        address: http or https; redirects to other protocols are refused.
        max_bytes: maximum size.
        timeout_s: maximum time for the whole download.

    Raises:
        DataError: the address is of another protocol or cannot be reached in time, or its content is too large or not
            an image.
    """
    return decode(np.frombuffer(_download(address, max_bytes, timeout_s), dtype=np.uint8), address, upright=True)


def _download(address: str, max_bytes: int, timeout_s: float) -> bytes:
    if not address.lower().startswith(("http://", "https://")):
        raise DataError(f"{address}: expected an address with http:// or https://")
    end = time.monotonic() + timeout_s
    blocks, size = [], 0
    try:
        request = urllib.request.Request(address, headers={"User-Agent": f"dyconv-pose/{__version__}"})
        with _web_opener().open(request, timeout=timeout_s) as response:
            # read1 returns what has arrived, so that the time limit holds for a slow server, too.
            while block := response.read1(_BLOCK_BYTES):
                blocks.append(block)
                size += len(block)
                if size > max_bytes:
                    raise DataError(f"{address}: larger than {max_bytes / 2**20:g} MiB; download it and give the file")
                if time.monotonic() > end:
                    raise TimeoutError
    except TimeoutError:
        raise DataError(f"{address}: not downloaded within {timeout_s:g} s; check the network") from None
    except (OSError, HTTPException, ValueError) as error:  # URLError is an OSError, a malformed address a ValueError
        if isinstance(getattr(error, "reason", None), TimeoutError):
            raise DataError(f"{address}: no answer within {timeout_s:g} s; check the network") from None
        raise DataError(f"{address}: cannot be downloaded ({error}); check the address and the network") from None
    return b"".join(blocks)


def _web_opener() -> urllib.request.OpenerDirector:
    """Return an opener for http and https only: a server could redirect the default one to FTP."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.UnknownHandler,
    ):
        opener.add_handler(handler())
    return opener
