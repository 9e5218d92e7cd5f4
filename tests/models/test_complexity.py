"""Counts compared with manual sums; `test_published` tests those of the paper's models."""

from typing import Any

import pytest
import torch
from torch import nn

from pose.config.classification import ClassificationConfig
from pose.config.pose import Config
from pose.models import build_pose_net, complexity
from pose.models.backbones.blocks import SqueezeExcitation
from pose.models.classifier import ClassifierHead
from pose.models.complexity import Complexity, count_config, count_parts
from pose.models.dynamic_conv import DynamicConv2d
from pose.models.dynamic_layers import DynamicLinear


def count(module: nn.Module, input_shape: tuple[int, ...]) -> Complexity:
    return complexity.count(module, torch.empty(input_shape, device="meta"))[0]


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
def test_params_and_madds_of_static_layers(layer: nn.Module, shape: tuple[int, ...], params: int, madds: int) -> None:
    assert count(layer, shape) == Complexity(params, madds)


def test_dynamic_layer_adds_attention_and_aggregation() -> None:
    layer = DynamicConv2d(8, 6, 3, stride=2, padding=1, groups=2, bias=True, num_kernels=3, reduction=4)
    attention = 10 * 12 * 8 + 8 * 2 + 2 * 3
    aggregation = 3 * 8 * 6 * 9 // 2 + 3 * 6
    convolution = 5 * 6 * 6 * 4 * 9
    params = (8 * 2 + 2) + (2 * 3 + 3) + 3 * 6 * 4 * 9 + 3 * 6
    assert count(layer, (1, 8, 10, 12)) == Complexity(params, attention + aggregation + convolution)


def test_condconv_adds_one_linear_layer_to_the_aggregation() -> None:
    conv = DynamicConv2d(8, 6, 3, padding=1, bias=False, num_kernels=5, attention="sigmoid")
    routing, kernels = 8 * 5, 5 * 8 * 6 * 9
    assert count(conv, (1, 8, 10, 12)) == Complexity(
        routing + 5 + kernels, 10 * 12 * 8 + routing + kernels + 10 * 12 * 8 * 6 * 9
    )
    linear = DynamicLinear(8, 6, num_kernels=5, attention="sigmoid")
    assert count(linear, (1, 8)) == Complexity(routing + 5 + 5 * 9 * 6, routing + 5 * 9 * 6 + 8 * 6)


def test_two_samples_cost_twice_as_many_madds() -> None:
    layer = DynamicConv2d(8, 6, 1, bias=True)
    assert count(layer, (2, 8, 4, 3)).madds == 2 * count(layer, (1, 8, 4, 3)).madds


@pytest.mark.parametrize("early_stride", [True, False])
@pytest.mark.parametrize("dynamic", [True, False])
def test_madds_of_mobilenet_v3_depend_on_its_stride_variant(early_stride: bool, dynamic: bool) -> None:
    model = {"backbone": "mobilenet_v3_small", "early_stride": early_stride, "dynamic_backbone": dynamic}
    counts = count_config(ClassificationConfig.model_validate({"model": model}))
    madds = counts["backbone_madds"] + counts["head_madds"]
    expected = {(True, False): "66.4", (True, True): "70.1", (False, False): "57.1", (False, True): "60.5"}
    assert f"{madds / 1e6:.1f}" == expected[early_stride, dynamic]
    assert counts["head_madds"] == 576 * 1280 + 1280 * 1000


MODELS: list[dict[str, Any]] = [
    {"width": 0.35},
    {"width": 0.35, "head": "type_a"},
    {"backbone": "mobilenet_v3_small", "squeeze": False},
    {"backbone": "resnet10"},
    {"dynamic_backbone": True, "dynamic_head": True, "num_kernels": 3, "attention": "sigmoid"},
    {"backbone": "resnet18", "dynamic_backbone": True, "num_kernels": (1, 4)},
]


@pytest.mark.parametrize("options", MODELS, ids=str)
def test_count_config_equals_counts_of_the_model(options: dict[str, Any]) -> None:
    config = Config.model_validate({"model": options, "input": {"size_hw": (96, 64)}})
    model = build_pose_net(config)
    parts = count_parts(model, (96, 64))
    assert count_config(config) == parts
    total = count(model, (1, 3, 96, 64))
    assert total.params == sum(parameter.numel() for parameter in model.parameters())
    assert total == Complexity(
        parts["backbone_params"] + parts["head_params"], parts["backbone_madds"] + parts["head_madds"]
    )


def test_counting_does_not_change_the_module() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    count(model, (1, 3, 4, 4))
    assert model.training
    assert not model[0]._forward_hooks
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_modules_in_training_mode_are_counted_on_inputs_too_small_for_batch_norm() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).train()
    assert count(model, (1, 3, 1, 1)).madds == 12
