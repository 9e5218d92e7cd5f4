"""Regions contain every random view: compared with sampled views, and with a search over all angles."""

from dataclasses import replace

import numpy as np
import pytest

from pose.config.pose import AugmentConfig, InputConfig
from pose.datasets.augment import half_body_view, random_view
from pose.datasets.coco import annotated_persons
from pose.datasets.crop_cache.regions import training_region
from pose.geometry import box_to_view, invert, transform_points, view_to_matrix
from pose.skeleton import COCO

SMALL = InputConfig(size_hw=(128, 96))
NO_HALF_BODY = {"half_body_probability": 0.0}
OPTIONS = {
    "defaults": {},
    "upright": {"rotation_probability": 0, **NO_HALF_BODY},
    "limit 20": {"rotation_limit_deg": 20, "scale_limits": (0.85, 1.2)},
    "limit 90": {"rotation_limit_deg": 90, "rotation_std_deg": 90},
    "limit 180": {"rotation_limit_deg": 180, "rotation_std_deg": 180, "scale_limits": (0.5, 2)},
    "all halves": {"half_body_probability": 1, "half_body_min_keypoints": 4},
}


@pytest.fixture
def records(tiny_coco):
    persons = annotated_persons(tiny_coco.annotations, tiny_coco.images, COCO)
    records = [persons.record(row) for row in range(len(persons))]
    large = [
        replace(record, bbox_xywh=record.bbox_xywh * 8, keypoints_image=record.keypoints_image * 8)
        for record in records
    ]
    return records + large


def view_corners(view, input_config=SMALL):
    """(4, 2) corners of a view's crop in image pixels."""
    width, height = input_config.size_wh
    corners = [[0, 0], [width - 1, 0], [0, height - 1], [width - 1, height - 1]]
    return transform_points(corners, invert(view_to_matrix(view, input_config.size_wh)))


def person_view(record):
    return box_to_view(record.bbox_xywh, SMALL.aspect_ratio, SMALL.padding)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_every_random_view_is_inside_the_region_with_a_margin_of_one_pixel(records, options):
    augment, rng = AugmentConfig(**options), np.random.default_rng(0)
    for record in records:
        region = training_region(record, COCO, SMALL, augment)
        for _ in range(200):
            view = random_view(person_view(record), record.keypoints_image, record.visibility, COCO, augment, rng)
            margin = max(1, view.scale[0] / SMALL.size_wh[0])  # one pixel, of the image or of a reduced image
            corners = view_corners(view)
            assert (corners.min(axis=0) - margin >= region.start).all()
            assert (corners.max(axis=0) + margin <= np.array(region.end) - 1).all()


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_a_region_is_no_larger_than_its_extreme_views_need(records, options):
    augment = AugmentConfig(**options)
    limit = augment.rotation_limit_deg if augment.rotation_probability else 0
    for record in records:
        views, labeled = [person_view(record)], np.flatnonzero(record.visibility)
        if augment.half_body_probability and len(labeled) > augment.half_body_min_keypoints:
            halves = [half_body_view(record.keypoints_image, labeled, COCO, upper, 0.75) for upper in (True, False)]
            views += [half for half in halves if half is not None]
        factor = max(augment.scale_limits)
        extreme = [
            replace(view, scale=(view.scale[0] * factor, view.scale[1] * factor), rotation_deg=angle, flip=flip)
            for view in views
            for angle in np.linspace(-limit, limit, 361)
            for flip in (False, True)
        ]
        corners = np.concatenate([view_corners(view) for view in extreme])
        widest = factor * max(view.scale[0] for view in views) / SMALL.size_wh[0]

        region = training_region(record, COCO, SMALL, augment)

        margins = np.stack([corners.min(axis=0) - region.start, np.array(region.end) - 1 - corners.max(axis=0)])
        assert margins.min() >= 1
        assert margins.max() <= 3 * max(1, widest) + 1


def test_the_closest_view_sets_the_resolution_of_a_region(records):
    record = records[5]  # the first of the enlarged records, with all keypoints
    width = person_view(record).scale[0]
    halves = [
        half_body_view(record.keypoints_image, np.arange(17), COCO, upper, SMALL.aspect_ratio).scale[0]
        for upper in (True, False)
    ]
    assert min(halves) < width

    full_body, half_body = (
        training_region(record, COCO, SMALL, AugmentConfig(**options)) for options in (NO_HALF_BODY, {})
    )

    assert full_body.pixels_per_input == pytest.approx(0.65 * width / 96)
    assert half_body.pixels_per_input == pytest.approx(0.65 * min(width, *halves) / 96)
    assert training_region(records[0], COCO, SMALL, AugmentConfig()).pixels_per_input == 1  # the crop is enlarged


def test_a_person_with_few_keypoints_has_no_half_body_view(records):
    record = records[1]
    assert np.count_nonzero(record.visibility) == 5

    assert training_region(record, COCO, SMALL, AugmentConfig()) == training_region(
        record, COCO, SMALL, AugmentConfig(**NO_HALF_BODY)
    )
