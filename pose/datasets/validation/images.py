"""Are the images there, whole, and as large as the annotations say?"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from pose.datasets.coco_json import Record
from pose.datasets.validation.issues import Issue, found


def image_issues(folder: Path, images: Sequence[Record], samples: int) -> Iterator[Issue]:
    """Look up the image of every COCO image record in ``folder`` and open ``samples`` of them, evenly spread."""
    if not folder.is_dir():
        yield Issue("error", folder, "no such folder of images", "data/README.md shows the layout")
        return
    names = [str(image["file_name"]) for image in images]
    present = _files_in(folder, names)
    missing = [name not in present for name in names]
    yield from found("error", folder, missing, names, "images are missing", "unpack all of them here")
    there = [image for image in images if image["file_name"] in present]
    chosen = [there[row] for row in np.unique(np.linspace(0, len(there) - 1, samples).astype(int))] if there else []
    sizes = [_image_wh(folder / image["file_name"]) for image in chosen]
    shown = [image["file_name"] for image in chosen]
    unreadable = [size is None for size in sizes]
    yield from found("error", folder, unreadable, shown, "sampled images cannot be read", "are they whole?")
    unlike = [s is not None and s != (i["width"], i["height"]) for s, i in zip(sizes, chosen, strict=True)]
    yield from found(
        "error", folder, unlike, shown, "sampled images have another size than the annotations say",
        "were they resized or turned? The annotations fit the original pixels (orientation tags are not applied)",
    )  # fmt: skip


def _files_in(folder: Path, names: Iterable[str]) -> set[str]:
    """Return which names exist below a folder, listing each subfolder once instead of asking file by file."""
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
