"""Verification accepts equal models and refuses others; its crops differ from each other."""

import cv2
import numpy as np
import pytest
import torch

from pose.config.pose import InputConfig
from pose.errors import MediaError, PoseError
from pose.evaluation.oks import oks
from pose.export.verify import check_export, check_int8, check_predictor, image_crops, synthetic_crops
from pose.heatmap import decode

INPUT_CONFIG = InputConfig(size_hw=(96, 64))


def color_maps(crops_rgb):
    """Fake model: 5 linear mixtures of the color channels of (N, H, W, 3) crops."""
    mixtures = torch.from_numpy(np.random.default_rng(8).normal(size=(5, 3))).float()
    return torch.einsum("kc,bhwc->bkhw", mixtures, crops_rgb.float())[:, :, ::4, ::4]


def exported(decodes=True, **wrong):
    """Fake exported model: outputs computed from `color_maps`, those in ``wrong`` changed."""

    def run(crops_rgb):
        heatmaps = color_maps(torch.from_numpy(crops_rgb)).numpy()
        heatmaps = wrong.get("heatmaps", np.array)(heatmaps)
        keypoints_heatmap, scores = decode(heatmaps)
        decoded = {"keypoints": 4 * keypoints_heatmap, "scores": scores}
        changed = {name: wrong.get(name, np.array)(value) for name, value in decoded.items()}
        return {"heatmaps": heatmaps, **(changed if decodes else {})}

    return run


@pytest.fixture(scope="module")
def crops():
    return synthetic_crops(INPUT_CONFIG, 4)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda heatmaps: heatmaps * 1.01, "differ by 1.0e-02"),
        (lambda heatmaps: heatmaps.roll(1, dims=-1), "differ"),
        (lambda heatmaps: heatmaps * torch.nan, "differ by nan"),
        (lambda heatmaps: heatmaps[:, :-1], "expected heatmaps of shape"),
    ],
    ids=["scaled", "shifted", "nan", "fewer"],
)
def test_check_export_raises_a_runtime_error_for_wrong_heatmaps(crops, wrong, message):
    images = torch.from_numpy(crops)
    assert check_export(color_maps, color_maps, images) == 0

    with pytest.raises(RuntimeError, match=message):
        check_export(lambda x: wrong(color_maps(x)), color_maps, images)


@pytest.mark.parametrize("decodes", [True, False])
def test_check_predictor_accepts_rounding_and_returns_the_difference(crops, decodes):
    same = check_predictor(exported(decodes), color_maps, crops)
    near = check_predictor(exported(decodes, heatmaps=lambda maps: maps * np.float32(1.0001)), color_maps, crops)

    assert (same.heatmap, same.pixels) == (0, 0)
    assert near.heatmap == pytest.approx(1e-4, rel=0.01)


def test_parity_in_crop_pixels_may_be_large_where_two_peaks_are_equal():
    crop = np.zeros((1, 96, 64, 3), dtype=np.uint8)
    crop[0, 40, 20], crop[0, 40, 40] = 200, 200

    def red(crops_rgb):
        return crops_rgb[:, ::4, ::4, 0].float()[:, None]

    def lift_second(by):
        def run(crops_rgb):
            heatmaps = red(torch.from_numpy(crops_rgb)).numpy()
            heatmaps[0, 0, 10, 10] += by
            return {"heatmaps": heatmaps}

        return run

    assert check_predictor(lift_second(0.1), red, crop).pixels == 20
    with pytest.raises(RuntimeError, match=r"heatmaps differ by 1\.5e-03"):
        check_predictor(lift_second(0.3), red, crop)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"heatmaps": lambda maps: maps * 1.01}, "heatmaps differ"),
        ({"heatmaps": lambda maps: maps[::-1]}, "heatmaps differ"),
        ({"keypoints": lambda points: points + 1}, "keypoints differ by 1.0e"),
        ({"keypoints": lambda points: points[..., ::-1]}, "keypoints differ"),
        ({"keypoints": lambda points: points[:, :1]}, "expected keypoints of shape"),
        ({"scores": lambda scores: scores * 1.01}, "scores differ"),
        ({"scores": lambda scores: scores * np.nan}, "scores differ by nan"),
    ],
    ids=["scaled", "samples_mixed_up", "moved", "x_and_y", "fewer", "scores", "nan"],
)
def test_check_predictor_raises_a_runtime_error_for_wrong_outputs(crops, wrong, message):
    with pytest.raises(RuntimeError, match=message):
        check_predictor(exported(**wrong), color_maps, crops)


