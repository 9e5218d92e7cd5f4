"""Samples from person records: flip, alignment of image and target, and determinism in (seed, epoch, row)."""

import pickle
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from pose.config.pose import AugmentConfig, InputConfig
from pose.datasets import samples
from pose.datasets.coco import annotated_persons
from pose.datasets.samples import TrainingSamples, make_sample, person_crop
from pose.errors import DataError
from pose.geometry import box_to_view, transform_points, view_to_matrix
from pose.heatmap import decode
from pose.images import crop, read_crop, read_image, reduction_for
from pose.skeleton import COCO

SMALL = InputConfig(size_hw=(128, 96))
FULL = InputConfig()
NO_VARIATION = AugmentConfig(flip_probability=0, rotation_probability=0, scale_std=0, half_body_probability=0)
FLIP = NO_VARIATION.model_copy(update={"flip_probability": 1.0})
ROTATE = AugmentConfig(flip_probability=0, rotation_probability=1, half_body_probability=0)
ROTATE_AND_FLIP = ROTATE.model_copy(update={"flip_probability": 1.0})


@pytest.fixture
def persons(tiny_coco):
    return annotated_persons(tiny_coco.annotations, tiny_coco.images, COCO)


def sample(record, augment=None, seed=3, input_config=SMALL, **options):
    return make_sample(record, COCO, input_config, augment, np.random.default_rng(seed), **options)


def mirrored_record(record, folder):
    """Write the mirrored image and return the record of the mirrored person, computed by keypoint names."""
    image = read_image(record.image_path)
    path = folder / "mirrored.png"
    cv2.imwrite(str(path), image[:, ::-1])
    x, y, w, h = record.bbox_xywh
    last = image.shape[1] - 1
    partner = [
        name.replace("left", "right") if "left" in name else name.replace("right", "left") for name in COCO.names
    ]
    rows = [COCO.names.index(name) for name in partner]
    keypoints = np.array([[last - record.keypoints_image[row][0], record.keypoints_image[row][1]] for row in rows])
    return replace(
        record,
        image_path=path,
        bbox_xywh=np.array([last - x - w, y, w, h]),
        keypoints_image=keypoints,
        visibility=record.visibility[rows],
    )


@pytest.mark.parametrize("row", range(5))
@pytest.mark.parametrize(
    ("augment", "with_flip"), [(NO_VARIATION, FLIP), (ROTATE, ROTATE_AND_FLIP)], ids=["upright", "rotated"]
)
def test_a_flipped_sample_equals_the_sample_of_a_mirrored_image(persons, tmp_path, row, augment, with_flip):
    record = persons.record(row)

    flipped, mirrored = sample(record, with_flip), sample(mirrored_record(record, tmp_path), augment)

    np.testing.assert_array_equal(flipped.weights, mirrored.weights)
    np.testing.assert_array_equal(flipped.heatmaps, mirrored.heatmaps)
    difference = np.abs(flipped.image.numpy().astype(int) - mirrored.image.numpy())
    assert difference.mean() < 0.5
    assert np.mean(difference > 6) < 0.01  # the image border, where one of them interpolates with black
    assert (flipped.image != sample(record, augment).image).any()


@pytest.mark.parametrize("input_config", [SMALL, FULL], ids=["128x96", "256x192"])
@pytest.mark.parametrize(
    "augment", [None, FLIP, ROTATE, ROTATE_AND_FLIP], ids=["upright", "flip", "rotation", "rotation+flip"]
)
@pytest.mark.parametrize("row", [0, 3])
def test_image_and_target_heatmap_agree_on_every_keypoint(persons, tmp_path, row, augment, input_config):
    record, checked = persons.record(row), 0
    for keypoint in np.flatnonzero(record.visibility):
        large = replace(
            record,
            image_path=tmp_path / f"{keypoint}.png",
            keypoints_image=record.keypoints_image * 3,
            bbox_xywh=record.bbox_xywh * 3,
        )
        cv2.imwrite(str(large.image_path), disc_at(large.keypoints_image[keypoint], (480, 480)))

        drawn = sample(large, augment, input_config=input_config)

        target = COCO.flip_order[keypoint] if augment in (FLIP, ROTATE_AND_FLIP) else keypoint
        center = centroid(drawn.image.numpy())
        inside = center is not None and (center > 4).all() and (center < np.array(input_config.size_wh) - 5).all()
        if inside and drawn.weights[target]:
            peak, score = decode(drawn.heatmaps.numpy())
            assert score[target] == 1
            # The target is at the nearest grid point: half of the stride of 4 pixels, and half a pixel for the disc.
            assert np.abs(peak[target] * 4 - center).max() <= 2.5
            checked += 1
    assert checked > 4


