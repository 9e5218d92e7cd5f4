"""Counts against hand-made sums and against the rows that the design prints (millions).

Pose nets at 256x192, classifiers at 224x224.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from pose.config import Config
from pose.models import build_pose_net
from pose.models.blocks import ConvLayer, SqueezeExcitation
from pose.models.classifier import Classifier, ClassifierHead
from pose.models.complexity import Complexity, count, count_parts
from pose.models.dynamic_conv import DynamicConv2d
from pose.models.heads import TypeAHead, TypeBHead
from pose.models.mobilenet_v2 import MobileNetV2
from pose.models.mobilenet_v3 import MobileNetV3Small
from pose.models.resnet import ResNet


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


@pytest.mark.parametrize(
    ("model", "backbone", "head"),
    [
        ({"width": 1.0}, ("2.22", "293.4"), ("1.208", "727.6")),
        ({"width": 1.0, "dynamic_backbone": True, "dynamic_head": True}, ("9.87", "309.3"), ("6.319", "738.9")),
        ({"width": 0.5}, ("0.69", "93.9"), ("1.208", "727.6")),
        ({"width": 0.5, "dynamic_backbone": True, "dynamic_head": True}, ("2.67", "99.8"), ("6.319", "738.9")),
        ({"width": 0.5, "head": "type_a"}, ("0.69", "93.9"), ("7.35", "1272")),
    ],
)
def test_pose_nets_print_the_expected_rows(
    model: dict[str, Any], backbone: tuple[str, str], head: tuple[str, str]
) -> None:
    row = count_parts(build_pose_net(Config.model_validate({"model": model})), (256, 192))
    assert_prints(Complexity(row["backbone_params"], row["backbone_madds"]), *backbone)
    assert_prints(Complexity(row["head_params"], row["head_madds"]), *head)


@pytest.mark.parametrize(
    ("backbone", "hidden", "static", "dynamic"),
    [
        (partial(MobileNetV2, 1.0), None, ("3.50", "300.8"), ("11.15", "316.8")),
        (partial(MobileNetV2, 0.75), None, ("2.64", "209.1"), ("7.01", "220.2")),
        (partial(MobileNetV2, 0.5), None, ("1.97", "97.1"), ("3.95", "103.1")),
        (partial(MobileNetV2, 0.35), None, ("1.68", "59.3"), ("2.69", "63.3")),
        (MobileNetV3Small, 1280, ("3.11", "66.4"), ("4.78", "70.1")),
        (partial(MobileNetV3Small, early_stride=False), 1280, ("3.11", "57.1"), ("4.78", "60.5")),
        (partial(ResNet, (2, 2, 2, 2)), None, ("11.69", "1814"), ("44.93", "1860")),
        (partial(ResNet, (1, 1, 1, 1)), None, ("5.42", "889"), ("19.69", "909")),
    ],
)
def test_classifiers_print_the_expected_rows(
    backbone: Callable[..., nn.Module], hidden: int | None, static: tuple[str, str], dynamic: tuple[str, str]
) -> None:
    for conv_layer, expected in ((nn.Conv2d, static), (DynamicConv2d, dynamic)):
        body = backbone(conv_layer=conv_layer)
        net = Classifier(body, ClassifierHead(body.out_channels, hidden_channels=hidden))
        whole, row = count(net, (1, 3, 224, 224)), count_parts(net, (224, 224))
        assert_prints(whole, *expected)
        assert whole.params == row["backbone_params"] + row["head_params"]
        assert whole.madds == row["backbone_madds"] + row["head_madds"]
        assert row["head_madds"] == (
            body.out_channels * 1000 if hidden is None else hidden * (body.out_channels + 1000)
        )


@pytest.mark.parametrize(
    ("conv_layer", "backbone", "head"),
    [
        (nn.Conv2d, ("1.09", "63.1"), ("1.009", "689.7")),
        (DynamicConv2d, ("2.76", "66.7"), ("4.871", "699.2")),
    ],
)
def test_pose_parts_of_mobilenet_v3_print_the_expected_rows(
    conv_layer: ConvLayer, backbone: tuple[str, str], head: tuple[str, str]
) -> None:
    assert_prints(count(MobileNetV3Small(conv_layer=conv_layer), (1, 3, 256, 192)), *backbone)
    assert_prints(count(TypeBHead(576, 17, conv_layer=conv_layer), (1, 576, 8, 6)), *head)


@pytest.mark.parametrize(
    ("channels", "expected"), [(512, ("4.20", "1121")), (1280, ("7.35", "1272")), (576, ("4.46", "1133"))]
)
def test_type_a_head_by_its_input(channels: int, expected: tuple[str, str]) -> None:
    assert_prints(count(TypeAHead(channels, 17), (1, channels, 8, 6)), *expected)


def assert_prints(complexity: Complexity, params: str, madds: str) -> None:
    for value, text in ((complexity.params, params), (complexity.madds, madds)):
        assert f"{value / 1e6:.{len(text.partition('.')[2])}f}" == text


def test_counting_changes_nothing() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    count(net, (1, 3, 4, 4))
    assert net.training
    assert not net[0]._forward_hooks
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_training_nets_are_counted_on_inputs_too_small_to_normalise() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).train()
    assert count(net, (1, 3, 1, 1)).madds == 12
