"""Build the crop cache: crop all training persons from their images into one file.

The file format is documented in `pose.datasets.crop_cache.file`.
"""

import os
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from pose.config.pose import AugmentConfig, InputConfig
from pose.datasets.coco import Persons
from pose.datasets.crop_cache.file import Stamp, make_stamp, read_crop_cache, write_index
from pose.datasets.crop_cache.regions import Region, training_region
from pose.errors import DataError
from pose.files import replacing
from pose.geometry import Array, pixel_blocks
from pose.images import Image, read_image
from pose.progress import ProgressLine
from pose.skeleton import Skeleton

JPEG_QUALITY = 90
PREFETCH_IMAGES = 64
"""Images per thread that are cropped before the crops are written; bounds the memory."""

Rows = NDArray[np.intp]


class EncodedCrop(NamedTuple):
    """JPEG crop of one person."""

    row: int
    """Row of the person."""
    jpeg: NDArray[np.uint8]
    """Encoded bytes."""
    crop_to_image: Array
    """(2, 3) matrix from pixels of the JPEG to pixels of the image."""


def build_crop_cache(
    persons: Persons,
    skeleton: Skeleton,
    input_config: InputConfig,
    augment: AugmentConfig,
    path: Path,
    threads: int = 1,
) -> bool:
    """Write the crop cache of all persons to ``path``, unless it is up to date.

    The file is written atomically; a crop cache of other data or options is replaced.

    Args:
        persons: training persons.
        skeleton: defines the half-body groups.
        input_config: size and padding of the model input.
        augment: ranges of the random views.
        path: crop cache file.
        threads: number of threads that crop images.

    Returns:
        whether the file was written.

    Raises:
        DataError: an image cannot be read, or ``path`` is not a crop cache or cannot be written.
        MediaError: the folder cannot be written.
    """
    stamp = make_stamp(persons, skeleton, input_config, augment)
    if path.exists() and _existing_stamp(path) == stamp:
        return False
    regions = partial(training_region, skeleton=skeleton, input_config=input_config, augment=augment)
    starts, sizes = np.zeros((2, len(persons)), dtype=np.int64)
    checksums = np.zeros(len(persons), dtype=np.uint32)
    crop_to_image = np.zeros((len(persons), 2, 3))
    with replacing(path) as temporary:
        try:
            with temporary.open("xb") as file, ProgressLine("crops", len(persons), "persons") as progress:
                for crop in _crop_all(persons, regions, threads):
                    starts[crop.row], sizes[crop.row] = file.tell(), len(crop.jpeg)
                    checksums[crop.row] = zlib.crc32(crop.jpeg.data)
                    crop_to_image[crop.row] = crop.crop_to_image
                    file.write(crop.jpeg.tobytes())
                    progress.advance()
                write_index(file, stamp, starts, sizes, checksums, crop_to_image)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise DataError(
                f"{path}: cannot write the crop cache ({error.strerror}); free disk space or set data.crop_cache"
            ) from None
    return True


def _existing_stamp(path: Path) -> Stamp:
    try:
        return read_crop_cache(path).stamp
    except DataError:
        raise DataError(
            f"{path}: exists and is not a complete crop cache; remove it or set another data.crop_cache"
        ) from None


def _crop_all(persons: Persons, regions: Callable[..., Region], threads: int) -> Iterator[EncodedCrop]:
    """Yield the crops of all persons, grouped by image: each image is decoded once."""
    order = np.argsort(persons.file_names, kind="stable")
    names = persons.file_names[order]
    rows_by_image = np.split(order, np.flatnonzero(names[1:] != names[:-1]) + 1)
    chunk = PREFETCH_IMAGES * threads
    with ThreadPoolExecutor(threads) as pool:  # OpenCV releases the GIL while it decodes and encodes
        for first in range(0, len(rows_by_image), chunk):
            for crops in pool.map(partial(_crop_image, persons, regions), rows_by_image[first : first + chunk]):
                yield from crops


def _crop_image(persons: Persons, regions: Callable[..., Region], rows: Rows) -> list[EncodedCrop]:
    image = read_image(persons.record(int(rows[0])).image_path)
    return [EncodedCrop(int(row), *crop_region(image, regions(persons.record(int(row))))) for row in rows]


def crop_region(image_bgr: Image, region: Region) -> tuple[NDArray[np.uint8], Array]:
    """Crop a region, clipped to the image, and encode it at the resolution that its closest view needs.

    Returns:
        JPEG bytes, and the (2, 3) matrix from pixels of the JPEG to pixels of the image.
    """
    last = np.array(image_bgr.shape[1::-1]) - 1
    x, y = start = np.clip(region.start, 0, last)  # of a region outside the image, the nearest pixel is kept
    end_x, end_y = end = np.clip(region.end, start + 1, last + 1)
    size_wh = np.ceil((end - start) / region.pixels_per_input).astype(int)
    crop = cv2.resize(image_bgr[y:end_y, x:end_x], size_wh.tolist(), interpolation=cv2.INTER_AREA)
    _, jpeg = cv2.imencode(".jpg", crop, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return np.asarray(jpeg, dtype=np.uint8), pixel_blocks((end - start) / size_wh, start)
