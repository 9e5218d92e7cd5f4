"""Cutting all training persons out of their images, into the file of `pose.datasets.crop_cache.file`."""

import os
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
from pose.geometry import pixel_blocks
from pose.images import Image, read_image
from pose.progress import ProgressLine
from pose.skeleton import Skeleton

QUALITY = 90
"""Of the JPEGs."""
PICTURES_AHEAD = 64
"""Images a thread may have cut before their crops are written: what waits in memory is bounded."""

Rows = NDArray[np.intp]


class Cut(NamedTuple):
    """One person, cut out and encoded."""

    row: int
    jpeg: NDArray[np.uint8]
    to_image: NDArray[np.float64]
    """(2, 3) from the JPEG's pixels to the image's."""


def build_crop_cache(
    persons: Persons,
    skeleton: Skeleton,
    input_config: InputConfig,
    augment: AugmentConfig,
    path: Path,
    threads: int = 1,
) -> bool:
    """Write the crops of all persons to ``path``, unless they are there already.

    The file appears whole or not at all; a crop cache of other data or options is replaced.

    Args:
        persons: to train on.
        skeleton: names the half bodies.
        input_config: of the model's input.
        augment: the ranges of the random views.
        path: of the file.
        threads: that cut at the same time.

    Returns:
        whether it was written.

    Raises:
        DataError: an image cannot be read, or ``path`` holds something else or cannot be written.
        MediaError: its folder cannot be written.
    """
    stamp = make_stamp(persons, skeleton, input_config, augment)
    if path.exists() and _own_stamp(path) == stamp:
        return False
    regions = partial(training_region, skeleton=skeleton, input_config=input_config, augment=augment)
    starts, sizes = np.zeros((2, len(persons)), dtype=np.int64)
    to_image = np.zeros((len(persons), 2, 3))
    with replacing(path) as temporary:
        try:
            with temporary.open("xb") as file, ProgressLine("crops", len(persons), "persons") as progress:
                for row, jpeg, matrix in _cut_all(persons, regions, threads):
                    starts[row], sizes[row], to_image[row] = file.tell(), len(jpeg), matrix
                    file.write(jpeg.tobytes())
                    progress.advance()
                write_index(file, stamp, starts, sizes, to_image)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise DataError(
                f"{path}: cannot write the crop cache ({error.strerror}); free the disk or choose another place"
            ) from None
    return True


def _own_stamp(path: Path) -> Stamp:
    try:
        return read_crop_cache(path).stamp
    except DataError:
        raise DataError(
            f"{path}: holds something else than a whole crop cache; remove it or set another data.crop_cache"
        ) from None


def _cut_all(persons: Persons, regions: Callable[..., Region], threads: int) -> Iterator[Cut]:
    """Cut image by image, each of which is read once."""
    order = np.argsort(persons.file_names, kind="stable")
    names = persons.file_names[order]
    pictures = np.split(order, np.flatnonzero(names[1:] != names[:-1]) + 1)
    ahead = PICTURES_AHEAD * threads
    with ThreadPoolExecutor(threads) as pool:  # OpenCV lets go of the interpreter while it decodes and encodes
        for first in range(0, len(pictures), ahead):
            for cuts in pool.map(partial(_cut_image, persons, regions), pictures[first : first + ahead]):
                yield from cuts


def _cut_image(persons: Persons, regions: Callable[..., Region], rows: Rows) -> list[Cut]:
    image = read_image(persons.record(int(rows[0])).image_path)
    return [Cut(int(row), *cut_region(image, regions(persons.record(int(row))))) for row in rows]


def cut_region(image_bgr: Image, region: Region) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Cut the part of a region that lies in an image, no finer than the region's closest view needs.

    Returns:
        a JPEG, and the (2, 3) matrix from its pixels to the image's.
    """
    last = np.array(image_bgr.shape[1::-1]) - 1
    x, y = start = np.clip(region.start, 0, last)  # a region wholly outside keeps the pixel nearest to it
    end_x, end_y = end = np.clip(region.end, start + 1, last + 1)
    size_wh = np.ceil((end - start) / region.pixels_per_input).astype(int)
    cut = cv2.resize(image_bgr[y:end_y, x:end_x], size_wh.tolist(), interpolation=cv2.INTER_AREA)
    _, jpeg = cv2.imencode(".jpg", cut, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return np.asarray(jpeg, dtype=np.uint8), pixel_blocks((end - start) / size_wh, start)
