"""A file of all training persons, cut out of their images: a sample then takes one small decode and one warp.

The file holds a JPEG of each person's `pose.datasets.crop_cache.regions.Region`, one after the other, then an index, then a
footer that says where the index begins; a file that does not end with it is not whole. The index (NumPy's ``.npz``) has
a row for each person, in the order of `Persons`, and the stamp: all that the crops depend on, compared when the file is
opened. `pose.datasets.crop_cache.build` writes it.
"""

import hashlib
import io
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pose.config.pose import AugmentConfig, InputConfig
from pose.datasets.coco import Persons
from pose.errors import DataError
from pose.geometry import compose
from pose.images import Image, decode_crop
from pose.skeleton import Skeleton

VERSION = 1
"""Of the file, and of how regions are chosen and stored; another version's file is refused."""
FOOTER = struct.Struct("<Q16s")
MAGIC = b"dyconv-pose.crop"
PERSONS, PICTURES = "the annotated persons", "the images"
REMEDY = "build it with data/build_cache.py and the same --cfg and overrides, or set data.crop_cache=null"

Stamp = dict[str, Any]


@dataclass(frozen=True)
class CropCache:
    """Crops of N persons.

    Attributes:
        path: of the file.
        stamp: what the crops depend on.
        content: the file's bytes, mapped into memory: what no sample reads costs nothing, and processes share the rest.
        starts: (N,) where in it each person's JPEG begins.
        sizes: (N,) of the JPEGs in bytes.
        to_image: (N, 2, 3) from the pixels of a JPEG to those of the image that it was cut from.
    """

    path: Path
    stamp: Stamp
    content: NDArray[np.uint8]
    starts: NDArray[np.int64]
    sizes: NDArray[np.int64]
    to_image: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.starts)

    def __reduce__(self) -> tuple[Callable[..., "CropCache"], tuple[Path, Stamp]]:
        return open_crop_cache, (self.path, self.stamp)  # a process that is started afresh maps the file itself

    def crop(self, row: int, matrix: ArrayLike, size_wh: tuple[int, int]) -> Image:
        """Crop person ``row`` through the (2, 3) matrix from its image to the input, as `pose.images.read_crop` does.

        Raises:
            DataError: the crop is damaged.
        """
        encoded = self.content[self.starts[row] : self.starts[row] + self.sizes[row]]
        return decode_crop(encoded, f"{self.path} (row {row})", compose(matrix, self.to_image[row]), size_wh)


def make_stamp(persons: Persons, skeleton: Skeleton, input_config: InputConfig, augment: AugmentConfig) -> Stamp:
    """Return all that the crops of these persons depend on, as plain values.

    Raises:
        DataError: an image is missing.
    """
    turns, halves = augment.rotation_probability > 0, augment.half_body_probability > 0
    columns = persons.file_names, persons.bboxes_xywh, persons.keypoints_image, persons.visibility
    return {
        "version": VERSION,
        "input.size_hw": list(input_config.size_hw),
        "input.padding": input_config.padding,
        "augment.scale_limits": list(augment.scale_limits),
        "augment.rotation_limit_deg": augment.rotation_limit_deg if turns else 0.0,
        "augment.half_body_min_keypoints": augment.half_body_min_keypoints if halves else None,
        "the skeleton's upper body": list(skeleton.upper_body) if halves else None,
        PERSONS: _digest(*columns),
        PICTURES: _digest(_sizes_and_times(persons)),
    }


def open_crop_cache(path: Path, stamp: Stamp) -> CropCache:
    """Open a crop cache that was built for exactly this stamp.

    Raises:
        DataError: there is none, it is not whole, or it was built for something else.
    """
    cache = read_crop_cache(path)
    if cache.stamp != stamp:
        raise DataError(f"{path}: stale crop cache: {', '.join(_differences(cache.stamp, stamp))}; {REMEDY}")
    return cache


def read_crop_cache(path: Path) -> CropCache:
    """Open a crop cache, whatever it was built for.

    Raises:
        DataError: there is no such file, or it is not a whole crop cache.
    """
    try:
        content = np.memmap(path, dtype=np.uint8, mode="r")
        end = len(content) - FOOTER.size
        start, magic = FOOTER.unpack(content[max(end, 0) :].tobytes())
        if magic != MAGIC:
            raise ValueError("another kind of file")
        with np.load(io.BytesIO(content[start:end].tobytes()), allow_pickle=False) as index:
            stamp = json.loads(str(index["stamp"]))
            return CropCache(path, stamp, content, index["starts"], index["sizes"], index["to_image"])
    except FileNotFoundError:
        raise DataError(f"{path}: no such crop cache; {REMEDY}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot read the crop cache ({error.strerror}); {REMEDY}") from None
    except Exception as error:  # damaged bytes make the readers of zip, npy and JSON fail in many ways
        raise DataError(f"{path}: not a whole crop cache ({type(error).__name__}); {REMEDY}") from None


def write_index(
    file: BinaryIO,
    stamp: Stamp,
    starts: NDArray[np.int64],
    sizes: NDArray[np.int64],
    to_image: NDArray[np.float64],
) -> None:
    """Finish a file of JPEGs; see `CropCache`."""
    start = file.tell()
    np.savez(file, stamp=np.array(json.dumps(stamp)), starts=starts, sizes=sizes, to_image=to_image)
    file.seek(0, io.SEEK_END)
    file.write(FOOTER.pack(start, MAGIC))


def _differences(before: Stamp, now: Stamp) -> list[str]:
    """Say in words what differs between two stamps."""
    return [
        f"{key} have changed" if key in (PERSONS, PICTURES) else f"{key} was {before.get(key)} and is {now[key]}"
        for key in now
        if before.get(key) != now[key]
    ]


def _sizes_and_times(persons: Persons) -> NDArray[np.int64]:
    """Return (M, 2) bytes and time of change in nanoseconds of the images, in the order of their names."""
    rows = []
    for name in np.unique(persons.file_names):
        path = persons.image_folder / str(name)
        try:
            found = path.stat()
        except OSError as error:
            raise DataError(
                f"{path}: cannot read the image ({error.strerror}); check the path of the image folder"
            ) from None
        rows.append((found.st_size, found.st_mtime_ns))
    return np.array(rows, dtype=np.int64)


def _digest(*columns: NDArray[Any]) -> str:
    digest = hashlib.sha256()
    for column in columns:
        digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()
