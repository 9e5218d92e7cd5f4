"""Random views: distribution and half-body rule of the protocol. Color augmentation: changes pixels, not geometry."""

import subprocess
import sys
from statistics import NormalDist

import cv2
import numpy as np
import pytest

from pose.config.pose import AugmentConfig
from pose.datasets.augment import half_body_view, photometric, random_view
from pose.geometry import View
from pose.skeleton import COCO

VIEW = View((50, 60), (90, 120))
RNG = np.random.default_rng(0)
KEYPOINTS = RNG.uniform(0, 100, (17, 2))
ALL = np.full(17, 2, dtype=np.uint8)
UPPER, LOWER = range(11), range(11, 17)
ALWAYS_HALF = {"half_body_probability": 1.0}
NO_VARIATION = {"flip_probability": 0, "rotation_probability": 0, "scale_std": 0, "half_body_probability": 0}


def sample_views(count=1, visibility=ALL, seed=1, **options):
    rng = np.random.default_rng(seed)
    return [random_view(VIEW, KEYPOINTS, visibility, COCO, AugmentConfig(**options), rng) for _ in range(count)]


def labeled_only(*rows):
    visibility = np.zeros(17, dtype=np.uint8)
    visibility[list(rows)] = 1
    return visibility


def test_nothing_changes_when_every_probability_is_zero():
    assert sample_views(50, **NO_VARIATION) == [VIEW] * 50


def test_the_same_generator_draws_the_same_views():
    assert sample_views(20) == sample_views(20)
    assert sample_views(20) != sample_views(20, seed=2)


def test_default_augmentation_has_the_distribution_of_the_protocol():
    views = sample_views(6000, half_body_probability=0)
    factors = np.array([view.scale[1] / VIEW.scale[1] for view in views])
    angles = np.array([view.rotation_deg for view in views])
    rotated = angles[angles != 0]
    beyond_one_std = NormalDist().cdf(-1)

    # Four standard deviations of a fraction of 6000 samples are at most 0.026.
    assert np.mean([view.flip for view in views]) == pytest.approx(0.5, abs=0.026)
    assert len(rotated) / 6000 == pytest.approx(0.6, abs=0.026)
    assert (angles.min(), angles.max()) == (-45, 45)
    assert np.mean(abs(rotated) == 45) == pytest.approx(2 * beyond_one_std, abs=0.035)
    assert rotated.mean() == pytest.approx(0, abs=2.5)
    assert (factors.min(), factors.max()) == pytest.approx((0.65, 1.35))
    assert np.mean(np.isclose(factors, 0.65)) == pytest.approx(beyond_one_std, abs=0.026)
    assert np.mean(np.isclose(factors, 1.35)) == pytest.approx(beyond_one_std, abs=0.026)
    assert factors.mean() == pytest.approx(1, abs=0.015)
    for bound in (0.8, 0.9, 1.1, 1.2):
        assert np.mean(factors < bound) == pytest.approx(NormalDist(1, 0.35).cdf(bound), abs=0.026)
    for bound in (-30, -10, 10, 30):
        assert np.mean(rotated < bound) == pytest.approx(NormalDist(0, 45).cdf(bound), abs=0.035)


def test_scale_and_limits_follow_the_options():
    views = sample_views(
        500,
        **{**NO_VARIATION, "rotation_probability": 1},
        rotation_std_deg=100,
        rotation_limit_deg=20,
        scale_limits=(2, 3),
    )

    assert {view.scale for view in views} == {(180, 240)}
    assert {view.center for view in views} == {VIEW.center}
    assert max(abs(view.rotation_deg) for view in views) == 20


def test_width_and_height_are_scaled_by_the_same_factor():
    for view in sample_views(50):
        assert view.scale[0] / view.scale[1] == pytest.approx(VIEW.scale[0] / VIEW.scale[1])


def test_half_body_and_upper_body_are_drawn_with_the_configured_probabilities():
    upper, lower = KEYPOINTS[UPPER].mean(axis=0), KEYPOINTS[LOWER].mean(axis=0)
    centers = np.array([view.center for view in sample_views(6000, **{**NO_VARIATION, "half_body_probability": 0.3})])
    is_upper, is_lower = (np.isclose(centers, mean).all(axis=1) for mean in (upper, lower))

    assert (is_upper | is_lower | (centers == VIEW.center).all(axis=1)).all()
    assert np.mean(is_upper | is_lower) == pytest.approx(0.3, abs=0.024)
    assert is_upper.sum() / (is_upper | is_lower).sum() == pytest.approx(0.69, abs=0.044)


@pytest.mark.parametrize(("count", "halved"), [(8, False), (9, True)])
def test_only_persons_with_more_than_eight_labeled_keypoints_get_a_half_body_view(count, halved):
    visibility = labeled_only(*range(count))

    assert (sample_views(visibility=visibility, **{**NO_VARIATION, **ALWAYS_HALF})[0].center != VIEW.center) == halved


