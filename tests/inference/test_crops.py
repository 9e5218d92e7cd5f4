"""Crops in batches: the same as one by one, and cut only when they are needed."""

import numpy as np

from pose.config.pose import InputConfig
from pose.images import person_crop
from pose.inference import crops
from pose.inference.crops import crop_batches

CONFIG = InputConfig(size_hw=(64, 64))
IMAGES = list(np.random.default_rng(0).integers(0, 256, (2, 50, 60, 3), dtype=np.uint8))
BOXES = [np.array([[1, 2, 20, 30], [5, 5, 10, 40], [0, 0, 60, 50]], np.float32), np.array([[9, 9, 9, 9]], np.float32)]


def test_batches_hold_the_crops_of_all_boxes_in_order():
    batches = list(crop_batches(IMAGES, BOXES, CONFIG, 3))
    assert [len(crops_rgb) for crops_rgb, _ in batches] == [3, 1]
    expected = [person_crop(image, box, CONFIG) for image, boxes in zip(IMAGES, BOXES, strict=True) for box in boxes]
    np.testing.assert_array_equal(np.concatenate([batch[0] for batch in batches]), [row[0] for row in expected])
    np.testing.assert_array_equal(np.concatenate([batch[1] for batch in batches]), [row[1] for row in expected])


def test_no_boxes_give_no_batch():
    assert list(crop_batches(IMAGES[:1], [np.zeros((0, 4), np.float32)], CONFIG, 3)) == []


def test_crops_are_cut_batch_by_batch(monkeypatch):
    cut = []
    monkeypatch.setattr(crops, "person_crop", lambda *args: cut.append(args) or person_crop(*args))
    batches = crop_batches(IMAGES[:1], [np.tile(BOXES[0][:1], (10_000, 1))], CONFIG, 4)
    next(batches)
    assert len(cut) == 4
    next(batches)
    assert len(cut) == 8
