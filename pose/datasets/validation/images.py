"""Check that images exist, can be read, and have the size in the annotations."""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from pose.datasets.coco_json import ImageRow
from pose.datasets.validation.issues import Issue, report_if
from pose.errors import DataError
from pose.images import read_image


def image_issues(folder: Path, images: Sequence[ImageRow], samples: int) -> Iterator[Issue]:
    """Check that all images exist, and read ``samples`` evenly spaced ones.

    Args:
        folder: folder of the images.
        images: COCO image records.
        samples: number of images to read.
    """
    if not os.path.isdir(folder):
        yield Issue("error", folder, "no such folder of images", "set the folder that file_name is relative to")
        return
    names = [image.file_name for image in images]
    present = _existing_files(folder, names)
    missing = [name not in present for name in names]
    todo = "copy all images to this folder, as regular files"
    yield from report_if("error", folder, missing, names, "images are missing", todo)
    existing = [image for image in images if image.file_name in present]
    rows = np.unique(np.linspace(0, len(existing) - 1, samples).astype(int)) if existing else ()
    sampled = [existing[row] for row in rows]
    sizes = [_image_wh(folder / image.file_name) for image in sampled]
    sampled_names = [image.file_name for image in sampled]
    unreadable = [size is None for size in sizes]
    yield from report_if(
        "error", folder, unreadable, sampled_names, "sampled images cannot be read", "check that they are complete"
    )
    differs = [s is not None and s != (i.width, i.height) for s, i in zip(sizes, sampled, strict=True)]
    yield from report_if(
        "error", folder, differs, sampled_names, "sampled images have another size than in the annotations",
        "were they resized or rotated? Annotations refer to the original pixels (EXIF orientation is ignored)",
    )  # fmt: skip


def _existing_files(folder: Path, names: Iterable[str]) -> set[str]:
    """Return the names of regular files below a folder, also by links; lists each subfolder once."""
    listed: set[str] = set()
    for parent in {os.path.dirname(name) for name in names}:
        try:
            with os.scandir(folder / parent) as entries:
                listed.update(
                    os.path.normpath(os.path.join(parent, entry.name))
                    for entry in entries
                    if entry.is_file(follow_symlinks=False) or os.path.isfile(entry.path)
                )
        except OSError:  # no such folder, or not readable: its images are missing
            continue
    return {name for name in names if os.path.normpath(name) in listed}


def _image_wh(path: Path) -> tuple[int, int] | None:
    try:
        height, width = read_image(path).shape[:2]
    except DataError:
        return None
    return width, height