@pytest.mark.parametrize("augment", [None, FLIP], ids=["upright", "flip"])
def test_on_the_heatmap_grid_image_and_target_agree_to_a_twentieth_of_a_pixel(persons, tmp_path, augment):
    record = persons.record(0)
    keypoint_image = np.array([70 - 20, 90 + 16])  # 5 and 4 heatmap pixels from the center of the view
    path = tmp_path / "disc.png"
    cv2.imwrite(str(path), disc_at(keypoint_image, (200, 200)))
    view_wh = np.array([96, 128])  # as large as the input: the warp is a shift by integer pixels
    bbox_xywh = np.concatenate([np.array([70, 90]) - view_wh / 2.5, view_wh / 1.25])
    keypoints = np.tile(keypoint_image, (17, 1)).astype(float)

    drawn = sample(replace(record, image_path=path, bbox_xywh=bbox_xywh, keypoints_image=keypoints), augment)

    expected = np.array([48 + 20 if augment else 48 - 20, 64 + 16])
    np.testing.assert_allclose(centroid(drawn.image.numpy()), expected, atol=0.05)
    np.testing.assert_array_equal(decode(drawn.heatmaps.numpy())[0] * 4, np.tile(expected, (17, 1)))


def disc_at(center, size_hw):
    image = np.zeros((*size_hw, 3), dtype=np.uint8)
    fraction = np.round(np.asarray(center) * 16).astype(int)
    cv2.circle(image, (int(fraction[0]), int(fraction[1])), 5 * 16, (0, 0, 255), cv2.FILLED, cv2.LINE_AA, shift=4)
    return image


def centroid(image_rgb):
    """(2,) x, y of the center of the red disc, or None if it is outside the crop."""
    assert not image_rgb[..., 1:].any()
    red = image_rgb[..., 0].astype(float)
    if red.sum() < 255:
        return None
    rows, columns = np.indices(red.shape)
    return np.array([(red * columns).sum(), (red * rows).sum()]) / red.sum()


def test_a_sample_has_the_documented_shapes_and_types(persons):
    image, heatmaps, weights, person_id = sample(persons.record(1))

    assert (image.shape, image.dtype) == ((128, 96, 3), torch.uint8)
    assert (heatmaps.shape, heatmaps.dtype) == ((17, 32, 24), torch.float32)
    assert (weights.shape, weights.dtype) == ((17,), torch.float32)
    assert (person_id.shape, person_id.item()) == ((), 12)


def test_hidden_and_visible_keypoints_have_weight_one_and_unlabeled_keypoints_zero(persons):
    record = persons.record(1)
    box = record.bbox_xywh
    assert set(record.visibility) == {0, 1, 2}
    inside = replace(record, keypoints_image=np.clip(record.keypoints_image, box[:2], box[:2] + box[2:]))

    drawn = sample(inside)

    np.testing.assert_array_equal(drawn.weights, (record.visibility > 0).astype(np.float32))
    np.testing.assert_array_equal(drawn.heatmaps.amax(dim=(1, 2)), drawn.weights)


def test_a_sample_is_a_pure_function_of_seed_epoch_and_row(persons):
    def drawn(seed, *keys):
        data = TrainingSamples(persons, COCO, SMALL, AugmentConfig(photometric="strong"), seed)
        return [data[key] for key in keys]

    def equal(a, b):
        return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))

    first, other = drawn(0, (2, 1), (0, 0))
    again = drawn(0, (5, 3), (0, 0), (2, 1))

    assert equal(again[1], other)
    assert equal(again[2], first)
    for different in (drawn(1, (2, 1))[0], drawn(0, (3, 1))[0], drawn(0, (2, 0))[0]):
        assert not torch.equal(first.image, different.image)


def test_color_augmentation_changes_the_pixels_of_a_sample_but_not_its_targets(persons):
    plain = TrainingSamples(persons, COCO, SMALL, NO_VARIATION, 0)
    augmented = TrainingSamples(persons, COCO, SMALL, NO_VARIATION.model_copy(update={"photometric": "light"}), 0)

    assert any(not torch.equal(plain[(epoch, 0)].image, augmented[(epoch, 0)].image) for epoch in range(4))
    for epoch in range(4):
        torch.testing.assert_close(plain[(epoch, 0)].heatmaps, augmented[(epoch, 0)].heatmaps, rtol=0, atol=0)