def agreement_of(ours, expected, score=1.0):
    """Agreement of an int8 model with a float model, from their keypoints (N, 2, 2) in heatmap pixels."""
    crops = np.zeros((len(expected), 96, 64, 3), dtype=np.uint8)
    crops[:, 0, 0, 0] = np.arange(len(expected))  # the fake models know a crop by its number

    def heatmaps(keypoints, batch, peak):
        maps = np.zeros((len(batch), 2, 24, 16), dtype=np.float32)
        for row, number in enumerate(np.asarray(batch)[:, 0, 0, 0]):
            for keypoint, (x, y) in enumerate(keypoints[number]):
                maps[row, keypoint, y, x] = np.broadcast_to(peak, (len(expected), 2))[number, keypoint]
        return maps

    return check_int8(
        lambda batch: {"heatmaps": heatmaps(ours, batch, 1.0)},
        lambda batch: torch.from_numpy(heatmaps(expected, batch, score)),
        crops,
        INPUT_CONFIG,
        [0.1, 0.05],
    )


def test_int8_agreement_is_the_mean_oks_and_the_recall_over_cocos_thresholds():
    expected = np.tile([[5, 6], [9, 12]], (20, 1, 1))  # more than a batch
    ours = expected.copy()
    ours[13, 0, 0] += 2  # one keypoint of one person, 8 crop pixels away
    area = 0.53 * 96 * 64 / 1.25**2
    one = oks(4 * expected[13], area, 4 * ours[13][None], [area], [0.1, 0.05])[0]
    assert 0.5 < one < 0.95

    agreement = agreement_of(ours, expected)

    assert agreement.persons == 20
    assert agreement.mean_oks == pytest.approx((19 + one) / 20)
    assert agreement.ap == pytest.approx((19 + np.mean(one > np.arange(0.5, 1, 0.05))) / 20)


def test_keypoints_that_the_float_model_does_not_see_do_not_count_for_the_agreement():
    expected = np.tile([[5, 6], [9, 12]], (3, 1, 1))
    ours = expected.copy()
    ours[:, 1] = 3
    scores = np.array([[0.9, 0.2], [0.9, 0.1], [0.1, 0.1]])

    agreement = agreement_of(ours, expected, scores)

    assert (agreement.persons, agreement.mean_oks, agreement.ap) == (2, pytest.approx(1), 1)
    with pytest.raises(PoseError, match=r"^--int8: the model sees no keypoint .* on any of 3 calibration crops"):
        agreement_of(ours, expected, 0.2)


def test_an_int8_model_with_other_keypoints_is_refused_with_one_line():
    expected = np.tile([[5, 6], [9, 12]], (4, 1, 1))

    with pytest.raises(PoseError, match=r"^--int8: .* AP 0\.00 .* expected at least 0\.\d+ .* --images") as caught:
        agreement_of(expected + 5, expected)
    assert "\n" not in str(caught.value)


def test_synthetic_crops_are_distinct_reproducible_and_of_the_input_size(crops):
    assert crops.shape == (4, 96, 64, 3)
    assert crops.dtype == np.uint8
    assert len({crop.tobytes() for crop in crops}) == 4
    np.testing.assert_array_equal(synthetic_crops(INPUT_CONFIG, 2), crops[:2])


def test_image_crops_are_whole_images_repeated_in_order(tmp_path):
    for index in range(2):
        cv2.imwrite(str(tmp_path / f"{index}.png"), np.full((60, 40, 3), 100 + index, np.uint8))

    crops = image_crops(tmp_path, INPUT_CONFIG, 3)

    assert crops[:, 48, 32, 0].tolist() == [100, 101, 100]
    (tmp_path / "empty").mkdir()
    with pytest.raises(MediaError, match="no images"):
        image_crops(tmp_path / "empty", INPUT_CONFIG, 3)
