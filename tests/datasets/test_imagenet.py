"""Class folders to labelled images: what is listed, how it is seen, and what is wrong with a layout in words."""

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
SQUARE = ImageInputConfig(size=32, resize=36)


@pytest.fixture
def data(class_folders: Path) -> ClassFoldersConfig:
    return ClassFoldersConfig(root=class_folders)


def message(data: ClassFoldersConfig) -> str:
    with pytest.raises(DataError) as caught:
        load_training_images(data)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- listing


def test_images_and_labels_are_those_of_torchvisions_folders(data):
    for found, part in zip(load_training_images(data), ("train", "val"), strict=True):
        expected = ImageFolder(data.root / part)

        assert list(found.classes) == expected.classes == list(CLASSES)
        assert [(str(found.path(row)), int(found.labels[row])) for row in range(len(found))] == expected.samples


def test_images_may_lie_deeper_and_other_files_are_left_out(data):
    deeper = data.root / "train/disc/more"
    deeper.mkdir()
    (data.root / "train/disc/0.png").rename(deeper / "näme 0.png")
    (data.root / "train/disc/notes.txt").write_text("none")

    pictures = load_training_images(data)[0]

    assert len(pictures) == 12
    assert deeper / "näme 0.png" in [pictures.path(row) for row in range(len(pictures))]


def test_named_classes_are_taken_in_their_order_and_others_left_out(data):
    (data.root / "val/unknown").mkdir()
    named = data.model_copy(update={"classes": ("square", "disc")})

    train, val = load_training_images(named)

    assert (len(train), len(val)) == (8, 6)
    for pictures in (train, val):
        for row in range(len(pictures)):
            assert pictures.path(row).parent.name == ("square", "disc")[pictures.labels[row]]


def test_some_images_keep_their_labels(data):
    pictures = load_training_images(data)[0]

    some = pictures.take(np.array([11, 0]))

    assert [some.path(row) for row in (0, 1)] == [pictures.path(11), pictures.path(0)]
    assert some.labels.tolist() == [2, 0]
    assert len(some.take(np.zeros(0, dtype=np.int64))) == 0


# --- layouts that cannot be


def test_a_missing_folder_is_named_with_the_option_to_set(data):
    shutil.rmtree(data.root / "val")

    text = message(data)

    assert text.startswith(f"{data.root / 'val'}: cannot read this folder of classes (No such file")
    assert "set data.root" in text


def test_images_that_are_not_sorted_into_classes(data):
    for file in list((data.root / "val").rglob("*.*")):
        file.rename(data.root / "val" / f"{file.parent.name}{file.name}")
    for folder in (data.root / "val").iterdir():
        if folder.is_dir():
            folder.rmdir()

    assert "expected a folder for each of at least 2 classes, found 0 folders and 9 files" in message(data)


def test_classes_that_only_one_of_train_and_val_has(data):
    (data.root / "val/ring").rename(data.root / "val/rnig")

    text = message(data)

    assert text.startswith(f"{data.root / 'val'}: expected the class folders of {data.root / 'train'}, ")
    assert "lacks 'ring' and has 'rnig' beyond them" in text
    assert "data.classes=[...]" in text


def test_of_many_names_a_few_are_told(data):
    for number in range(7):
        (data.root / f"train/extra{number}").mkdir()

    assert "lacks 'extra0', 'extra1', 'extra2' and 4 more; " in message(data)


@pytest.mark.parametrize("part", ["train", "val"])
def test_a_class_without_images(part, data):
    for file in (data.root / part / "ring").iterdir():
        file.rename(file.with_suffix(".txt"))

    text = message(data)

    assert text.startswith(f"{data.root / part}: no image (.jpg ")
    assert "in the class folders 'ring'; " in text


def test_a_named_class_that_has_no_folder(data):
    named = data.model_copy(update={"classes": ("disc", "star")})

    assert message(named) == f"{data.root / 'train'}: lacks the class folders 'star'"


def test_a_model_is_tested_on_its_own_classes_only(data):
    assert load_test_images(data, CLASSES).classes == CLASSES
    with pytest.raises(DataError, match="expected the classes that the model was trained on, lacks 'star'"):
        load_test_images(data, ("disc", "ring", "square", "star"))
    with pytest.raises(DataError, match="has 'square' beyond them"):
        load_test_images(data, ("disc", "ring"))
    named = data.model_copy(update={"classes": ("disc", "ring")})
    assert len(load_test_images(named, ("disc", "ring"))) == 6


