"""From a person record to a sample: the mirror law, discs drawn at the keypoints, and purity in (seed, epoch, row)."""

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
STILL = AugmentConfig(flip_probability=0, rotation_probability=0, scale_std=0, half_body_probability=0)
FLIP = STILL.model_copy(update={"flip_probability": 1.0})
TURN = AugmentConfig(flip_probability=0, rotation_probability=1, half_body_probability=0)
TURN_AND_FLIP = TURN.model_copy(update={"flip_probability": 1.0})


@pytest.fixture
def persons(tiny_coco):
    return annotated_persons(tiny_coco.annotations, tiny_coco.images, COCO)


def sample(record, augment=None, seed=3, input_config=SMALL, **options):
    return make_sample(record, COCO, input_config, augment, np.random.default_rng(seed), **options)


def mirrored_by_hand(record, folder):
    """Write the mirrored image and say for each keypoint name where it is on the mirrored person."""
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
@pytest.mark.parametrize(("augment", "flipping"), [(STILL, FLIP), (TURN, TURN_AND_FLIP)], ids=["upright", "turned"])
def test_a_flipped_sample_is_the_sample_of_the_image_mirrored_by_hand(persons, tmp_path, row, augment, flipping):
    record = persons.record(row)

    flipped, mirrored = sample(record, flipping), sample(mirrored_by_hand(record, tmp_path), augment)

    np.testing.assert_array_equal(flipped.weights, mirrored.weights)
    np.testing.assert_array_equal(flipped.heatmaps, mirrored.heatmaps)
    difference = np.abs(flipped.image.numpy().astype(int) - mirrored.image.numpy())
    assert difference.mean() < 0.5
    assert np.mean(difference > 6) < 0.01  # the border, where one side interpolates with black
    assert (flipped.image != sample(record, augment).image).any()


@pytest.mark.parametrize("geometry", [SMALL, FULL], ids=["128x96", "256x192"])
@pytest.mark.parametrize("augment", [None, FLIP, TURN, TURN_AND_FLIP], ids=["upright", "flip", "turn", "turn+flip"])
@pytest.mark.parametrize("row", [0, 3])
def test_the_image_shows_each_keypoint_where_its_target_says(persons, tmp_path, row, augment, input_config):
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

        target = COCO.flip_order[keypoint] if augment in (FLIP, TURN_AND_FLIP) else keypoint
        center = center_of_light(drawn.image.numpy())
        inside = center is not None and (center > 4).all() and (center < np.array(input_config.size_wh) - 5).all()
        if inside and drawn.weights[target]:
            peak, score = decode(drawn.heatmaps.numpy())
            assert score[target] == 1
            # The grid point is the nearest, so half a step of 4 pixels; half a pixel for the disc.
            assert np.abs(peak[target] * 4 - center).max() <= 2.5
            checked += 1
    assert checked > 4


@pytest.mark.parametrize("augment", [None, FLIP], ids=["upright", "flip"])
def test_on_the_grid_image_and_target_agree_to_a_twentieth_of_a_pixel(persons, tmp_path, augment):
    record = persons.record(0)
    in_image = np.array([70 - 20, 90 + 16])  # 5 and 4 heatmap pixels from the view's centre
    path = tmp_path / "disc.png"
    cv2.imwrite(str(path), disc_at(in_image, (200, 200)))
    view_wh = np.array([96, 128])  # as large as the input: the warp is a shift by whole pixels
    bbox_xywh = np.concatenate([np.array([70, 90]) - view_wh / 2.5, view_wh / 1.25])
    keypoints = np.tile(in_image, (17, 1)).astype(float)

    drawn = sample(replace(record, image_path=path, bbox_xywh=bbox_xywh, keypoints_image=keypoints), augment)

    expected = np.array([48 + 20 if augment else 48 - 20, 64 + 16])
    np.testing.assert_allclose(center_of_light(drawn.image.numpy()), expected, atol=0.05)
    np.testing.assert_array_equal(decode(drawn.heatmaps.numpy())[0] * 4, np.tile(expected, (17, 1)))


def disc_at(center, size_hw):
    image = np.zeros((*size_hw, 3), dtype=np.uint8)
    fraction = np.round(np.asarray(center) * 16).astype(int)
    cv2.circle(image, (int(fraction[0]), int(fraction[1])), 5 * 16, (0, 0, 255), cv2.FILLED, cv2.LINE_AA, shift=4)
    return image


def center_of_light(image_rgb):
    """(2,) x, y of the disc's centre, or None where it is not in the crop; it is red, and so in the first channel."""
    assert not image_rgb[..., 1:].any()
    light = image_rgb[..., 0].astype(float)
    if light.sum() < 255:
        return None
    rows, columns = np.indices(light.shape)
    return np.array([(light * columns).sum(), (light * rows).sum()]) / light.sum()


