"""Mutation tests of the whole evaluation pipeline: each deliberate error must reduce AP.

An ideal model, which returns the training targets for every crop and mirrored crop, is evaluated end to end: crop,
heatmaps, flip average, decoding, rescoring, OKS-NMS, COCO evaluation. The data are the synthetic data set with
ground-truth boxes. Each test then breaks one step and requires a minimum loss of AP, at the paper's input size and at
quickstart's, where a heatmap pixel covers more of a person. The losses in the docstrings were measured on the
persons of 40 images; the required losses are about half of them.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from pose.config.loader import load_config
from pose.config.pose import STRIDE, AugmentConfig, Config
from pose.datasets import samples
from pose.datasets.coco import PersonRecord, Persons
from pose.datasets.samples import make_sample
from pose.datasets.synthetic.prepare import prepare_data
from pose.engine import evaluate
from pose.engine.distributed import DistContext
from pose.engine.evaluate import load_test_set, make_results, predict_persons, score_results
from pose.geometry import box_to_view, transform_points, view_to_matrix
from pose.heatmap import encode, flip_average
from pose.inference import pytorch
from pose.inference.pytorch import normalize
from pose.skeleton import COCO, Skeleton, make_skeleton

HeatmapsByCrop = dict[bytes, torch.Tensor]
"""Heatmaps (K, H, W) by the bytes of the normalized crop."""

NO_PAIRS = make_skeleton([name.replace("left", "port").replace("right", "starboard") for name in COCO.names])
"""COCO's keypoints without left-right pairs, so that a flip does not exchange them."""

UNFLIPPED = AugmentConfig(flip_probability=0, rotation_probability=0, scale_std=0, half_body_probability=0)
FLIPPED = UNFLIPPED.model_copy(update={"flip_probability": 1.0})


@pytest.fixture(scope="module")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("synthetic") / "data"


@pytest.fixture(scope="module", params=["256x192", "128x96"])
def config(request: pytest.FixtureRequest, data_root: Path) -> Config:
    size_hw = request.param.replace("x", ",")
    images = ["data.synthetic.train_images=1", "data.synthetic.val_images=40", "data.synthetic.image_wh=[320,240]"]
    view = [f"input.size_hw=[{size_hw}]", "input.padding=1.25", "input.sigma=2"]
    config = load_config("quickstart", [f"data.root={data_root}", *images, *view])
    prepare_data(config)
    return config


@pytest.fixture
def is_large(config: Config) -> bool:
    return config.input.size_hw == (256, 192)


@pytest.fixture(scope="module")
def test_set(config: Config) -> evaluate.TestSet:
    return load_test_set(config, ground_truth=True)


def targets(record: PersonRecord, config: Config, mirrored: bool) -> torch.Tensor:
    """Return the target heatmaps of a person's crop, or of its mirror image (column c becomes w - 1 - c)."""
    view = box_to_view(record.bbox_xywh, config.input.aspect_ratio, config.input.padding)
    keypoints_input = transform_points(record.keypoints_image, view_to_matrix(view, config.input.size_wh))
    visibility = record.visibility
    if mirrored:
        keypoints_input[:, 0] = config.input.size_wh[0] - 1 - keypoints_input[:, 0]
        keypoints_input, visibility = keypoints_input[COCO.flip_order], visibility[COCO.flip_order]
    return torch.from_numpy(encode(keypoints_input, visibility, config.input.heatmap_wh, STRIDE, config.input.sigma)[0])


def crop_key(normalized: torch.Tensor) -> bytes:
    return normalized.contiguous().numpy().tobytes()


def by_crop(
    persons: Persons, config: Config, make_heatmaps: Callable[[PersonRecord, bool], torch.Tensor]
) -> HeatmapsByCrop:
    """Return heatmaps for the crop of every person and for its mirror image."""
    crops = samples.TestCrops(persons, config.input)
    heatmaps = {}
    for row in range(len(persons)):
        crop = normalize(crops[row].image[None])[0]
        for mirrored in (False, True):
            heatmaps[crop_key(crop.flip(-1) if mirrored else crop)] = make_heatmaps(persons.record(row), mirrored)
    return heatmaps


@pytest.fixture(scope="module")
def target_heatmaps(config: Config, test_set: evaluate.TestSet) -> HeatmapsByCrop:
    return by_crop(test_set.persons, config, lambda record, mirrored: targets(record, config, mirrored))


def measure(heatmaps: HeatmapsByCrop, test_set: evaluate.TestSet, config: Config) -> float:
    """Return the AP of a model that returns these heatmaps."""
    dist = DistContext(0, 1, torch.device("cpu"))

    def heatmap_fn(images: torch.Tensor) -> torch.Tensor:
        return torch.stack([heatmaps[crop_key(image)] for image in images])

    predictions = predict_persons(heatmap_fn, test_set.persons, config, dist, workers=0)
    return score_results(make_results(predictions, test_set, config), test_set, config).AP


@pytest.fixture(scope="module")
def intact_ap(target_heatmaps: HeatmapsByCrop, test_set: evaluate.TestSet, config: Config) -> float:
    return measure(target_heatmaps, test_set, config)


