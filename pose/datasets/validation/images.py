"""Check that images exist, can be read, and have the size in the annotations."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from pose.datasets.coco_json import Record
from pose.datasets.validation.issues import Issue, report_if


def image_issues(folder: Path, images: Sequence[Record], samples: int) -> Iterator[Issue]:
    """Check that all images exist, and read ``samples`` evenly spaced ones.

    Args:
        folder: folder of the images.
        images: COCO image records.
        samples: number of images to read.
    """
    if not folder.is_dir():
        yield Issue("error", folder, "no such folder of images", "set the folder that file_name is relative to")
        return
    names = [str(image["file_name"]) for image in images]
    present = _existing_files(folder, names)
    missing = [name not in present for name in names]
    yield from report_if("error", folder, missing, names, "images are missing", "copy all images to this folder")
    existing = [image for image in images if image["file_name"] in present]
    rows = np.unique(np.linspace(0, len(existing) - 1, samples).astype(int)) if existing else ()
    sampled = [existing[row] for row in rows]
    sizes = [_image_wh(folder / image["file_name"]) for image in sampled]
    sampled_names = [image["file_name"] for image in sampled]
    unreadable = [size is None for size in sizes]
    yield from report_if(
        "error", folder, unreadable, sampled_names, "sampled images cannot be read", "check that they are complete"
    )
    differs = [s is not None and s != (i["width"], i["height"]) for s, i in zip(sizes, sampled, strict=True)]
    yield from report_if(
        "error", folder, differs, sampled_names, "sampled images have another size than in the annotations",
        "were they resized or rotated? Annotations refer to the original pixels (EXIF orientation is ignored)",
    )  # fmt: skip


def _existing_files(folder: Path, names: Iterable[str]) -> set[str]:
    """Return the names that exist below a folder; lists each subfolder once instead of testing each file."""
    parents = {str(Path(name).parent) for name in names}
    listed = {
        (Path(parent) / file.name).as_posix()
        for parent in parents
        if (folder / parent).is_dir()
        for file in (folder / parent).iterdir()
    }
    return {name for name in names if Path(name).as_posix() in listed}


def _image_wh(path: Path) -> tuple[int, int] | None:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    return None if image is None else (image.shape[1], image.shape[0])
