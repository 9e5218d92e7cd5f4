"""Parity with the public reference code (SimpleBaseline / HRNet); README.md here says where the numbers come from."""

from pathlib import Path

import numpy as np
import pytest

from pose.evaluation.oks import oks, oks_nms, rescore
from pose.geometry import View, box_to_view, invert, transform_points, view_to_matrix
from pose.heatmap import decode, encode
from pose.inference import flip_average
from pose.skeleton import COCO

SMALL = Path(__file__).parent / "reference_values_small.npz"
FULL = Path(__file__).resolve().parents[2] / "../shared/golden/reference_values.npz"
PIXELS = 1e-3

Golden = dict[str, np.ndarray]


@pytest.fixture(scope="module", params=["small", "full"])
def golden(request: pytest.FixtureRequest) -> Golden:
    if request.param == "small":
        return dict(np.load(SMALL))
    if not FULL.exists():
        pytest.skip("needs ../shared/golden/reference_values.npz")
    arrays = dict(np.load(FULL))
    count, keypoints = arrays["heatmaps"].shape[:2]
    for name in ("heatmaps", "decoded", "maxvals"):
        arrays[name] = arrays[name].reshape(count * keypoints, *arrays[name].shape[2:])
    return {**arrays, "heatmap_views": np.repeat(np.arange(count), keypoints)}


@pytest.fixture(scope="module")
def views(golden: Golden) -> list[View]:
    return [box_to_view(bbox, 192 / 256) for bbox in golden["boxes"]]


def test_views_of_boxes_equal_the_reference(golden: Golden, views: list[View]) -> None:
    np.testing.assert_allclose([view.center for view in views], golden["centers"], atol=PIXELS, rtol=0)
    np.testing.assert_allclose([view.scale for view in views], golden["scales_200"] * 200, atol=PIXELS, rtol=0)


def test_matrices_of_rotated_views_equal_the_reference(golden: Golden, views: list[View]) -> None:
    rotated = [View(v.center, v.scale, rotation_deg) for v, rotation_deg in zip(views, golden["rots"], strict=True)]
    image_to_input = np.stack([view_to_matrix(view, (192, 256)) for view in rotated])

    assert (golden["rots"] != 0).any()
    np.testing.assert_allclose(
        transform_points(box_corners(golden), image_to_input),
        transform_points(box_corners(golden), golden["affine_192x256"]),
        atol=PIXELS,
        rtol=0,
    )


def test_heatmap_to_image_matrices_equal_the_reference(golden: Golden, views: list[View]) -> None:
    grid_corners = np.array([[0, 0], [47, 0], [0, 63], [47, 63]], dtype=np.float64)
    heatmap_to_image = invert(np.stack([view_to_matrix(view, (48, 64)) for view in views]))

    np.testing.assert_allclose(
        transform_points(grid_corners, heatmap_to_image),
        transform_points(grid_corners, golden["affine_inv_48x64"]),
        atol=PIXELS,
        rtol=0,
    )


def box_corners(golden: Golden) -> np.ndarray:
    """(N, 4, 2) corners of the boxes in image pixels."""
    x, y, w, h = golden["boxes"].T
    return np.stack([np.stack([x, x + w, x, x + w], axis=1), np.stack([y, y, y + h, y + h], axis=1)], axis=-1)


def test_target_heatmaps_equal_the_reference(golden: Golden) -> None:
    for joints, visible, targets, sums, weights in zip(
        *(golden[name] for name in ("joints", "vis", "targets", "targets_sum", "target_weights")), strict=True
    ):
        ours, our_weights = encode(joints, visible, (48, 64), stride=4, sigma=2)

        np.testing.assert_array_equal(our_weights, weights[:, 0])
        np.testing.assert_allclose(ours, targets.astype(np.float32), atol=5e-4, rtol=0)  # stored as float16
        np.testing.assert_allclose(ours.sum(axis=(1, 2)), sums, atol=1e-4, rtol=0)


def test_decoded_keypoints_equal_the_reference(golden: Golden, views: list[View]) -> None:
    keypoints_heatmap, scores = decode(golden["heatmaps"])
    heatmap_to_image = invert(np.stack([view_to_matrix(views[index], (48, 64)) for index in golden["heatmap_views"]]))

    keypoints_image = transform_points(keypoints_heatmap[:, None], heatmap_to_image)[:, 0]

    assert (golden["maxvals"] <= 0).any()
    np.testing.assert_allclose(keypoints_image, golden["decoded"], atol=PIXELS, rtol=0)
    np.testing.assert_array_equal(scores, golden["maxvals"][:, 0])


@pytest.mark.parametrize(("shift", "expected"), [(0, "flip_back"), (1, "flip_back_shifted")])
def test_flipped_heatmaps_are_flipped_back_as_in_the_reference(golden: Golden, shift: int, expected: str) -> None:
    flipped = golden["flip_in"]

    half = flip_average(np.zeros_like(flipped), flipped, COCO.flip_pairs, shift)

    np.testing.assert_array_equal(half * 2, golden[expected])


def test_person_scores_equal_the_reference(golden: Golden) -> None:
    ours = rescore(golden["nms_box_score"], golden["nms_keypoints"][..., 2], 0.2)

    np.testing.assert_allclose(ours, golden["rescored"], atol=1e-12)


def test_oks_equals_the_reference(golden: Golden) -> None:
    people, areas = golden["nms_keypoints"], golden["nms_area"]

    np.testing.assert_allclose(oks(people[0], areas[0], people, areas, COCO.sigmas), golden["oks_row0"], atol=1e-12)


def test_oks_nms_keeps_the_same_persons_as_the_reference(golden: Golden) -> None:
    kept = oks_nms(golden["nms_keypoints"], golden["nms_area"], golden["rescored"], 0.9, COCO.sigmas)

    np.testing.assert_array_equal(kept, golden["nms_keep"])
    assert len(kept) < len(golden["nms_keypoints"])