def with_test(config: Config, **options: object) -> Config:
    return config.model_copy(update={"test": config.test.model_copy(update=options)})


def shift_heatmaps(monkeypatch: pytest.MonkeyPatch, columns: int, rows: int = 0) -> None:
    """Shift every heatmap by that many columns and rows."""
    predict_heatmaps = evaluate.predict_heatmaps
    monkeypatch.setattr(
        evaluate,
        "predict_heatmaps",
        lambda *model, **flip: predict_heatmaps(*model, **flip).roll((rows, columns), (-2, -1)),
    )


def test_the_intact_pipeline_reaches_the_expected_ap(intact_ap, is_large):
    """Measured 1.000 and .941."""
    assert intact_ap > (0.98 if is_large else 0.88)


def test_flip_average_does_not_reduce_ap(target_heatmaps, test_set, config, intact_ap):
    """Measured losses 0 and -.026 (a gain): averaging two offset grids reduces the quantization error."""
    assert measure(target_heatmaps, test_set, with_test(config, flip=False)) < intact_ap + 0.01


def test_flip_average_without_exchanged_pairs_reduces_ap(target_heatmaps, test_set, config, intact_ap, monkeypatch):
    """Measured losses .787 and .791."""
    predict_heatmaps = evaluate.predict_heatmaps
    monkeypatch.setattr(
        evaluate,
        "predict_heatmaps",
        lambda *model, flip_pairs, shift: predict_heatmaps(*model, flip_pairs=(), shift=shift),
    )

    assert measure(target_heatmaps, test_set, config) < intact_ap - 0.5


@pytest.mark.parametrize(("columns", "rows"), [(1, 0), (-1, 0), (0, 1), (0, -1)])
def test_heatmaps_shifted_by_one_column_or_row_reduce_ap(
    columns, rows, target_heatmaps, test_set, config, intact_ap, is_large, monkeypatch
):
    """Measured losses .140 to .186, and .424 to .523."""
    shift_heatmaps(monkeypatch, columns, rows)

    assert measure(target_heatmaps, test_set, config) < intact_ap - (0.08 if is_large else 0.25)


@pytest.mark.parametrize("shift", [0, 2])
def test_a_wrong_flip_shift_reduces_ap(shift, target_heatmaps, test_set, config, intact_ap, is_large):
    """Measured losses .034 (shift 0) and .002 (shift 2), and .177 and .113."""
    min_loss = 0.001 if is_large else 0.06

    assert measure(target_heatmaps, test_set, with_test(config, flip_shift=shift)) < intact_ap - min_loss


@pytest.mark.parametrize("pixels", [0.5, -0.5])
def test_keypoints_shifted_by_half_a_heatmap_pixel_reduce_ap(
    pixels, target_heatmaps, test_set, config, intact_ap, is_large, monkeypatch
):
    """Measured losses .035 and .002, and .192 and .110, along x."""
    decode = pytorch.decode

    def decode_shifted(heatmaps, *options):
        keypoints, scores = decode(heatmaps, *options)
        return np.add(keypoints, [pixels, 0]), scores

    monkeypatch.setattr(pytorch, "decode", decode_shifted)

    assert measure(target_heatmaps, test_set, config) < intact_ap - (0.001 if is_large else 0.06)


def test_exchanged_x_and_y_reduce_ap_to_zero(target_heatmaps, test_set, config, intact_ap, monkeypatch):
    """Measured: AP 0."""
    decode = pytorch.decode

    def decode_exchanged(heatmaps, *options):
        keypoints, scores = decode(heatmaps, *options)
        return keypoints[..., ::-1], scores

    monkeypatch.setattr(pytorch, "decode", decode_exchanged)

    assert intact_ap > 0.5
    assert measure(target_heatmaps, test_set, config) < 0.05


def learned_heatmaps(skeleton: Skeleton, test_set: evaluate.TestSet, config: Config) -> HeatmapsByCrop:
    """Return what a model learns that sees each person flipped half of the time: the mean of both targets."""

    def mean_target(record: PersonRecord, mirrored: bool) -> torch.Tensor:
        rng = np.random.default_rng(0)
        unflipped = make_sample(record, skeleton, config.input, UNFLIPPED, rng).heatmaps
        flipped = make_sample(record, skeleton, config.input, FLIPPED, rng).heatmaps
        return flip_average(unflipped, flipped, COCO.flip_pairs)

    return by_crop(test_set.persons, config, mean_target)


def test_training_targets_flipped_without_exchanged_pairs_reduce_ap(test_set, config, is_large):
    """Measured AP without flip average: .205 instead of 1.000, and .149 instead of .915."""
    config = with_test(config, flip=False)

    with_pairs = measure(learned_heatmaps(COCO, test_set, config), test_set, config)
    without_pairs = measure(learned_heatmaps(NO_PAIRS, test_set, config), test_set, config)

    assert with_pairs > (0.98 if is_large else 0.86)
    assert without_pairs < with_pairs - 0.5
