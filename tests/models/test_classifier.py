"""Classifiers compared with torchvision; dropout and initialization of the head."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torchvision import models

from pose.models.backbones.mobilenet_v2 import MobileNetV2
from pose.models.backbones.mobilenet_v3 import MobileNetV3Small
from pose.models.backbones.resnet import ResNet
from pose.models.classifier import Classifier, ClassifierHead
from pose.models.dynamic_conv import DynamicConv2d

Same = Callable[[nn.Module, nn.Module], None]


def test_mobilenet_v2_equals_torchvision_with_its_weights(assert_same_model: Same) -> None:
    assert_same_model(Classifier(MobileNetV2(), ClassifierHead(1280)), models.mobilenet_v2(dropout=0.0))


def test_mobilenet_v3_equals_torchvision_with_its_weights(assert_same_model: Same) -> None:
    backbone = MobileNetV3Small(early_stride=False, last_squeeze=False)
    ours = Classifier(backbone, ClassifierHead(576, hidden_channels=1024))
    assert_same_model(ours, models.mobilenet_v3_small(dropout=0.0))


def test_resnet_18_equals_torchvision_with_its_weights(assert_same_model: Same) -> None:
    assert_same_model(Classifier(ResNet(), ClassifierHead(512, 7)), models.resnet18(num_classes=7))


@pytest.mark.parametrize("hidden", [None, 12])
def test_head_gives_one_score_per_class_for_any_feature_size(hidden: int | None) -> None:
    head = ClassifierHead(8, 5, hidden_channels=hidden)
    for size_hw in ((7, 7), (1, 1), (3, 2)):
        assert head(torch.zeros(2, 8, *size_hw)).shape == (2, 5)


@pytest.mark.parametrize("hidden", [None, 12])
def test_dropout_acts_before_the_last_layer_in_training_only(hidden: int | None) -> None:
    head = ClassifierHead(8, 5, dropout=0.25, hidden_channels=hidden)
    features = torch.rand(2, 8, 3, 3)
    assert torch.equal(head.eval()(features), head(features))
    dropped: list[torch.Tensor] = []
    head[-1].register_forward_pre_hook(lambda _, inputs: dropped.append(inputs[0]))
    with torch.no_grad():
        head.train()(features.repeat(2000, 1, 1, 1))
    assert 0.24 < (dropped[0] == 0).float().mean().item() < 0.26


@pytest.mark.parametrize("hidden", [None, 1280])
def test_linear_layers_are_initialized_as_in_torchvision(hidden: int | None) -> None:
    layers = [layer for layer in ClassifierHead(576, 1000, hidden_channels=hidden) if isinstance(layer, nn.Linear)]
    assert len(layers) == (1 if hidden is None else 2)
    for layer in layers:
        assert torch.all(layer.bias == 0)
        assert 0.0098 < layer.weight.std().item() < 0.0102


def test_head_after_a_dynamic_backbone_is_static() -> None:
    model = Classifier(MobileNetV3Small(conv_layer=DynamicConv2d), ClassifierHead(576, 10, 0.2, 1280))
    assert not [m for m in model.head.modules() if isinstance(m, DynamicConv2d)]
    assert [type(m) for m in model.head if any(True for _ in m.parameters())] == [nn.Linear, nn.Linear]
