"""Random views: their distribution, the half-body rule of the protocol, and what the pixel presets may not do."""

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
HALF = {"half_body_probability": 1.0}
STILL = {"flip_probability": 0, "rotation_probability": 0, "scale_std": 0, "half_body_probability": 0}


def draw(count=1, visibility=ALL, seed=1, **options):
    rng = np.random.default_rng(seed)
    return [random_view(VIEW, KEYPOINTS, visibility, COCO, AugmentConfig(**options), rng) for _ in range(count)]


def labelled_only(*rows):
    visibility = np.zeros(17, dtype=np.uint8)
    visibility[list(rows)] = 1
    return visibility


def test_nothing_changes_when_every_probability_is_zero():
    assert draw(50, **STILL) == [VIEW] * 50


def test_the_same_generator_draws_the_same_views():
    assert draw(20) == draw(20)
    assert draw(20) != draw(20, seed=2)


def test_defaults_have_the_protocols_distribution():
    views = draw(6000, half_body_probability=0)
    factors = np.array([view.scale[1] / VIEW.scale[1] for view in views])
    angles = np.array([view.rotation_deg for view in views])
    turned = angles[angles != 0]
    beyond_one_std = NormalDist().cdf(-1)

    # Four standard deviations of a share over 6000 draws are at most 0.026.
    assert np.mean([view.flip for view in views]) == pytest.approx(0.5, abs=0.026)
    assert len(turned) / 6000 == pytest.approx(0.6, abs=0.026)
    assert (angles.min(), angles.max()) == (-45, 45)
    assert np.mean(abs(turned) == 45) == pytest.approx(2 * beyond_one_std, abs=0.035)
    assert turned.mean() == pytest.approx(0, abs=2.5)
    assert (factors.min(), factors.max()) == pytest.approx((0.65, 1.35))
    assert np.mean(np.isclose(factors, 0.65)) == pytest.approx(beyond_one_std, abs=0.026)
    assert np.mean(np.isclose(factors, 1.35)) == pytest.approx(beyond_one_std, abs=0.026)
    assert factors.mean() == pytest.approx(1, abs=0.015)
    for bound in (0.8, 0.9, 1.1, 1.2):
        assert np.mean(factors < bound) == pytest.approx(NormalDist(1, 0.35).cdf(bound), abs=0.026)
    for bound in (-30, -10, 10, 30):
        assert np.mean(turned < bound) == pytest.approx(NormalDist(0, 45).cdf(bound), abs=0.035)


def test_scale_and_limits_follow_the_options():
    views = draw(
        500, **{**STILL, "rotation_probability": 1}, rotation_std_deg=100, rotation_limit_deg=20, scale_limits=(2, 3)
    )

    assert {view.scale for view in views} == {(180, 240)}
    assert {view.center for view in views} == {VIEW.center}
    assert max(abs(view.rotation_deg) for view in views) == 20


def test_width_and_height_are_scaled_alike():
    for view in draw(50):
        assert view.scale[0] / view.scale[1] == pytest.approx(VIEW.scale[0] / VIEW.scale[1])


def test_half_bodies_are_drawn_with_their_probability_and_their_share_of_upper_ones():
    upper, lower = KEYPOINTS[UPPER].mean(axis=0), KEYPOINTS[LOWER].mean(axis=0)
    centers = np.array([view.center for view in draw(6000, **{**STILL, "half_body_probability": 0.3})])
    is_upper, is_lower = (np.isclose(centers, mean).all(axis=1) for mean in (upper, lower))

    assert (is_upper | is_lower | (centers == VIEW.center).all(axis=1)).all()
    assert np.mean(is_upper | is_lower) == pytest.approx(0.3, abs=0.024)
    assert is_upper.sum() / (is_upper | is_lower).sum() == pytest.approx(0.69, abs=0.044)


@pytest.mark.parametrize(("count", "halved"), [(8, False), (9, True)])
def test_only_persons_with_more_than_eight_labelled_keypoints_are_halved(count, halved):
    visibility = labelled_only(*range(count))

    assert (draw(visibility=visibility, **{**STILL, **HALF})[0].center != VIEW.center) == halved


