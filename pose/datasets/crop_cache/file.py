"""Read the crop cache: one file of pre-cropped training persons, so that a sample needs one small decode and one warp.

File format: a JPEG of each person's `pose.datasets.crop_cache.regions.Region`, one after the other; an index; a footer
with the offset of the index. A file without the footer is incomplete. The index (NumPy ``.npz``) has one row per
person, in the order of `Persons`, with the checksum of its JPEG, which is compared when the crop is read, and the
stamp: everything that the crops depend on, which is compared when the file is opened.
`pose.datasets.crop_cache.build` writes the file.
"""

import hashlib
import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pose.config.pose import AugmentConfig, InputConfig
from pose.datasets.coco import Persons
from pose.errors import DataError, shorten
from pose.files import to_json
from pose.geometry import Array, compose
from pose.images import Image, decode_crop
from pose.json_file import decode_json
from pose.skeleton import Skeleton

VERSION = 2
"""Version of the file format and of the regions; files of another version are rejected."""
FOOTER = struct.Struct("<Q16s")
MAGIC = b"dyconv-pose.crop"
PERSONS, IMAGES = "the annotated persons", "the pictures"
"""Keys of the stamp whose values are digests."""
CHANGED = {PERSONS: "the annotated persons", IMAGES: "the images"}
"""What changed, in words, by the key of a digest that differs."""
REMEDY = "build it with dyconv-pose build-cache and the same --cfg and overrides, or set data.crop_cache=null"

Stamp = dict[str, Any]
"""Everything that the crops depend on, by name."""


@dataclass(frozen=True)
class CropCache:
    """Memory-mapped crops of N persons.

    Attributes:
        path: crop cache file.
        stamp: everything that the crops depend on.
        content: bytes of the memory-mapped file: only pages that are read are loaded, and processes share them.
        starts: (N,) offsets of the JPEGs in ``content``.
        sizes: (N,) sizes of the JPEGs in bytes.
        checksums: (N,) CRC-32 of the JPEGs.
        crop_to_image: (N, 2, 3) matrices from pixels of a JPEG to pixels of its source image.
    """

    path: Path
    stamp: Stamp
    content: NDArray[np.uint8]
    starts: NDArray[np.int64]
    sizes: NDArray[np.int64]
    checksums: NDArray[np.uint32]
    crop_to_image: Array

    def __len__(self) -> int:
        return len(self.starts)

    def __reduce__(self) -> tuple[Callable[..., "CropCache"], tuple[Path, Stamp]]:
        return open_crop_cache, (self.path, self.stamp)  # a spawned process maps the file itself

    def crop(self, row: int, image_to_input: ArrayLike, size_wh: tuple[int, int]) -> Image:
        """Return the input crop of person ``row``, as `pose.images.read_crop` does from the image.

        Args:
            row: row of the person.
            image_to_input: (2, 3) matrix from pixels of the person's image.
            size_wh: width and height of the crop.

        Raises:
            DataError: the stored JPEG is damaged.
        """
        encoded = self.content[self.starts[row] : self.starts[row] + self.sizes[row]]
        if zlib.crc32(encoded.data) != self.checksums[row]:
            raise DataError(
                f"{self.path}: the crop of row {row} is damaged; remove the file and build it again with dyconv-pose "
                "build-cache"
            )
        crop_to_input = compose(image_to_input, self.crop_to_image[row])
        return decode_crop(encoded, f"{self.path} (row {row})", crop_to_input, size_wh)