# --- what the model sees


def test_a_test_image_is_torchvisions_preset(data):
    """`ImageClassification` resizes, cuts the centre, and normalizes, which is left to the device here."""
    pictures = load_training_images(data)[1]
    view = v2.Compose([v2.Resize(36, antialias=True), v2.CenterCrop(32)])

    samples = imagenet.TestImages(pictures, SQUARE)

    assert len(samples) == 9
    for row in range(9):
        image_bgr = read_image(pictures.path(row))
        expected = view(torch.from_numpy(image_bgr[:, :, ::-1].copy()).permute(2, 0, 1))
        image, label, number = samples[row]
        assert image.dtype == torch.uint8
        assert image.is_contiguous()
        torch.testing.assert_close(image.permute(2, 0, 1), expected)
        assert (label, number) == (pictures.labels[row], row)


def training(data, seed=0, **augment):
    return TrainingImages(load_training_images(data)[0], SQUARE, ImageAugmentConfig(**augment), seed)


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
    assert torch.equal(torch.get_rng_state(), before)  # dropout and mixup go on as they would have


@pytest.mark.parametrize(("probability", "share"), [(0, 0.0), (1, 1.0), (0.5, 0.5)])
def test_images_are_mirrored_as_often_as_asked(probability, share, data):
    image = np.zeros((40, 40, 3), dtype=np.uint8)
    image[:, :20] = 255
    cv2.imwrite(str(data.root / "train/disc/0.png"), image)
    samples = training(data, crop_area=(0.9, 1), flip_probability=probability)

    views = [samples[epoch, 0].image for epoch in range(60)]

    mirrored = np.mean([bool(view[:, 0].float().mean() < view[:, -1].float().mean()) for view in views])
    assert abs(mirrored - share) < (0.2 if share == 0.5 else 1e-9)


def test_crops_have_the_area_that_was_asked_for(data):
    """An image whose red grows from left to right and green from top to bottom tells what part of it is seen."""
    ramp = np.linspace(0, 255, 200)
    image = np.stack(np.broadcast_arrays(np.zeros((200, 200)), ramp[:, None], ramp[None]), axis=2).astype(np.uint8)
    cv2.imwrite(str(data.root / "train/disc/0.png"), image)
    samples = training(data, crop_area=(0.2, 0.3), flip_probability=0)

    for epoch in range(20):
        view = samples[epoch, 0].image.float() / 255
        width, height = view[16, -1, 0] - view[16, 0, 0], view[-1, 16, 1] - view[0, 16, 1]
        assert 0.17 < width * height < 0.33


def test_workers_and_processes_do_not_change_the_images(data):
    samples = training(data)
    found = {}
    for workers, processes in ((0, 1), (2, 1), (0, 2)):
        parts = []
        for rank in range(processes):
            sampler = EpochSampler(12, 4, 1, rank, processes)
            sampler.start(2)
            parts.append(list(batches(training_loader(samples, sampler, workers, False))))
        joined = [torch.cat([part[step].image for part in parts]) for step in range(3)]
        found[workers, processes] = torch.stack(joined)

    assert torch.equal(found[0, 1], found[2, 1])
    assert torch.equal(found[0, 1], found[0, 2])


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_is_named_whoever_reads_it(workers, data):
    broken = data.root / "val/ring/1.jpg"
    broken.write_bytes(b"not an image")
    samples = imagenet.TestImages(load_training_images(data)[1], SQUARE)

    with pytest.raises(DataError, match=r"val/ring/1\.jpg: not an image OpenCV can read \(13 bytes\)"):
        list(batches(loading.test_loader(samples, 4, workers)))


def test_grey_and_transparent_images_have_three_channels(data):
    cv2.imwrite(str(data.root / "val/ring/1.jpg"), np.full((40, 50), 128, dtype=np.uint8))
    cv2.imwrite(str(data.root / "val/ring/0.png"), np.full((40, 50, 4), 128, dtype=np.uint8))

    samples = imagenet.TestImages(load_training_images(data)[1], SQUARE)

    assert {tuple(samples[row].image.shape) for row in range(9)} == {(32, 32, 3)}
