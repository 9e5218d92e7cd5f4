"""Deployed models give the outputs of the models they were made from, in double precision, for every kind of model."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn

from pose.config.pose import Config, InputConfig, ModelConfig
from pose.models import build_pose_net
from pose.models.backbones.mobilenet_v2 import MobileNetV2
from pose.models.backbones.mobilenet_v3 import MobileNetV3Small
from pose.models.backbones.resnet import ResNet
from pose.models.classifier import Classifier, ClassifierHead
from pose.models.dynamic_conv import DynamicConv2d, KernelAttention
from pose.models.fuse import fuse
from pose.models.pose_net import PoseNet

DYNAMIC = partial(DynamicConv2d, num_kernels=3, temperature=4.0)
SIGMOID = partial(DynamicConv2d, num_kernels=3, attention="sigmoid")
SMALL = {"width": 0.35, "head_width": 0.25}


def pose_net(**model: object) -> PoseNet:
    return build_pose_net(Config(model=ModelConfig.model_validate(SMALL | model), input=InputConfig(size_hw=(64, 64))))


NETS: dict[str, Callable[[], nn.Module]] = {
    "mobilenet_v2_type_b": pose_net,
    "dynamic_mobilenet_v2_type_b": lambda: pose_net(dynamic_backbone=True, dynamic_last=True, dynamic_head=True),
    "sigmoid_mobilenet_v2_type_b": lambda: pose_net(dynamic_backbone=True, attention="sigmoid"),
    "dynamic_mobilenet_v2_type_a": lambda: pose_net(dynamic_backbone=True, head="type_a"),
    "mobilenet_v3": MobileNetV3Small,
    "dynamic_mobilenet_v3": lambda: MobileNetV3Small(conv_layer=DYNAMIC, last_conv_layer=DYNAMIC),
    "sigmoid_depthwise_mobilenet_v3": lambda: MobileNetV3Small(conv_layer=[nn.Conv2d, SIGMOID, nn.Conv2d]),
    "resnet_10": lambda: ResNet((1, 1, 1, 1)),
    "dynamic_resnet_10": lambda: ResNet((1, 1, 1, 1), DYNAMIC),
    "classifier": lambda: Classifier(MobileNetV2(0.35, 0.1, DYNAMIC), ClassifierHead(1280, 7, dropout=0.5)),
}


def lively(make: Callable[[], nn.Module]) -> nn.Module:
    """A model in double precision whose batch norms do something, and whose kernels depend on the input."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = make().double()
        for layer in net.modules():
            if isinstance(layer, KernelAttention):
                nn.init.normal_(layer.fc2.weight)
            if isinstance(layer, nn.BatchNorm2d):
                layer.momentum = 1.0
                nn.init.uniform_(layer.weight, 0.5, 1.5)
                nn.init.normal_(layer.bias, std=0.3)
        with torch.no_grad():
            net(torch.randn(8, 3, 64, 64, dtype=torch.double))
    return net.eval()


def images(batch: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, 3, 64, 64, dtype=torch.double, generator=generator)


@pytest.mark.parametrize("name", NETS)
@torch.no_grad()
def test_a_deployed_model_gives_the_models_outputs_and_has_no_batch_norm(name: str) -> None:
    net = lively(NETS[name])
    before = {key: value.clone() for key, value in net.state_dict().items()}

    fused = fuse(net)

    for batch in (1, 3):
        expected = net(images(batch))
        assert (fused(images(batch)) - expected).abs().max() < 1e-5 * expected.abs().max()
    assert type(fused) is type(net)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in fused.modules())
    assert all(layer.temperature == 1 for layer in fused.modules() if isinstance(layer, KernelAttention))
    assert net.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


@torch.no_grad()
def test_a_deployed_model_can_be_deployed_once_more() -> None:
    net = lively(NETS["dynamic_mobilenet_v2_type_b"])

    again = fuse(fuse(net))

    for batch in (1, 3):
        assert (again(images(batch)) - net(images(batch))).abs().max() < 1e-5 * net(images(batch)).abs().max()


@torch.no_grad()
def test_a_model_that_is_being_trained_is_deployed_as_it_evaluates() -> None:
    net = lively(NETS["resnet_10"])
    expected = net(images(2))

    torch.testing.assert_close(fuse(net.train())(images(2)), expected)
    assert net.training


class Model(nn.Module):
    """Layers by name, put together by a function."""

    def __init__(self, flow: "Callable[[Model, torch.Tensor], torch.Tensor]") -> None:
        super().__init__()
        self.flow = flow
        self.norm = nn.BatchNorm2d(4)  # in an order and under names that say nothing
        self.other_norm = nn.BatchNorm2d(4)
        self.conv = nn.Conv2d(3, 4, 3)
        self.square = nn.Conv2d(4, 4, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.flow(self, x)


@torch.no_grad()
def test_pairs_are_found_in_the_flow_of_the_data() -> None:
    net = lively(lambda: Model(lambda net, x: net.norm(net.square(net.other_norm(net.conv(x)).relu()))))

    fused = fuse(net)

    torch.testing.assert_close(fused(images(2)), net(images(2)))
    assert isinstance(fused.norm, nn.Identity)


@pytest.mark.parametrize(
    ("flow", "name"),
    [
        (lambda net, x: net.other_norm(net.square(net.norm(net.conv(x).relu()))), "norm"),
        (lambda net, x: net.norm(y := net.conv(x)) + net.other_norm(net.square(y)), "norm"),
        (lambda net, x: net.norm(net.square(net.square(net.other_norm(net.conv(x))))), "norm"),
        (lambda net, x: net.norm(net.square(net.norm(net.conv(x)))), "norm"),
        (lambda net, x: net.norm(net.conv(x)), "other_norm"),
    ],
    ids=["behind_an_activation", "conv_used_otherwise", "conv_twice", "norm_twice", "not_used"],
)
def test_a_norm_that_nothing_can_take_up_is_refused(
    flow: Callable[[Model, torch.Tensor], torch.Tensor], name: str
) -> None:
    with pytest.raises(ValueError, match=f"^deploy: '{name}'"):
        fuse(Model(flow))


def test_norms_without_statistics_and_transposed_groups_are_refused() -> None:
    with pytest.raises(ValueError, match="'1' keeps no running statistics"):
        fuse(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)))
    with pytest.raises(ValueError, match="'1' stands behind a transposed convolution with groups"):
        fuse(nn.Sequential(nn.ConvTranspose2d(4, 4, 2, groups=4), nn.BatchNorm2d(4)))
