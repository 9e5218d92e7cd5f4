"""Counts against hand-made sums and against the rows that the design prints (millions, 256x192)."""

from typing import Any

import pytest
import torch
from torch import nn

from pose.config import Config
from pose.models import build_pose_net
from pose.models.complexity import Complexity, count, count_pose_net
from pose.models.dynamic_conv import DynamicConv2d
from pose.models.heads import TypeAHead


@pytest.mark.parametrize(
    ("layer", "shape", "params", "madds"),
    [
        (nn.Conv2d(3, 8, 3, stride=2, padding=1), (1, 3, 8, 6), 8 * 27 + 8, 4 * 3 * 8 * 27),
        (nn.Conv2d(8, 8, 5, padding=2, groups=8), (1, 8, 4, 3), 8 * 25 + 8, 12 * 8 * 25),
        (nn.ConvTranspose2d(8, 6, 4, 2, 1, bias=False), (1, 8, 4, 3), 8 * 6 * 16, 12 * 8 * 6 * 16),
        (nn.Linear(10, 4), (1, 10), 44, 40),
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
    row = count_pose_net(build_pose_net(Config.model_validate({"model": model})), (256, 192))
    assert_prints(Complexity(row["backbone_params"], row["backbone_madds"]), *backbone)
    assert_prints(Complexity(row["head_params"], row["head_madds"]), *head)


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