def make_stamp(persons: Persons, skeleton: Skeleton, input_config: InputConfig, augment: AugmentConfig) -> Stamp:
    """Return the stamp of a crop cache: everything that the crops of these persons depend on, as JSON values.

    Raises:
        DataError: an image is missing.
    """
    rotates, halves = augment.rotation_probability > 0, augment.half_body_probability > 0
    columns = persons.file_names, persons.bboxes_xywh, persons.keypoints_image, persons.visibility
    return {
        "version": VERSION,
        "input.size_hw": list(input_config.size_hw),
        "input.padding": input_config.padding,
        "augment.scale_limits": list(augment.scale_limits),
        "augment.rotation_limit_deg": augment.rotation_limit_deg if rotates else 0.0,
        "augment.half_body_min_keypoints": augment.half_body_min_keypoints if halves else None,
        "the skeleton's upper body": list(skeleton.upper_body) if halves else None,
        PERSONS: digest(*columns),
        IMAGES: digest(image_sizes_and_times(persons)),
    }


def open_crop_cache(path: Path, stamp: Stamp) -> CropCache:
    """Open a crop cache and check its stamp.

    Raises:
        DataError: the file is missing, incomplete, or has another stamp.
    """
    cache = read_crop_cache(path)
    if cache.stamp != stamp:
        raise DataError(f"{path}: stale crop cache: {', '.join(_differences(cache.stamp, stamp))}; {REMEDY}")
    return cache


def read_crop_cache(path: Path) -> CropCache:
    """Open a crop cache without checking its stamp.

    Raises:
        DataError: the file is missing, or is not a complete crop cache.
    """
    try:
        content = np.memmap(path, dtype=np.uint8, mode="r")
        end = len(content) - FOOTER.size
        start, magic = FOOTER.unpack(content[max(end, 0) :].tobytes())
        if magic != MAGIC:
            raise ValueError("another kind of file")
        with np.load(io.BytesIO(content[start:end].tobytes()), allow_pickle=False) as index:
            stamp = decode_json(str(index["stamp"]), dict[str, Any], "a stamp", path)
            columns = (index[name] for name in ("starts", "sizes", "checksums", "to_image"))
            return CropCache(path, stamp, content, *columns)
    except FileNotFoundError:
        raise DataError(f"{path}: no such crop cache; {REMEDY}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot read the crop cache ({error.strerror}); {REMEDY}") from None
    except Exception as error:  # zip, npy and JSON readers raise various errors on damaged bytes
        raise DataError(f"{path}: not a complete crop cache ({type(error).__name__}); {REMEDY}") from None


def write_index(
    file: BinaryIO,
    stamp: Stamp,
    starts: NDArray[np.int64],
    sizes: NDArray[np.int64],
    checksums: NDArray[np.uint32],
    crop_to_image: Array,
) -> None:
    """Append index and footer to a file of JPEGs; see `CropCache` for the arguments."""
    start = file.tell()
    text = np.array(to_json(stamp, "stamp"))
    np.savez(file, stamp=text, starts=starts, sizes=sizes, checksums=checksums, to_image=crop_to_image)
    file.seek(0, io.SEEK_END)
    file.write(FOOTER.pack(start, MAGIC))


def _differences(before: Stamp, now: Stamp) -> list[str]:
    """Describe the differences between two stamps."""
    return [
        f"{CHANGED[key]} have changed"
        if key in CHANGED
        else f"{key} was {shorten(str(before.get(key)), 20)} and is {shorten(str(now[key]), 20)}"
        for key in now
        if before.get(key) != now[key]
    ]


def image_sizes_and_times(persons: Persons) -> NDArray[np.int64]:
    """Return (M, 2) size in bytes and modification time in nanoseconds of the images, sorted by name.

    Raises:
        DataError: an image is missing.
    """
    rows = []
    for name in np.unique(persons.file_names):
        path = persons.image_folder / str(name)
        try:
            status = path.stat()
        except OSError as error:
            raise DataError(
                f"{path}: cannot read the image ({error.strerror}); check the path of the image folder"
            ) from None
        rows.append((status.st_size, status.st_mtime_ns))
    return np.array(rows, dtype=np.int64)


def digest(*columns: NDArray[Any]) -> str:
    """Return the SHA-256 of the bytes of arrays as hexadecimal digits."""
    total = hashlib.sha256()
    for column in columns:
        total.update(np.ascontiguousarray(column).tobytes())
    return total.hexdigest()
