"""Fused models compared with their originals in double precision, for every kind of model."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn

from pose.config.loader import load_classification_config
from pose.config.pose import Config, InputConfig, ModelConfig
from pose.models import build_classifier, build_pose_net
from pose.models.backbones.mobilenet_v2 import MobileNetV2
from pose.models.backbones.mobilenet_v3 import MobileNetV3Small
from pose.models.backbones.resnet import ResNet
from pose.models.classifier import Classifier, ClassifierHead
from pose.models.dynamic_conv import DynamicConv2d
from pose.models.fuse import fuse
from pose.models.kernel_attention import KernelAttention
from pose.models.pose_net import PoseNet

DYNAMIC = partial(DynamicConv2d, num_kernels=3, temperature=4.0)
SIGMOID = partial(DynamicConv2d, num_kernels=3, attention="sigmoid")
SMALL = {"width": 0.35, "head_width": 0.25}


def pose_net(**options: object) -> PoseNet:
    return build_pose_net(
        Config(model=ModelConfig.model_validate(SMALL | options), input=InputConfig(size_hw=(64, 64)))
    )


MODELS: dict[str, Callable[[], nn.Module]] = {
    "mobilenet_v2_type_b": pose_net,
    "dynamic_mobilenet_v2_type_b": lambda: pose_net(dynamic_backbone=True, dynamic_last=True, dynamic_head=True),
    "sigmoid_mobilenet_v2_type_b": lambda: pose_net(dynamic_backbone=True, attention="sigmoid"),
    "dynamic_mobilenet_v2_type_a": lambda: pose_net(dynamic_backbone=True, head="type_a"),
    "mobilenet_v3": MobileNetV3Small,
    "dynamic_mobilenet_v3": lambda: MobileNetV3Small(conv_layer=DYNAMIC, last_conv_layer=DYNAMIC),
    "condconv_classifier": lambda: build_classifier(
        load_classification_config("imagenet/condconv_mobilenetv2_w0.5", ["model.width=0.35"])
    ),
    "sigmoid_depthwise_mobilenet_v3": lambda: MobileNetV3Small(conv_layer=[nn.Conv2d, SIGMOID, nn.Conv2d]),
    "resnet_10": lambda: ResNet((1, 1, 1, 1)),
    "dynamic_resnet_10": lambda: ResNet((1, 1, 1, 1), DYNAMIC),
    "classifier": lambda: Classifier(MobileNetV2(0.35, 0.1, DYNAMIC), ClassifierHead(1280, 7, dropout=0.5)),
}


def randomized(make: Callable[[], nn.Module]) -> nn.Module:
    """Build a model in float64 with non-trivial batch norm and attention that depends on the input."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = make().double()
        for layer in model.modules():
            if isinstance(layer, KernelAttention):
                nn.init.normal_(layer.fc2.weight)
            if isinstance(layer, nn.BatchNorm2d):
                layer.momentum = 1.0
                nn.init.uniform_(layer.weight, 0.5, 1.5)
                nn.init.normal_(layer.bias, std=0.3)
        with torch.no_grad():
            model(torch.randn(8, 3, 64, 64, dtype=torch.double))
    return model.eval()


def images(batch: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, 3, 64, 64, dtype=torch.double, generator=generator)


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_fused_model_has_the_same_outputs_and_no_batch_norm(name: str) -> None:
    model = randomized(MODELS[name])
    before = {key: value.clone() for key, value in model.state_dict().items()}

    fused = fuse(model)

    for batch in (1, 3):
        expected = model(images(batch))
        assert (fused(images(batch)) - expected).abs().max() < 1e-5 * expected.abs().max()
    assert type(fused) is type(model)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in fused.modules())
    assert all(layer.temperature == 1 for layer in fused.modules() if isinstance(layer, KernelAttention))
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@torch.no_grad()
def test_fused_model_can_be_fused_again() -> None:
    model = randomized(MODELS["dynamic_mobilenet_v2_type_b"])

    fused_again = fuse(fuse(model))

    for batch in (1, 3):
        assert (fused_again(images(batch)) - model(images(batch))).abs().max() < 1e-5 * model(images(batch)).abs().max()