@pytest.mark.parametrize(
    ("upper", "lower", "prefer_upper", "chosen"),
    [
        (3, 6, True, "upper"),
        (2, 6, True, "lower"),  # two joints are too few to be preferred
        (2, 3, True, "lower"),
        (2, 2, True, "upper"),  # the upper body stands in for a lower one that is too small
        (1, 2, True, None),
        (11, 3, False, "lower"),
        (11, 2, False, "upper"),
        (2, 0, False, "upper"),
        (1, 0, False, None),
        (0, 3, True, "lower"),
    ],
)
def test_the_preferred_half_needs_three_joints_and_the_other_stands_in(upper, lower, prefer_upper, chosen):
    rows = {"upper": UPPER[:upper], "lower": LOWER[:lower]}
    labelled = np.array([*rows["upper"], *rows["lower"]])

    view = half_body_view(KEYPOINTS, labelled, COCO, prefer_upper, 0.75)

    if chosen is None:
        assert view is None
    else:
        assert view is not None
        assert view.center == pytest.approx(tuple(KEYPOINTS[rows[chosen]].mean(axis=0)))


@pytest.mark.parametrize(("far", "scale"), [((80, 20), (120, 160)), ((20, 90), (101.25, 135))])
def test_a_half_bodys_box_is_grown_to_the_aspect_ratio_and_by_one_and_a_half(far, scale):
    keypoints = np.zeros((17, 2))
    keypoints[:3] = [[0, 0], far, [10, 10]]

    view = half_body_view(keypoints, np.arange(3), COCO, True, 0.75)

    assert view.scale == pytest.approx(scale)
    assert view.center == pytest.approx(tuple(keypoints[:3].mean(axis=0)))


def test_joints_at_one_point_make_no_half_body():
    assert half_body_view(np.ones((17, 2)), np.arange(17), COCO, True, 0.75) is None
    same = random_view(VIEW, np.ones((17, 2)), ALL, COCO, AugmentConfig(**{**STILL, **HALF}), RNG)
    assert same == VIEW


@pytest.fixture(scope="module", params=["light", "strong"])
def color_augment(request):
    return photometric(request.param)


@pytest.fixture(scope="module")
def texture():
    noise = np.random.default_rng(5).integers(0, 256, (128, 96, 3), dtype=np.uint8)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2), None, 0, 255, cv2.NORM_MINMAX)


def test_a_preset_changes_pixels_and_not_the_input(color_augment, texture):
    before = texture.copy()

    after = color_augment(texture, np.random.default_rng(0))

    assert (after.shape, after.dtype) == (texture.shape, np.uint8)
    np.testing.assert_array_equal(texture, before)
    assert any((color_augment(texture, np.random.default_rng(seed)) != texture).any() for seed in range(5))


def test_a_preset_is_a_function_of_the_generator(color_augment, texture):
    drawn = [color_augment(texture, np.random.default_rng(seed)) for seed in range(12)]
    again = [color_augment(texture, np.random.default_rng(seed)) for seed in reversed(range(12))][::-1]

    np.testing.assert_array_equal(drawn, again)
    assert len({image.tobytes() for image in drawn}) > 6


def test_a_preset_never_moves_geometry(color_augment, texture):
    presets = [color_augment(texture, np.random.default_rng(seed)) for seed in range(40)]

    assert sum(quarters_in_place(texture, image) >= 2 for image in presets) > 35  # a patch may cover a quarter or two
    for moved in (
        texture[:, ::-1],
        texture[::-1],
        np.roll(texture, 1, axis=1),
        cv2.resize(texture[4:-4, 3:-3], (96, 128)),
    ):
        assert quarters_in_place(texture, moved) < 2, "the test would not see this motion"


def quarters_in_place(image, other):
    """Count the quarters of an image that are where they were; the phase of the spectrum shows shifts."""

    def quarters(rgb):
        gray = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2GRAY).astype(np.float32)
        return [part for rows in np.split(gray, 2) for part in np.split(rows, 2, axis=1)]

    window = cv2.createHanningWindow((48, 64), cv2.CV_32F)
    shifts = [cv2.phaseCorrelate(a, b, window)[0] for a, b in zip(quarters(image), quarters(other), strict=True)]
    return int((np.abs(shifts).max(axis=1) < 0.2).sum())


def test_albumentations_is_only_imported_where_a_preset_is_asked_for():
    code = "import sys, pose.datasets.samples, pose.inference.pytorch; print('albumentations' in sys.modules)"

    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert output.strip() == "False"