def test_a_sample_without_augmentation_equals_the_test_crop(persons):
    record = persons.record(2)

    image, heatmap_to_image, area = person_crop(read_image(record.image_path), record.bbox_xywh, SMALL)

    np.testing.assert_array_equal(sample(record).image, image)
    np.testing.assert_array_equal(sample(record, NO_VARIATION).image, image)
    w, h = record.bbox_xywh[2:]
    assert area == pytest.approx(max(w, h * 0.75) * max(h, w / 0.75) * 1.25**2)
    center = record.bbox_xywh[:2] + record.bbox_xywh[2:] / 2
    np.testing.assert_allclose(transform_points([[12, 16]], heatmap_to_image), [center])  # center of the 24 x 32 grid


def test_heatmap_peaks_of_a_test_crop_map_back_to_the_annotated_keypoints(persons):
    crops = samples.TestCrops(persons, FULL)
    assert len(crops) == len(persons)
    for row in range(len(crops)):
        crop, record = crops[row], persons.record(row)
        heatmaps, weights = (part.numpy() for part in sample(record, input_config=FULL)[1:3])
        image, _, area = person_crop(read_image(record.image_path), record.bbox_xywh, FULL)

        keypoints_image = transform_points(decode(heatmaps)[0], crop.heatmap_to_image)

        stride_px = np.hypot(*crop.heatmap_to_image[:, 0].numpy())  # image pixels per heatmap pixel
        labeled = weights > 0
        assert np.abs(keypoints_image - record.keypoints_image)[labeled].max() <= 0.5 * stride_px + 1e-3
        np.testing.assert_array_equal(crop.image, image)
        assert (crop.row.item(), crop.area.item()) == (row, pytest.approx(area))


def test_both_data_sets_can_be_pickled_for_spawned_processes(persons):
    training = pickle.loads(pickle.dumps(TrainingSamples(persons, COCO, SMALL, NO_VARIATION, 0)))
    testing = pickle.loads(pickle.dumps(samples.TestCrops(persons, SMALL)))

    assert torch.equal(training[(0, 1)].image, testing[1].image)


def test_a_missing_image_is_named_in_the_error(persons):
    record = persons.record(0)
    record.image_path.unlink()

    with pytest.raises(DataError, match=r"1\.png"):
        sample(record)


@pytest.fixture
def large_jpeg(persons, tmp_path):
    """The first person, eight times as large, in a JPEG: every training crop reduces it."""
    record = persons.record(0)
    image = cv2.resize(read_image(record.image_path), None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC)
    noise = np.random.default_rng(0).integers(-40, 40, image.shape)
    cv2.imwrite(str(tmp_path / "large.jpg"), np.clip(image + noise, 0, 255).astype(np.uint8))
    return replace(record, image_path=tmp_path / "large.jpg", bbox_xywh=record.bbox_xywh * 8)


def test_training_decodes_a_large_jpeg_at_reduced_size(large_jpeg):
    view = box_to_view(large_jpeg.bbox_xywh, SMALL.aspect_ratio, SMALL.padding)
    image_to_input = view_to_matrix(view, SMALL.size_wh)
    assert reduction_for(image_to_input) > 1

    expected = read_crop(large_jpeg.image_path, image_to_input, SMALL.size_wh)
    np.testing.assert_array_equal(sample(large_jpeg).image, expected)


def test_testing_decodes_every_image_at_full_size(persons, large_jpeg):
    one = persons.take(np.array([0]))
    one = replace(
        one,
        image_folder=large_jpeg.image_path.parent,
        file_names=np.array(["large.jpg"]),
        bboxes_xywh=one.bboxes_xywh * 8,
    )

    image = samples.TestCrops(one, SMALL)[0].image

    image_to_input = view_to_matrix(box_to_view(large_jpeg.bbox_xywh, SMALL.aspect_ratio, SMALL.padding), SMALL.size_wh)
    np.testing.assert_array_equal(image, crop(read_image(large_jpeg.image_path), image_to_input, SMALL.size_wh))
    assert (image != sample(large_jpeg).image).any()
