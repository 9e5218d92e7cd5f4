"""Class folders to labeled images: listing, transforms, and errors of the layout."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from pose.config.classification import ClassFoldersConfig, ImageAugmentConfig, ImageInputConfig
from pose.datasets import imagenet, loading
from pose.datasets.imagenet import TrainingImages, load_test_images, load_training_images
from pose.datasets.loading import EpochSampler, batches, training_loader
from pose.errors import DataError
from pose.images import read_image

CLASSES = ("disc", "ring", "square")
INPUT = ImageInputConfig(size=32, resize=36)


@pytest.fixture
def data(class_folders: Path) -> ClassFoldersConfig:
    return ClassFoldersConfig(root=class_folders)


def error_message(data: ClassFoldersConfig) -> str:
    with pytest.raises(DataError) as caught:
        load_training_images(data)
    assert "\n" not in str(caught.value)
    return str(caught.value.args[0])  # whole: the folders of tests are long


# --- listing


def test_images_and_labels_equal_torchvisions_image_folder(data):
    for images, part in zip(load_training_images(data), ("train", "val"), strict=True):
        expected = ImageFolder(data.root / part)

        assert list(images.classes) == expected.classes == list(CLASSES)
        assert [(str(images.path(row)), int(images.labels[row])) for row in range(len(images))] == expected.samples


def test_images_in_subfolders_are_listed_and_other_files_ignored(data):
    subfolder = data.root / "train/disc/more"
    subfolder.mkdir()
    (data.root / "train/disc/0.png").rename(subfolder / "näme 0.png")
    (data.root / "train/disc/notes.txt").write_text("none")

    images = load_training_images(data)[0]

    assert len(images) == 12
    assert subfolder / "näme 0.png" in [images.path(row) for row in range(len(images))]


def test_configured_classes_define_labels_and_others_are_ignored(data):
    (data.root / "val/unknown").mkdir()
    selected = data.model_copy(update={"classes": ("square", "disc")})

    train, val = load_training_images(selected)

    assert (len(train), len(val)) == (8, 6)
    for images in (train, val):
        for row in range(len(images)):
            assert images.path(row).parent.name == ("square", "disc")[images.labels[row]]


def test_take_keeps_paths_and_labels(data):
    images = load_training_images(data)[0]

    some = images.take(np.array([11, 0]))

    assert [some.path(row) for row in (0, 1)] == [images.path(11), images.path(0)]
    assert some.labels.tolist() == [2, 0]
    assert len(some.take(np.zeros(0, dtype=np.int64))) == 0


def test_the_first_training_images_of_each_class_are_used_and_all_of_validation(data):
    (train, val), (all_train, all_val) = (
        load_training_images(data.model_copy(update={"train_images_per_class": count})) for count in (3, None)
    )

    assert [train.path(row) for row in range(9)] == [
        path for path in map(all_train.path, range(12)) if path.stem in ("0", "1", "2")
    ]
    assert train.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert len(val) == len(all_val)


def test_a_class_with_too_few_training_images_is_rejected(data):
    text = error_message(data.model_copy(update={"train_images_per_class": 5}))

    assert "fewer than 5 images in the class folders 'disc', 'ring', 'square'; " in text
    assert "data.train_images_per_class" in text


# --- invalid layouts


def test_the_error_of_a_missing_folder_names_the_option(data):
    shutil.rmtree(data.root / "val")

    text = error_message(data)

    assert text.startswith(f"{data.root / 'val'}: cannot read this folder of classes (No such file")
    assert "set data.root" in text


def test_images_outside_class_folders_are_rejected(data):
    for file in list((data.root / "val").rglob("*.*")):
        file.rename(data.root / "val" / f"{file.parent.name}{file.name}")
    for folder in (data.root / "val").iterdir():
        if folder.is_dir():
            folder.rmdir()

    assert "expected one folder per class and at least 2 classes, got 0 folders and 9 files" in error_message(data)


def test_different_classes_in_train_and_val_are_rejected(data):
    (data.root / "val/ring").rename(data.root / "val/rnig")

    text = error_message(data)

    assert text.startswith(f"{data.root / 'val'}: expected the class folders of {data.root / 'train'}, ")
    assert "lacks 'ring' and has 'rnig' in addition" in text
    assert "data.classes=[...]" in text


def test_an_error_lists_three_names_and_counts_the_others(data):
    for number in range(7):
        (data.root / f"train/extra{number}").mkdir()

    assert "lacks 'extra0', 'extra1', 'extra2' and 4 more; " in error_message(data)


@pytest.mark.parametrize("part", ["train", "val"])
def test_a_class_without_images_is_rejected(part, data):
    for file in (data.root / part / "ring").iterdir():
        file.rename(file.with_suffix(".txt"))

    text = error_message(data)

    assert text.startswith(f"{data.root / part}: no image (.jpg ")
    assert "in the class folders 'ring'; " in text


def test_a_configured_class_without_folder_is_rejected(data):
    selected = data.model_copy(update={"classes": ("disc", "star")})

    assert error_message(selected) == f"{data.root / 'train'}: lacks the class folders 'star'"


def test_test_classes_must_be_the_classes_of_the_model(data):
    assert load_test_images(data, CLASSES).classes == CLASSES
    with pytest.raises(DataError, match="expected the classes that the model was trained on, lacks 'star'"):
        load_test_images(data, ("disc", "ring", "square", "star"))
    with pytest.raises(DataError, match="has 'square' in addition"):
        load_test_images(data, ("disc", "ring"))
    selected = data.model_copy(update={"classes": ("disc", "ring")})
    assert len(load_test_images(selected, ("disc", "ring"))) == 6


# --- transforms


def test_a_test_image_equals_torchvisions_preset(data):
    """`ImageClassification` resizes, crops the center and normalizes; here, normalization is done on the device."""
    images = load_training_images(data)[1]
    transform = v2.Compose([v2.Resize(36, antialias=True), v2.CenterCrop(32)])

    samples = imagenet.TestImages(images, INPUT)

    assert len(samples) == 9
    for row in range(9):
        image_bgr = read_image(images.path(row))
        expected = transform(torch.from_numpy(image_bgr[:, :, ::-1].copy()).permute(2, 0, 1))
        image, label, sample_row = samples[row]
        assert image.dtype == torch.uint8
        assert image.is_contiguous()
        torch.testing.assert_close(image.permute(2, 0, 1), expected)
        assert (label, sample_row) == (images.labels[row], row)


def training(data, seed=0, **augment):
    return TrainingImages(load_training_images(data)[0], INPUT, ImageAugmentConfig(**augment), seed)


def test_a_training_image_is_a_function_of_seed_epoch_and_row(data):
    one, other = training(data, seed=1), training(data, seed=1)
    torch.manual_seed(5)
    before = torch.get_rng_state()

    first = one[3, 7]
    torch.rand(3)

    assert torch.equal(first.image, other[3, 7].image)
    assert not torch.equal(first.image, one[4, 7].image)
    assert not torch.equal(first.image, training(data, seed=2)[3, 7].image)
    torch.set_rng_state(before)
    one[0, 0]
    assert torch.equal(torch.get_rng_state(), before)  # dropout and mixup are not affected


@pytest.mark.parametrize(("probability", "fraction"), [(0, 0.0), (1, 1.0), (0.5, 0.5)])
def test_images_are_flipped_with_the_configured_probability(probability, fraction, data):
    image = np.zeros((40, 40, 3), dtype=np.uint8)
    image[:, :20] = 255
    cv2.imwrite(str(data.root / "train/disc/0.png"), image)
    samples = training(data, crop_area=(0.9, 1), flip_probability=probability)

    views = [samples[epoch, 0].image for epoch in range(60)]

    mirrored = np.mean([bool(view[:, 0].float().mean() < view[:, -1].float().mean()) for view in views])
    assert abs(mirrored - fraction) < (0.2 if fraction == 0.5 else 1e-9)


def test_crops_have_the_configured_area(data):
    """Red increases from left to right and green from top to bottom, so the colors give the cropped part."""
    ramp = np.linspace(0, 255, 200)
    image = np.stack(np.broadcast_arrays(np.zeros((200, 200)), ramp[:, None], ramp[None]), axis=2).astype(np.uint8)
    cv2.imwrite(str(data.root / "train/disc/0.png"), image)
    samples = training(data, crop_area=(0.2, 0.3), flip_probability=0)

    for epoch in range(20):
        view = samples[epoch, 0].image.float() / 255
        width, height = view[16, -1, 0] - view[16, 0, 0], view[-1, 16, 1] - view[0, 16, 1]
        assert 0.17 < width * height < 0.33


def test_workers_and_world_size_do_not_change_the_images(data):
    samples = training(data)
    images = {}
    for workers, world_size in ((0, 1), (2, 1), (0, 2)):
        parts = []
        for rank in range(world_size):
            sampler = EpochSampler(12, 4, 1, rank, world_size)
            sampler.start(2)
            parts.append(list(batches(training_loader(samples, sampler, workers, False))))
        joined = [torch.cat([part[step].image for part in parts]) for step in range(3)]
        images[workers, world_size] = torch.stack(joined)

    assert torch.equal(images[0, 1], images[2, 1])
    assert torch.equal(images[0, 1], images[0, 2])


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_is_named_with_and_without_workers(workers, data):
    broken = data.root / "val/ring/1.jpg"
    broken.write_bytes(b"not an image")
    samples = imagenet.TestImages(load_training_images(data)[1], INPUT)

    with pytest.raises(DataError, match=r"val/ring/1\.jpg: not an image OpenCV can read \(12 bytes\)"):
        list(batches(loading.test_loader(samples, 4, workers)))


def test_gray_and_transparent_images_have_three_channels(data):
    cv2.imwrite(str(data.root / "val/ring/1.jpg"), np.full((40, 50), 128, dtype=np.uint8))
    cv2.imwrite(str(data.root / "val/ring/0.png"), np.full((40, 50, 4), 128, dtype=np.uint8))

    samples = imagenet.TestImages(load_training_images(data)[1], INPUT)

    assert {tuple(samples[row].image.shape) for row in range(9)} == {(32, 32, 3)}
