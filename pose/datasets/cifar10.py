"""CIFAR-10 as class folders, ``train/<class>/`` and ``val/<class>/``, which `pose.datasets.imagenet` reads.

Source: *Learning Multiple Layers of Features from Tiny Images* (Krizhevsky, 2009): 60,000 images of 32x32 pixels, whose
test part is the validation part here.
"""

import lzma
import shutil
import tarfile
import uuid
import zlib
from pathlib import Path, PurePosixPath

import cv2

from pose.errors import DataError
from pose.files import writing
from pose.images import IMAGE_SUFFIXES

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
"""In the order of the labels of the original files, which is alphabetical."""
IMAGES_PER_CLASS = {"train": 5000, "val": 1000}
"""Images of each class in each part."""
PART_OF_FOLDER = {"train": "train", "test": "val", "val": "val"}
"""Part that a folder of an archive belongs to."""

_ARCHIVE_ERRORS = (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError)


def write_class_folders(source: Path, root: Path) -> bool:
    """Write ``root/train/<class>/`` and ``root/val/<class>/``; return False if both are complete already.

    Each part is written into a temporary folder and renamed, so an interrupted call leaves no partial one.

    Args:
        source: tar archive with files ``train/<class>/*`` and ``test/<class>/*``, or the folder of torchvision's
            ``CIFAR10``, which holds ``cifar-10-batches-py``.
        root: folder of the data set; other files in it are kept.

    Raises:
        DataError: the source cannot be read or is incomplete, or a part exists and is not CIFAR-10.
        MediaError: a file cannot be written.
    """
    missing = [part for part in IMAGES_PER_CLASS if not (root / part).exists()]
    for part in IMAGES_PER_CLASS.keys() - missing:
        _check_part(root / part, str(root / part), "remove this folder or choose another --root")
    if not missing:
        return False
    is_new = not root.exists()
    temporary = root / f".cifar10.{uuid.uuid4().hex[:8]}"
    try:
        with writing(root):
            for part in IMAGES_PER_CLASS:
                for name in CLASSES:
                    (temporary / part / name).mkdir(parents=True)
        (_write_downloaded if source.is_dir() else _extract)(source, temporary)
        for part in IMAGES_PER_CLASS:
            _check_part(temporary / part, f"{source}: {part}", "it is incomplete, download it again")
        with writing(root):
            for part in missing:
                (temporary / part).rename(root / part)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if is_new and root.is_dir() and not any(root.iterdir()):
            root.rmdir()
    return True


def _check_part(folder: Path, shown: str, todo: str) -> None:
    """Check that a part has all images of all classes; ``shown`` is its name in the message.

    Raises:
        DataError: it does not.
    """
    expected = IMAGES_PER_CLASS[folder.name]
    for name in CLASSES:
        count = sum(1 for _ in (folder / name).iterdir()) if (folder / name).is_dir() else 0
        if count != expected:
            raise DataError(f"{shown}/{name}: expected {expected} images, got {count}; {todo}")


def _extract(archive: Path, folder: Path) -> None:
    """Extract the images of an archive: only regular files in a class folder, under a path made from its parts.

    Raises:
        DataError: the archive cannot be read.
    """
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                *_, part, name, file = ("", "", *PurePosixPath(member.name).parts)
                is_image = PurePosixPath(file).suffix.lower() in IMAGE_SUFFIXES and Path(file).name == file
                content = tar.extractfile(member) if member.isreg() else None
                if content is not None and is_image and part in PART_OF_FOLDER and name in CLASSES:
                    encoded = content.read()
                    target = folder / PART_OF_FOLDER[part] / name / file
                    with writing(target):
                        target.write_bytes(encoded)
    except _ARCHIVE_ERRORS as error:
        reason = f" ({error.strerror})" if isinstance(error, OSError) and error.strerror else ""
        raise DataError(f"{archive}: cannot read it as a tar archive{reason}; download it again") from None


def _write_downloaded(download: Path, folder: Path) -> None:
    """Write the images of torchvision's download as PNG; torchvision checks its files by their MD5 first.

    Raises:
        DataError: a file is missing or damaged.
    """
    from torchvision.datasets import CIFAR10

    for part in IMAGES_PER_CLASS:
        try:
            images = CIFAR10(str(download), train=part == "train")
        except RuntimeError:
            raise DataError(
                f"{download}: expected the complete folder cifar-10-batches-py of torchvision's CIFAR10, which it "
                "writes with download=True; or give a tar archive of images"
            ) from None
        counts = [0] * len(CLASSES)
        for image_rgb, label in zip(images.data, images.targets, strict=True):
            _, encoded = cv2.imencode(".png", cv2.cvtColor(image_rgb, cv2.COLOR_RGB2BGR))
            target = folder / part / CLASSES[label] / f"{counts[label]:04d}.png"
            with writing(target):
                target.write_bytes(encoded.tobytes())
            counts[label] += 1
