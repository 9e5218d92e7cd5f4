"""Counts against hand-made sums; `test_published` holds those of the paper's models."""

from typing import Any

import pytest
import torch
from torch import nn

from pose.config.classification import ClassificationConfig
from pose.config.pose import Config
from pose.models import build_pose_net
from pose.models.backbones.blocks import SqueezeExcitation
from pose.models.classifier import ClassifierHead
from pose.models.complexity import Complexity, count, count_config, count_parts
from pose.models.dynamic_conv import DynamicConv2d


@pytest.mark.parametrize(
    ("layer", "shape", "params", "madds"),
    [
        (nn.Conv2d(3, 8, 3, stride=2, padding=1), (1, 3, 8, 6), 8 * 27 + 8, 4 * 3 * 8 * 27),
        (nn.Conv2d(8, 8, 5, padding=2, groups=8), (1, 8, 4, 3), 8 * 25 + 8, 12 * 8 * 25),
        (nn.ConvTranspose2d(8, 6, 4, 2, 1, bias=False), (1, 8, 4, 3), 8 * 6 * 16, 12 * 8 * 6 * 16),
        (nn.Linear(10, 4), (1, 10), 44, 40),
        (SqueezeExcitation(32), (1, 32, 4, 3), 32 * 8 + 8 + 8 * 32 + 32, 2 * 32 * 8),
        (ClassifierHead(6, 5), (1, 6, 4, 3), 6 * 5 + 5, 6 * 5),
        (ClassifierHead(6, 5, hidden_channels=7), (1, 6, 4, 3), 6 * 7 + 7 + 7 * 5 + 5, 6 * 7 + 7 * 5),
        (nn.Sequential(nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU()), (1, 4, 2, 2), 24, 64),
    ],
)
def test_static_layers(layer: nn.Module, shape: tuple[int, ...], params: int, madds: int) -> None:
    assert count(layer, shape) == Complexity(params, madds)


def test_dynamic_layer_adds_attention_and_mixing() -> None:
    layer = DynamicConv2d(8, 6, 3, stride=2, padding=1, groups=2, bias=True, num_kernels=3, reduction=4)
    attention = 10 * 12 * 8 + 8 * 2 + 2 * 3
    mixing = 3 * 8 * 6 * 9 // 2 + 3 * 6
    convolution = 5 * 6 * 6 * 4 * 9
    params = (8 * 2 + 2) + (2 * 3 + 3) + 3 * 6 * 4 * 9 + 3 * 6
    assert count(layer, (1, 8, 10, 12)) == Complexity(params, attention + mixing + convolution)


def test_two_samples_cost_twice() -> None:
    layer = DynamicConv2d(8, 6, 1, bias=True)
    assert count(layer, (2, 8, 4, 3)).madds == 2 * count(layer, (1, 8, 4, 3)).madds


@pytest.mark.parametrize("early_stride", [True, False])
@pytest.mark.parametrize("dynamic", [True, False])
def test_strides_of_mobilenet_v3_tell_the_two_published_counts_apart(early_stride: bool, dynamic: bool) -> None:
    model = {"backbone": "mobilenet_v3_small", "early_stride": early_stride, "dynamic_backbone": dynamic}
    counts = count_config(ClassificationConfig.model_validate({"model": model}))
    madds = counts["backbone_madds"] + counts["head_madds"]
    expected = {(True, False): "66.4", (True, True): "70.1", (False, False): "57.1", (False, True): "60.5"}
    assert f"{madds / 1e6:.1f}" == expected[early_stride, dynamic]
    assert counts["head_madds"] == 576 * 1280 + 1280 * 1000


NETS: list[dict[str, Any]] = [
    {"width": 0.35},
    {"width": 0.35, "head": "type_a"},
    {"backbone": "mobilenet_v3_small", "squeeze": False},
    {"backbone": "resnet10"},
    {"dynamic_backbone": True, "dynamic_head": True, "num_kernels": 3, "attention": "sigmoid"},
    {"backbone": "resnet18", "dynamic_backbone": True, "num_kernels": (1, 4)},
]


@pytest.mark.parametrize("model", NETS, ids=str)
def test_a_config_is_counted_as_its_model_is(model: dict[str, Any]) -> None:
    config = Config.model_validate({"model": model, "input": {"size_hw": (96, 64)}})
    net = build_pose_net(config)
    parts = count_parts(net, (96, 64))
    assert count_config(config) == parts
    whole = count(net, (1, 3, 96, 64))
    assert whole.params == sum(parameter.numel() for parameter in net.parameters())
    assert whole == Complexity(
        parts["backbone_params"] + parts["head_params"], parts["backbone_madds"] + parts["head_madds"]
    )


def test_counting_changes_nothing() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    count(net, (1, 3, 4, 4))
    assert net.training
    assert not net[0]._forward_hooks
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_training_models_are_counted_on_inputs_too_small_to_normalise() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).train()
    assert count(net, (1, 3, 1, 1)).madds == 12
