"""CIFAR-10 to class folders: from an archive of images and from torchvision's download; damaged and unsafe archives."""

import hashlib
import io
import os
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from torchvision.datasets import CIFAR10

from pose.config.loader import load_classification_config
from pose.datasets import cifar10
from pose.datasets.cifar10 import CLASSES, write_class_folders
from pose.datasets.imagenet import load_training_images
from pose.errors import DataError
from pose.images import read_image

COUNTS = {"train": 2, "val": 1}
CONTENT = {"train": 20, "test": 10}


@pytest.fixture(autouse=True)
def _few_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar10, "IMAGES_PER_CLASS", COUNTS)


def noise(part: str, number: int) -> NDArray[np.uint8]:
    """The image (32, 32, 3) RGB of a number from 0; its label is number % 10."""
    rng = np.random.default_rng((len(part), number))
    return rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)


def png(part: str, number: int) -> bytes:
    return cv2.imencode(".png", noise(part, number)[..., ::-1])[1].tobytes()


Entries = dict[str, bytes | str]
"""Content of an archive by name; text is the target of a symbolic link."""


def image_entries(top: str = "") -> Entries:
    return {
        f"{top}{part}/{CLASSES[number % 10]}/{number // 10:04d}.png": png(part, number)
        for part, count in CONTENT.items()
        for number in range(count)
    }


def write_tar(path: Path, entries: Entries) -> Path:
    with tarfile.open(path, "w:xz") as tar:
        for name, content in entries.items():
            info = tarfile.TarInfo(name)
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return path


def write_download(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write files in the format of torchvision's download, with their MD5."""
    folder = root / CIFAR10.base_folder
    folder.mkdir(parents=True)

    def write(name: str, content: dict[str, object]) -> list[str]:
        encoded = pickle.dumps(content)
        (folder / name).write_bytes(encoded)
        return [name, hashlib.md5(encoded).hexdigest()]

    def batch(part: str, count: int) -> dict[str, object]:
        images = np.stack([noise(part, number).transpose(2, 0, 1).ravel() for number in range(count)])
        return {"data": images, "labels": [number % 10 for number in range(count)]}

    monkeypatch.setattr(CIFAR10, "train_list", [write("data_batch_1", batch("train", 20))])
    monkeypatch.setattr(CIFAR10, "test_list", [write("test_batch", batch("test", 10))])
    meta, md5 = write("batches.meta", {"label_names": list(CLASSES)})
    monkeypatch.setattr(CIFAR10, "meta", {"filename": meta, "key": "label_names", "md5": md5})
    return root


def files_below(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


EXPECTED = {name.replace("test/", "val/"): content for name, content in image_entries().items()}


# --- what is written


@pytest.mark.parametrize("top", ["", "./", "cifar10/"])
def test_an_archive_becomes_train_and_val(top: str, tmp_path: Path) -> None:
    source = write_tar(tmp_path / "images.tar.xz", image_entries(top))

    assert write_class_folders(source, tmp_path / "data")

    assert files_below(tmp_path / "data") == EXPECTED


def test_a_download_of_torchvision_has_the_same_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_download(tmp_path / "download", monkeypatch)

    assert write_class_folders(source, tmp_path / "data")

    for part, split in (("train", "train"), ("test", "val")):
        for number in range(CONTENT[part]):
            image = read_image(tmp_path / f"data/{split}/{CLASSES[number % 10]}/{number // 10:04d}.png")
            assert np.array_equal(image[..., ::-1], noise(part, number))


def test_the_configs_read_the_folders_with_the_labels_of_the_original(tmp_path: Path) -> None:
    write_class_folders(write_tar(tmp_path / "images.tar.xz", image_entries()), tmp_path / "data")
    config = load_classification_config(
        "cifar10/static_w0.35", [f"data.root={tmp_path / 'data'}", "data.train_images_per_class=2"]
    )

    train, val = load_training_images(config.data)

    assert (len(train), len(val), train.classes) == (20, 10, CLASSES)
    assert [CLASSES.index(train.path(row).parent.name) for row in range(20)] == train.labels.tolist()


def test_a_second_call_changes_nothing_and_needs_no_source(tmp_path: Path) -> None:
    write_class_folders(write_tar(tmp_path / "images.tar.xz", image_entries()), tmp_path / "data")
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "data").rglob("*")}

    assert not write_class_folders(tmp_path / "missing", tmp_path / "data")

    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "data").rglob("*")} == before


