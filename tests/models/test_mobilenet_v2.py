"""The static backbone is torchvision's; the dynamic one differs only in its convolutions."""

from collections.abc import Iterator

import pytest
import torch
import torchvision
from torch import nn

from pose.models.blocks import ConvBNAct
from pose.models.dynamic_conv import DynamicConv2d
from pose.models.mobilenet_v2 import MobileNetV2


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def torchvision_features(width: float) -> nn.Module:
    features = torchvision.models.mobilenet_v2(width_mult=width).features
    for layer in features.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, std=0.3)
            nn.init.normal_(layer.running_mean, std=0.3)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
    return features


def copy_in_order(source: nn.Module, target: nn.Module) -> None:
    """Load by position: the names differ, the order and the shapes do not."""
    target.load_state_dict(dict(zip(target.state_dict(), source.state_dict().values(), strict=True)))


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("width", [1.0, 0.75, 0.5, 0.35])
def test_static_net_equals_torchvision_with_its_weights(width: float, training: bool) -> None:
    reference = torchvision_features(width).train(training)
    ours = MobileNetV2(width).train(training)
    copy_in_order(reference, ours)
    images = torch.randn(3, 3, 64, 64)
    torch.testing.assert_close(ours(images), reference(images), rtol=1e-4, atol=1e-4)
    for mine, theirs in zip(ours.buffers(), reference.buffers(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


def test_weights_start_as_torchvision_starts_them() -> None:
    ours, reference = MobileNetV2(), torchvision.models.mobilenet_v2().features
    for mine, theirs in zip(ours.parameters(), reference.parameters(), strict=True):
        assert mine.shape == theirs.shape
        if mine.numel() > 10_000:
            assert abs(mine.std().item() / theirs.std().item() - 1) < 0.05


@pytest.mark.parametrize(("depth", "blocks"), [(0.1, 7), (0.5, 11), (0.7, 12), (1.0, 17), (2.0, 34)])
def test_depth_multiplies_the_blocks_of_each_stage(depth: float, blocks: int) -> None:
    net = MobileNetV2(0.35, depth)
    assert len(net.blocks) == blocks
    assert net.eval()(torch.zeros(1, 3, 64, 32)).shape == (1, 1280, 2, 1)


def test_all_but_stem_and_last_convolution_are_dynamic() -> None:
    net = MobileNetV2(0.35, conv_layer=DynamicConv2d)
    static = [name for name, m in net.named_modules() if isinstance(m, ConvBNAct) and isinstance(m.conv, nn.Conv2d)]
    assert static == ["stem", "last"]


def test_last_convolution_is_dynamic_on_request() -> None:
    net = MobileNetV2(0.35, conv_layer=DynamicConv2d, last_conv_layer=DynamicConv2d)
    assert isinstance(net.last.conv, DynamicConv2d)
    assert isinstance(net.stem.conv, nn.Conv2d)


def test_dynamic_net_with_equal_kernels_is_the_static_net() -> None:
    static, dynamic = MobileNetV2(0.35).eval(), MobileNetV2(0.35, conv_layer=DynamicConv2d).eval()
    with torch.no_grad():
        for source, target in zip(
            static.modules(), (m for m in dynamic.modules() if not _is_attention(m)), strict=True
        ):
            if isinstance(target, DynamicConv2d):
                target.weight.copy_(source.weight.expand_as(target.weight))
            elif isinstance(target, nn.Conv2d):
                target.weight.copy_(source.weight)
        images = torch.randn(2, 3, 64, 64)
        torch.testing.assert_close(dynamic(images), static(images), rtol=1e-4, atol=1e-4)


def _is_attention(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or type(module).__name__ == "KernelAttention"