def test_a_sample_has_the_shapes_and_types_of_its_documentation(persons):
    image, heatmaps, weights, person_id = sample(persons.record(1))

    assert (image.shape, image.dtype) == ((128, 96, 3), torch.uint8)
    assert (heatmaps.shape, heatmaps.dtype) == ((17, 32, 24), torch.float32)
    assert (weights.shape, weights.dtype) == ((17,), torch.float32)
    assert (person_id.shape, person_id.item()) == ((), 12)


def test_hidden_and_visible_keypoints_weigh_the_same_and_unlabelled_ones_nothing(persons):
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


def test_a_preset_changes_the_pixels_of_a_sample_and_not_its_targets(persons):
    plain = TrainingSamples(persons, COCO, SMALL, STILL, 0)
    recoloured = TrainingSamples(persons, COCO, SMALL, STILL.model_copy(update={"photometric": "light"}), 0)

    assert any(not torch.equal(plain[(epoch, 0)].image, recoloured[(epoch, 0)].image) for epoch in range(4))
    for epoch in range(4):
        torch.testing.assert_close(plain[(epoch, 0)].heatmaps, recoloured[(epoch, 0)].heatmaps, rtol=0, atol=0)


def test_a_sample_without_augmentation_is_the_crop_that_testing_takes(persons):
    record = persons.record(2)

    image, matrix, area = person_crop(read_image(record.image_path), record.bbox_xywh, SMALL)

    np.testing.assert_array_equal(sample(record).image, image)
    np.testing.assert_array_equal(sample(record, STILL).image, image)
    w, h = record.bbox_xywh[2:]
    assert area == pytest.approx(max(w, h * 0.75) * max(h, w / 0.75) * 1.25**2)
    center = record.bbox_xywh[:2] + record.bbox_xywh[2:] / 2
    np.testing.assert_allclose(transform_points([[12, 16]], matrix), [center])  # the middle of the 24 x 32 grid


def test_a_test_crops_peaks_come_back_to_the_annotated_keypoints(persons):
    crops = samples.TestCrops(persons, FULL)
    assert len(crops) == len(persons)
    for row in range(len(crops)):
        crop, record = crops[row], persons.record(row)
        heatmaps, weights = (part.numpy() for part in sample(record, input_config=FULL)[1:3])
        image, _, area = person_crop(read_image(record.image_path), record.bbox_xywh, FULL)

        found = transform_points(decode(heatmaps)[0], crop.matrix)

        step = np.hypot(*crop.matrix[:, 0].numpy())  # image pixels a heatmap pixel
        labelled = weights > 0
        assert np.abs(found - record.keypoints_image)[labelled].max() <= 0.5 * step + 1e-3
        np.testing.assert_array_equal(crop.image, image)
        assert (crop.row.item(), crop.area.item()) == (row, pytest.approx(area))


def test_both_data_sets_travel_to_processes_that_are_started_afresh(persons):
    training = pickle.loads(pickle.dumps(TrainingSamples(persons, COCO, SMALL, STILL, 0)))
    testing = pickle.loads(pickle.dumps(samples.TestCrops(persons, SMALL)))

    assert torch.equal(training[(0, 1)].image, testing[1].image)


def test_a_missing_image_is_named(persons):
    record = persons.record(0)
    record.image_path.unlink()

    with pytest.raises(DataError, match=r"1\.png"):
        sample(record)


@pytest.fixture
def large_jpeg(persons, tmp_path):
    """The first person, eight times as large, in a JPEG: every training crop shrinks it."""
    record = persons.record(0)
    image = cv2.resize(read_image(record.image_path), None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC)
    noise = np.random.default_rng(0).integers(-40, 40, image.shape)
    cv2.imwrite(str(tmp_path / "large.jpg"), np.clip(image + noise, 0, 255).astype(np.uint8))
    return replace(record, image_path=tmp_path / "large.jpg", bbox_xywh=record.bbox_xywh * 8)


def test_training_decodes_a_large_person_no_larger_than_its_crop(large_jpeg):
    view = box_to_view(large_jpeg.bbox_xywh, SMALL.aspect_ratio, SMALL.padding)
    matrix = view_to_matrix(view, SMALL.size_wh)
    assert reduction_for(matrix) > 1

    np.testing.assert_array_equal(sample(large_jpeg).image, read_crop(large_jpeg.image_path, matrix, SMALL.size_wh))


def test_testing_decodes_every_image_whole(persons, large_jpeg):
    one = persons.take(np.array([0]))
    one = replace(
        one,
        image_folder=large_jpeg.image_path.parent,
        file_names=np.array(["large.jpg"]),
        bboxes_xywh=one.bboxes_xywh * 8,
    )

    image = samples.TestCrops(one, SMALL)[0].image

    matrix = view_to_matrix(box_to_view(large_jpeg.bbox_xywh, SMALL.aspect_ratio, SMALL.padding), SMALL.size_wh)
    np.testing.assert_array_equal(image, crop(read_image(large_jpeg.image_path), matrix, SMALL.size_wh))
    assert (image != sample(large_jpeg).image).any()
