"""Models and backbones built from configs."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torchvision import models as torchvision_models

from pose.config.classification import ClassificationConfig
from pose.config.pose import BackboneConfig, Config
from pose.models import build_backbone, build_classifier, build_pose_net
from pose.models.dynamic_conv import DynamicConv2d
from pose.models.dynamic_layers import DynamicLinear
from pose.models.kernel_attention import set_temperature
from pose.models.pose_net import PoseNet, SpatialSoftmax


def build(options: dict[str, Any] | None = None, **sections: Any) -> PoseNet:
    """Build a small model; ``options`` are those of the config's model section."""
    small = {"width": 0.35, "head_width": 0.25}
    return build_pose_net(Config.model_validate({"model": small | (options or {}), **sections}))


def dynamic_names(model: nn.Module) -> list[str]:
    return [name for name, module in model.named_modules() if isinstance(module, DynamicConv2d)]


@pytest.mark.parametrize("size_hw", [(64, 32), (96, 96), (128, 96)])
@pytest.mark.parametrize(
    "options",
    [
        {"head": "type_a"},
        {"head": "type_a", "dynamic_backbone": True},
        {"head": "type_b"},
        {"head": "type_b", "dynamic_head": True},
        {"head": "type_b", "dynamic_backbone": True, "dynamic_head": True, "attention": "sigmoid"},
    ],
)
def test_output_is_a_quarter_of_any_input_size_divisible_by_32(
    options: dict[str, Any], size_hw: tuple[int, int]
) -> None:
    model = build(options).eval()
    images = torch.zeros(2, 3, *size_hw)
    assert model(images).shape == model.heatmaps(images).shape == (2, 17, size_hw[0] // 4, size_hw[1] // 4)


def test_default_is_static() -> None:
    assert dynamic_names(build()) == []


def test_backbone_and_head_are_dynamic_independently() -> None:
    backbone, head = dynamic_names(build({"dynamic_backbone": True})), dynamic_names(build({"dynamic_head": True}))
    assert len(backbone) == 2 + 16 * 3
    assert all(name.startswith("backbone.blocks.") for name in backbone)
    assert len(head) == 11
    assert all(name.startswith("head.") for name in head)
    both = dynamic_names(build({"dynamic_backbone": True, "dynamic_head": True, "dynamic_last": True}))
    assert sorted(both) == sorted([*backbone, *head, "backbone.last.conv"])


def test_options_apply_to_every_dynamic_convolution() -> None:
    options = {"dynamic_backbone": True, "dynamic_head": True, "num_kernels": 3, "reduction": 8}
    layers = [m for m in build(options, train={"temperature": 7.0}).modules() if isinstance(m, DynamicConv2d)]
    assert {m.num_kernels for m in layers} == {3}
    assert {m.attention.kind for m in layers} == {"softmax"}
    assert {m.attention.temperature.item() for m in layers} == {7.0}
    assert all(m.attention.fc1.out_features == max(1, m.in_channels // 8) for m in layers)


def test_sigmoid_attention_is_one_linear_layer_everywhere() -> None:
    options = {"dynamic_backbone": True, "dynamic_head": True, "attention": "sigmoid"}
    layers = [m for m in build(options).modules() if isinstance(m, DynamicConv2d)]
    assert len(layers) == 2 + 16 * 3 + 11
    assert all(m.attention.kind == "sigmoid" and m.attention.fc1 is None for m in layers)
    assert all(m.attention.fc2.in_features == m.in_channels for m in layers)


def test_blocks_before_the_first_dynamic_one_are_static() -> None:
    names = dynamic_names(build({"dynamic_backbone": True, "first_dynamic_block": 12}))
    assert {name.split(".")[2] for name in names} == {"11", "12", "13", "14", "15", "16"}
    assert len(names) == 6 * 3


@pytest.mark.parametrize("num_kernels", [1, 8])
def test_the_classifier_is_dynamic_only_with_several_kernels(num_kernels: int) -> None:
    options = {"width": 0.35, "dynamic_classifier": True, "num_kernels": num_kernels, "attention": "sigmoid"}
    head = build_classifier(ClassificationConfig.model_validate({"model": options})).head
    layer = head[-1]
    assert isinstance(layer, DynamicLinear) == (num_kernels == 8)
    assert layer.weight.shape == ((8, 1000, 1280) if num_kernels == 8 else (1000, 1280))
    assert 0.0098 < layer.weight.std().item() < 0.0102
    assert not layer.bias.any()
    assert head(torch.zeros(2, 1280, 1, 1)).shape == (2, 1000)


def test_output_has_one_map_per_keypoint_of_the_skeleton() -> None:
    model = build(skeleton={"names": ["tip", "tail", "left_fin", "right_fin"]})
    assert model.eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 4, 8, 8)


def test_width_and_depth_apply_to_the_backbone() -> None:
    assert len(build({"depth": 0.5}).backbone.blocks) == 11
    assert build({"width": 1.4}).backbone.out_channels == 1792


BACKBONES = ["mobilenet_v2", "mobilenet_v3_small", "resnet10", "resnet18"]
FINAL_V3 = {"backbone": "mobilenet_v3_small", "early_stride": False, "last_squeeze": False}


@pytest.mark.parametrize(
    ("options", "reference"),
    [
        ({"backbone": "mobilenet_v2", "width": 0.5}, lambda: torchvision_models.mobilenet_v2(width_mult=0.5).features),
        (FINAL_V3, lambda: torchvision_models.mobilenet_v3_small().features),
        ({"backbone": "resnet18"}, lambda: nn.Sequential(*list(torchvision_models.resnet18().children())[:-2])),
    ],
    ids=["mobilenet_v2", "mobilenet_v3_small", "resnet18"],
)
def test_static_backbones_equal_torchvision_with_its_weights(
    options: dict[str, Any],
    reference: Callable[[], nn.Module],
    assert_same_model: Callable[[nn.Module, nn.Module], None],
) -> None:
    assert_same_model(build_backbone(BackboneConfig.model_validate(options), temperature=30.0), reference())


@pytest.mark.parametrize("backbone", BACKBONES)
def test_head_and_every_backbone_get_finite_gradients(backbone: str) -> None:
    options = {"backbone": backbone, "dynamic_backbone": True, "num_kernels": 2, "head_width": 0.25}
    model = build_pose_net(Config.model_validate({"model": options}))
    maps = model(torch.randn(2, 3, 64, 32))
    assert maps.shape == (2, 17, 16, 8)
    maps.square().mean().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()] == []


@pytest.mark.parametrize(
    ("backbone", "num_kernels", "positions"),
    [
        ("mobilenet_v2", [2, 1, 6], {"expand": 2, "project": 6}),
        ("mobilenet_v3_small", [1, 4, 1], {"depthwise": 4}),
        ("resnet10", [1, 3], {"second": 3}),
        ("resnet18", [3, 1], {"first": 3}),
        ("mobilenet_v2", [1, 1, 1], {}),
        ("resnet18", 1, {}),
    ],
)
def test_num_kernels_is_set_per_position_in_a_block(
    backbone: str, num_kernels: object, positions: dict[str, int]
) -> None:
    options = {"backbone": backbone, "dynamic_backbone": True, "num_kernels": num_kernels}
    model = build_backbone(BackboneConfig.model_validate(options), temperature=30.0)
    dynamic = {(n.split(".")[2], m.num_kernels) for n, m in model.named_modules() if isinstance(m, DynamicConv2d)}
    assert dynamic == set(positions.items())


def test_options_of_mobilenet_v3_apply_to_the_backbone() -> None:
    def build_v3(**options: bool) -> nn.Module:
        options |= {"dynamic_backbone": "dynamic_last" in options}
        return build_backbone(BackboneConfig(backbone="mobilenet_v3_small", **options), 30.0)  # type: ignore[arg-type]

    def strides(model: nn.Module) -> list[int]:
        depthwise = [m for name, m in model.named_modules() if name.endswith("depthwise.conv")]
        return [m.stride[0] for m in depthwise if isinstance(m, nn.Conv2d)]

    def squeezes(model: nn.Module) -> set[str]:
        return {name.rpartition(".")[0].split(".")[-1] for name, _ in model.named_modules() if name.endswith("fc1")}

    assert strides(build_v3())[3:5] == [1, 2]
    assert strides(build_v3(early_stride=False))[3:5] == [2, 1]
    assert squeezes(build_v3()) == {"squeeze", "last_squeeze"}
    assert squeezes(build_v3(squeeze=False)) == {"last_squeeze"}
    assert squeezes(build_v3(last_squeeze=False)) == {"squeeze"}
    assert "last.conv" in dynamic_names(build_v3(dynamic_last=True))


def test_shortcuts_of_resnets_are_dynamic_on_request() -> None:
    for backbone in ("resnet10", "resnet18"):
        options = {"backbone": backbone, "dynamic_backbone": True, "dynamic_shortcuts": True, "num_kernels": 3}
        model = build_backbone(BackboneConfig.model_validate(options), temperature=30.0)
        static = [name for name, m in model.named_modules() if isinstance(m, nn.Conv2d)]
        assert static == ["stem.conv"]
        assert {m.num_kernels for m in model.modules() if isinstance(m, DynamicConv2d)} == {3}


def test_activation_depends_on_the_loss() -> None:
    assert isinstance(build().activation, nn.Identity)
    softmax = build(train={"loss": "cross_entropy"}, input={"sigma": 3.0}).activation
    assert isinstance(softmax, SpatialSoftmax)
    assert softmax.gaussian_sum == SpatialSoftmax(3.0).gaussian_sum


def test_state_dict_of_a_dynamic_model_loads_strictly() -> None:
    options = {"dynamic_backbone": True, "dynamic_head": True}
    source, target = build(options).eval(), build(options).eval()
    set_temperature(source, 3.0)
    target.load_state_dict(source.state_dict())
    images = torch.randn(2, 3, 64, 32)
    assert torch.equal(target(images), source(images))
    without_temperature = {k: v for k, v in source.state_dict().items() if "temperature" not in k}
    for other in (build().state_dict(), build(options | {"num_kernels": 2}).state_dict(), without_temperature):
        with pytest.raises(RuntimeError):
            target.load_state_dict(other)


def test_every_weight_gets_a_gradient() -> None:
    model = build({"dynamic_backbone": True, "dynamic_head": True})
    model(torch.randn(2, 3, 64, 64)).square().mean().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()] == []
