"""Attention ablation: the modes on a small classifier, AP on the synthetic data set."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pose.datasets.imagenet import class_folders as class_folders_of
from pose.datasets.imagenet import load_images
from pose.engine.attention_ablation import (
    AS_TRAINED,
    first_persons,
    format_layers,
    format_metrics,
    measure_modes,
    pose_measure,
    require_dynamic,
    shuffled_images,
)
from pose.engine.distributed import DistContext
from pose.engine.evaluate import load_test_set, make_results, predict_persons, score_results
from pose.errors import CheckpointError, ConfigError, DataError
from pose.models import build_pose_net
from pose.models.attention_probe import AttentionRecord, LayerAttention, attention_modes, average, changed_attention
from pose.models.dynamic_conv import DynamicConv2d
from pose.models.kernel_attention import set_temperature


@pytest.fixture
def classifier():
    """Two dynamic layers and global average pooling."""
    model = nn.Sequential(
        DynamicConv2d(3, 8, 3, stride=2, padding=1, bias=False),
        nn.ReLU(),
        DynamicConv2d(8, 4, 3, stride=2, padding=1, bias=False),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    set_temperature(model, 1.0)
    return model.eval().requires_grad_(False)


@pytest.fixture
def measure(classifier):
    """Mean outputs for two batches."""
    batches = torch.randn(2, 4, 3, 8, 8)
    return lambda: {"first": float(classifier(batches[0])[:, 0].mean()), "last": float(classifier(batches[1]).mean())}


def test_measure_modes_measures_the_unchanged_model_and_every_mode(classifier, measure):
    unchanged = measure()

    metrics, layers = measure_modes(classifier, measure, seed=5)

    assert [(layer.name, layer.stride, len(layer.weights)) for layer in layers] == [("0", 1, 8), ("2", 2, 8)]
    assert list(metrics) == [AS_TRAINED, *attention_modes(layers, torch.Generator())]
    assert metrics[AS_TRAINED] == unchanged == measure()
    for mode, changes in attention_modes(layers, torch.Generator().manual_seed(5)).items():
        with changed_attention(classifier, changes):
            assert metrics[mode] == measure(), mode
        assert metrics[mode] != unchanged


def test_measure_modes_records_the_attention_of_the_unchanged_model(classifier, measure):
    with AttentionRecord(classifier) as record:
        measure()

    _, layers = measure_modes(classifier, measure, seed=0)

    for layer, expected in zip(layers, record.layers(), strict=True):
        assert torch.equal(layer.weights, expected.weights)


def test_only_shuffling_within_each_image_depends_on_the_seed(classifier, measure):
    one, _ = measure_modes(classifier, measure, seed=1)
    same, _ = measure_modes(classifier, measure, seed=1)
    other, _ = measure_modes(classifier, measure, seed=2)

    assert one == same
    assert [mode for mode in one if one[mode] != other[mode]] == ["shuffled within each image"]


def test_format_metrics_writes_a_table_in_percent():
    table = format_metrics({AS_TRAINED: {"AP": 0.33821, "AP50": 1.0}, "averaged": {"AP": 0.0, "AP50": 0.05}})

    assert table.split("\n") == [
        "attention       AP    AP50",
        "as trained    33.8   100.0",
        "averaged       0.0     5.0",
    ]


def test_format_layers_counts_the_layers_with_one_kernel_for_all_inputs():
    weights = {
        "collapsed": [[0.99, 0.01], [0.99, 0.01]],  # 1.06 kernels, entropy .08
        "one each": [[1, 0], [0, 1]],  # 2 kernels, entropy 0, variation 1
        "flat": [[0.5, 0.5], [0.5, 0.5]],  # 2 kernels, entropy 1
    }

    line = format_layers(
        [LayerAttention(name, "1x1", 4, torch.tensor(rows, dtype=torch.float64)) for name, rows in weights.items()]
    )

    assert line == (
        "3 dynamic layers, 1 use one kernel for all inputs; effective kernels 1.69 and entropy 0.36 in the mean, "
        "variation between inputs 0.000 in the median"
    )


def test_a_static_model_is_refused_in_one_line(tiny_config, classifier):
    model = build_pose_net(tiny_config("model.dynamic_backbone=false", "model.dynamic_head=false"))

    with pytest.raises(CheckpointError, match=r"^runs/best\.pt: expected a dynamic model, got a static one") as caught:
        require_dynamic(model, Path("runs/best.pt"))
    assert "\n" not in str(caught.value)
    require_dynamic(classifier, Path("runs/best.pt"))


def test_a_model_with_one_kernel_per_layer_is_static(tiny_config):
    with pytest.raises(CheckpointError):
        require_dynamic(build_pose_net(tiny_config("model.num_kernels=1")), Path("best.pt"))


# --- limits


@pytest.fixture
def test_set(tiny_config):
    return load_test_set(tiny_config(), ground_truth=True)


def count_persons(test_set):
    """Number of persons by image id, ascending."""
    image_ids, numbers = np.unique(test_set.persons.image_ids, return_counts=True)
    return dict(zip(image_ids.tolist(), numbers.tolist(), strict=True))


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 6, 1000])
def test_first_persons_keeps_all_persons_of_the_first_images_up_to_the_limit(limit, test_set):
    counts, limited = count_persons(test_set), count_persons(first_persons(test_set, limit))

    first_images = list(counts)[: len(limited)]
    assert limited == {image_id: counts[image_id] for image_id in first_images}
    assert sum(limited.values()) <= limit or len(limited) == 1
    if len(limited) < len(counts):
        assert sum(limited.values()) + counts[list(counts)[len(limited)]] > limit


def test_first_persons_states_the_number_of_images(test_set):
    assert first_persons(test_set, 1).boxes == "ground-truth boxes of the first 1 images"


@pytest.mark.parametrize("limit", [0, -3])
def test_a_limit_below_one_is_refused(limit, test_set):
    with pytest.raises(ConfigError, match="--limit"):
        first_persons(test_set, limit)


# --- AP


@pytest.fixture
def model(tiny_config):
    model = build_pose_net(tiny_config()).eval()
    nn.init.normal_(model.head[-1].weight)
    return model


def test_pose_measure_equals_the_usual_evaluation(tiny_config, model, test_set, dist):
    config = tiny_config()
    predictions = predict_persons(model.heatmaps, test_set.persons, config, dist, 0)
    metrics = score_results(make_results(predictions, test_set, config), test_set, config)

    assert pose_measure(model, test_set, config, dist, limited=False)() == {"AP": metrics.AP, "AP50": metrics.AP50}


def test_limited_pose_measure_evaluates_only_the_images_of_these_persons(tiny_config, test_set, dist, monkeypatch):
    config = tiny_config("test.nms_threshold=1")
    limited = first_persons(test_set, 4)

    def predict_ground_truth(heatmap_fn, persons, *_):
        predicted = predict_persons(lambda images: torch.zeros(len(images), 17, 16, 16), persons, config, dist, 0)
        return replace(predicted, keypoints_image=persons.keypoints_image, keypoint_scores=persons.visibility + 1.0)

    monkeypatch.setattr("pose.engine.attention_ablation.predict_persons", predict_ground_truth)
    model = build_pose_net(config)

    assert 0 < len(limited.persons) < len(test_set.persons)
    assert pose_measure(model, limited, config, dist, limited=True)()["AP"] == pytest.approx(1)
    assert pose_measure(model, limited, config, dist, limited=False)()["AP"] < 0.99


def test_averaged_attention_equals_a_static_model_with_the_mean_kernels(tiny_config, model):
    static = build_pose_net(tiny_config("model.dynamic_backbone=false", "model.dynamic_head=false")).eval()
    state = model.state_dict()
    static.load_state_dict(
        {
            name: state[name].mean(0) if state[name].shape != value.shape else state[name]
            for name, value in static.state_dict().items()
        }
    )
    images = torch.randn(3, 3, 64, 64)

    with torch.no_grad(), AttentionRecord(model) as record:
        model(images)
    with torch.no_grad(), changed_attention(model, {layer.name: average for layer in record.layers()}):
        changed = model.heatmaps(images)

    torch.testing.assert_close(changed, static.heatmaps(images).detach(), rtol=1e-3, atol=1e-4)


def test_a_batch_size_of_one_is_refused(tiny_config, model, test_set, dist):
    with pytest.raises(ConfigError, match=r"test\.batch_size"):
        pose_measure(model, test_set, tiny_config("test.batch_size=1"), dist, limited=False)


def test_several_processes_are_refused(tiny_config, model, test_set):
    with pytest.raises(ConfigError, match="torchrun"):
        pose_measure(model, test_set, tiny_config(), DistContext(0, 2, torch.device("cpu")), limited=False)


def test_a_test_set_without_persons_or_annotations_is_refused(tiny_config, model, test_set, dist):
    empty = replace(test_set, persons=test_set.persons.take(np.arange(0)))
    for unusable, message in ((empty, "no persons"), (replace(test_set, annotated=False), "no annotations")):
        with pytest.raises(DataError, match=message):
            pose_measure(model, unusable, tiny_config(), dist, limited=False)


def test_shuffled_images_mixes_the_classes(class_folders):
    images = load_images(class_folders / "train", class_folders_of(class_folders / "train"))

    shuffled = shuffled_images(images, None, seed=1)

    assert sorted(shuffled.names) == sorted(images.names)
    assert (np.diff(images.labels) >= 0).all()
    assert (np.diff(shuffled.labels) < 0).sum() > 1
    assert {shuffled.path(row).parent.name for row in range(12)} == set(images.classes)
    assert all(shuffled.path(row).parent.name == shuffled.classes[shuffled.labels[row]] for row in range(12))
    assert (shuffled_images(images, 5, seed=1).names == shuffled.names[:5]).all()