@torch.no_grad()
def test_model_in_training_mode_is_fused_as_in_evaluation() -> None:
    model = randomized(MODELS["resnet_10"])
    expected = model(images(2))

    torch.testing.assert_close(fuse(model.train())(images(2)), expected)
    assert model.training


class Model(nn.Module):
    """Named layers, called by a function."""

    def __init__(self, flow: "Callable[[Model, torch.Tensor], torch.Tensor]") -> None:
        super().__init__()
        self.flow = flow
        self.norm = nn.BatchNorm2d(4)  # neither order nor names tell the pairs
        self.other_norm = nn.BatchNorm2d(4)
        self.conv = nn.Conv2d(3, 4, 3)
        self.square = nn.Conv2d(4, 4, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.flow(self, x)


@torch.no_grad()
def test_pairs_are_found_by_data_flow() -> None:
    model = randomized(lambda: Model(lambda model, x: model.norm(model.square(model.other_norm(model.conv(x)).relu()))))

    fused = fuse(model)

    torch.testing.assert_close(fused(images(2)), model(images(2)))
    assert isinstance(fused.norm, nn.Identity)


@pytest.mark.parametrize(
    ("flow", "name"),
    [
        (lambda model, x: model.other_norm(model.square(model.norm(model.conv(x).relu()))), "norm"),
        (lambda model, x: model.norm(y := model.conv(x)) + model.other_norm(model.square(y)), "norm"),
        (lambda model, x: model.norm(model.square(model.square(model.other_norm(model.conv(x))))), "norm"),
        (lambda model, x: model.norm(model.square(model.norm(model.conv(x)))), "norm"),
        (lambda model, x: model.norm(model.conv(x)), "other_norm"),
    ],
    ids=["after_activation", "conv_has_other_user", "conv_called_twice", "norm_called_twice", "not_called"],
)
def test_batch_norm_without_its_own_convolution_is_rejected(
    flow: Callable[[Model, torch.Tensor], torch.Tensor], name: str
) -> None:
    with pytest.raises(ValueError, match=f"^fuse: '{name}'"):
        fuse(Model(flow))


def test_batch_norm_without_statistics_and_transposed_groups_are_rejected() -> None:
    with pytest.raises(ValueError, match="'1': expected running statistics, got none"):
        fuse(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)))
    with pytest.raises(
        ValueError, match="'1': expected a transposed convolution with groups=1 before it, got groups=4"
    ):
        fuse(nn.Sequential(nn.ConvTranspose2d(4, 4, 2, groups=4), nn.BatchNorm2d(4)))


@torch.no_grad()
def test_not_strict_leaves_batch_norms_without_their_own_convolution() -> None:
    flow = lambda model, x: model.other_norm(model.square(model.norm(model.conv(x).relu())))  # noqa: E731
    model = randomized(lambda: Model(flow))

    fused = fuse(model, strict=False)

    torch.testing.assert_close(fused(images(2)), model(images(2)))
    assert isinstance(fused.norm, nn.BatchNorm2d)
    assert isinstance(fused.other_norm, nn.Identity)
    norms = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False), nn.ConvTranspose2d(4, 4, 2, groups=4),
        nn.BatchNorm2d(4),
    ).double().eval()  # fmt: skip
    torch.testing.assert_close(fuse(norms, strict=False)(images(2)), norms(images(2)))


class NotTraceable(nn.Module):
    """Branches on the values of its input."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(DynamicConv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.last = nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.max() > 1e6:
            raise ValueError("expected normalized images")
        return self.last(self.body(x))


@torch.no_grad()
def test_submodules_of_a_model_that_cannot_be_traced_are_fused() -> None:
    model = randomized(NotTraceable)

    fused = fuse(model, strict=False)

    torch.testing.assert_close(fused(images(2)), model(images(2)))
    assert [name for name, layer in fused.named_modules() if isinstance(layer, nn.BatchNorm2d)] == ["last"]
    with pytest.raises(ValueError, match=r"^fuse: 'last': .* \(strict=False leaves them\)$"):
        fuse(model)