@pytest.mark.parametrize(
    ("upper", "lower", "prefer_upper", "chosen"),
    [
        (3, 6, True, "upper"),
        (2, 6, True, "lower"),  # two keypoints are too few for the preferred group
        (2, 3, True, "lower"),
        (2, 2, True, "upper"),  # both groups are too small: the upper body is used
        (1, 2, True, None),
        (11, 3, False, "lower"),
        (11, 2, False, "upper"),
        (2, 0, False, "upper"),
        (1, 0, False, None),
        (0, 3, True, "lower"),
    ],
)
def test_a_preferred_half_with_fewer_than_three_keypoints_is_replaced_by_the_other(upper, lower, prefer_upper, chosen):
    rows = {"upper": UPPER[:upper], "lower": LOWER[:lower]}
    labeled = np.array([*rows["upper"], *rows["lower"]])

    view = half_body_view(KEYPOINTS, labeled, COCO, prefer_upper, 0.75)

    if chosen is None:
        assert view is None
    else:
        assert view is not None
        assert view.center == pytest.approx(tuple(KEYPOINTS[rows[chosen]].mean(axis=0)))


@pytest.mark.parametrize(("far", "scale"), [((80, 20), (120, 160)), ((20, 90), (101.25, 135))])
def test_a_half_body_box_is_extended_to_the_aspect_ratio_and_padded_by_one_and_a_half(far, scale):
    keypoints = np.zeros((17, 2))
    keypoints[:3] = [[0, 0], far, [10, 10]]

    view = half_body_view(keypoints, np.arange(3), COCO, True, 0.75)

    assert view.scale == pytest.approx(scale)
    assert view.center == pytest.approx(tuple(keypoints[:3].mean(axis=0)))


def test_keypoints_at_one_point_give_no_half_body_view():
    assert half_body_view(np.ones((17, 2)), np.arange(17), COCO, True, 0.75) is None
    same = random_view(VIEW, np.ones((17, 2)), ALL, COCO, AugmentConfig(**{**NO_VARIATION, **ALWAYS_HALF}), RNG)
    assert same == VIEW


@pytest.fixture(scope="module", params=["light", "strong"])
def color_augment(request):
    return photometric(request.param)


@pytest.fixture(scope="module")
def texture():
    noise = np.random.default_rng(5).integers(0, 256, (128, 96, 3), dtype=np.uint8)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2), None, 0, 255, cv2.NORM_MINMAX)


def test_color_augmentation_returns_changed_pixels_and_keeps_its_input(color_augment, texture):
    before = texture.copy()

    after = color_augment(texture, np.random.default_rng(0))

    assert (after.shape, after.dtype) == (texture.shape, np.uint8)
    np.testing.assert_array_equal(texture, before)
    assert any((color_augment(texture, np.random.default_rng(seed)) != texture).any() for seed in range(5))


def test_color_augmentation_is_a_function_of_the_generator(color_augment, texture):
    drawn = [color_augment(texture, np.random.default_rng(seed)) for seed in range(12)]
    again = [color_augment(texture, np.random.default_rng(seed)) for seed in reversed(range(12))][::-1]

    np.testing.assert_array_equal(drawn, again)
    assert len({image.tobytes() for image in drawn}) > 6


def test_color_augmentation_does_not_move_pixels(color_augment, texture):
    augmented = [color_augment(texture, np.random.default_rng(seed)) for seed in range(40)]

    assert sum(quarters_in_place(texture, image) >= 2 for image in augmented) > 35  # patches may cover up to two
    for moved in (
        texture[:, ::-1],
        texture[::-1],
        np.roll(texture, 1, axis=1),
        cv2.resize(texture[4:-4, 3:-3], (96, 128)),
    ):
        assert quarters_in_place(texture, moved) < 2, "the test would not detect this motion"


def quarters_in_place(image, other):
    """Count the quarters of an image that have not moved, by phase correlation."""

    def quarters(rgb):
        gray = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2GRAY).astype(np.float32)
        return [part for rows in np.split(gray, 2) for part in np.split(rows, 2, axis=1)]

    window = cv2.createHanningWindow((48, 64), cv2.CV_32F)
    shifts = [cv2.phaseCorrelate(a, b, window)[0] for a, b in zip(quarters(image), quarters(other), strict=True)]
    return int((np.abs(shifts).max(axis=1) < 0.2).sum())


def test_albumentations_is_imported_only_for_color_augmentation():
    code = "import sys, pose.datasets.samples, pose.inference.pytorch; print('albumentations' in sys.modules)"

    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert output.strip() == "False"