def test_a_missing_part_is_added_and_other_files_are_kept(tmp_path: Path) -> None:
    source = write_tar(tmp_path / "images.tar.xz", image_entries())
    write_class_folders(source, tmp_path / "data")
    for file in (tmp_path / "data/val").rglob("*.png"):
        file.unlink()
    for folder in (tmp_path / "data/val").iterdir():
        folder.rmdir()
    (tmp_path / "data/val").rmdir()
    (tmp_path / "data/notes.txt").write_bytes(b"mine")

    assert write_class_folders(source, tmp_path / "data")

    assert files_below(tmp_path / "data") == {**EXPECTED, "notes.txt": b"mine"}


# --- what is refused


def refusal(source: Path, root: Path) -> str:
    """Return the message; nothing was written."""
    before = files_below(root) if root.exists() else {}
    with pytest.raises(DataError) as caught:
        write_class_folders(source, root)
    assert (files_below(root) if root.exists() else {}) == before
    assert not list(root.glob(".*"))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "harmful",
    [
        {"../train/cat/0000.png": b"outside", "/train/cat/0001.png": b"absolute"},
        {"train/cat/../../../up.png": b"outside"},
        {"train/cat/0002.png": "/etc/hostname"},
        {"train/../0002.png": b"outside", "train/cat": "/tmp"},
        {"train/lion/0000.png": b"no class", "train/cat/notes.txt": b"no image", "train/cat/.png": b"no name"},
    ],
    ids=["absolute", "dots", "link", "folder link", "unknown"],
)
def test_only_regular_image_files_of_the_classes_are_extracted(harmful: Entries, tmp_path: Path) -> None:
    source = write_tar(tmp_path / "images.tar.xz", {**harmful, **image_entries()})

    write_class_folders(source, tmp_path / "a/b/data")

    assert files_below(tmp_path / "a") == {f"b/data/{name}": content for name, content in EXPECTED.items()}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "images.tar.xz"]
    assert not any(path.is_symlink() for path in tmp_path.rglob("*"))


def test_an_incomplete_archive_is_refused(tmp_path: Path) -> None:
    entries = image_entries()
    del entries["test/dog/0000.png"]
    source = write_tar(tmp_path / "images.tar.xz", entries)

    text = refusal(source, tmp_path / "data")

    assert text == f"{source}: val/dog: expected 1 images, got 0; it is incomplete, download it again"


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("damage", [truncate, lambda path: path.write_bytes(b"text" * 999), Path.unlink])
def test_a_damaged_or_missing_archive_is_refused(damage: Callable[[Path], object], tmp_path: Path) -> None:
    source = write_tar(tmp_path / "images.tar.xz", image_entries())
    damage(source)

    assert refusal(source, tmp_path / "data").startswith(f"{source}: cannot read it as a tar archive")
    assert not (tmp_path / "data").exists()


def test_a_folder_without_a_complete_download_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "expected the complete folder cifar-10-batches-py" in refusal(tmp_path, tmp_path / "data")
    source = write_download(tmp_path / "download", monkeypatch)
    with (source / CIFAR10.base_folder / "test_batch").open("ab") as file:
        file.write(b"changed")  # not unpickled: the MD5 differs

    assert "expected the complete folder cifar-10-batches-py" in refusal(source, tmp_path / "data")


def test_a_folder_of_other_images_is_not_changed(tmp_path: Path) -> None:
    source = write_tar(tmp_path / "images.tar.xz", image_entries())
    (tmp_path / "data/train/cat").mkdir(parents=True)
    (tmp_path / "data/train/cat/mine.png").write_bytes(b"mine")

    text = refusal(source, tmp_path / "data")

    folder = tmp_path / "data/train/airplane"
    assert text == f"{folder}: expected 2 images, got 0; remove this folder or choose another --root"
