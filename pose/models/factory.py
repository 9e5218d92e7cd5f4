"""Model factory: build pose models, classifiers and their backbones from configs."""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from pose.config.classification import ClassificationConfig
from pose.config.pose import BackboneConfig, Config
from pose.models.backbones.blocks import ConvLayer, ConvLayers
from pose.models.backbones.mobilenet_v2 import MobileNetV2
from pose.models.backbones.mobilenet_v3 import MobileNetV3Small
from pose.models.backbones.resnet import ResNet
from pose.models.classifier import Classifier, ClassifierHead, LinearLayer
from pose.models.depthwise import Conv2d
from pose.models.dynamic_conv import DynamicConv2d
from pose.models.dynamic_layers import DynamicLinear
from pose.models.heads import TypeAHead, TypeBHead
from pose.models.pose_net import PoseNet, SpatialSoftmax

Backbone = MobileNetV2 | MobileNetV3Small | ResNet
"""Maps normalized images (N, 3, H, W) to features (N, out_channels, H / stride, W / stride); stride 32 by default."""

HIDDEN_CHANNELS = {"mobilenet_v3_small": 1280}
"""Width of the classifier's hidden layer, for backbones that have one (MobileNetV3, Table 2)."""


def build_backbone(model: BackboneConfig, temperature: float) -> Backbone:
    """Build a backbone with random weights from torch's default generator.

    Args:
        model: the backbone, and which of its convolutions are dynamic.
        temperature: initial softmax temperature tau of the attention.
    """
    block_conv = _block_conv_layers(model, temperature) if model.dynamic_backbone else Conv2d
    last_conv = _conv_layer(model, model.num_kernels, temperature) if model.dynamic_last else Conv2d
    shortcut_conv = _conv_layer(model, model.num_kernels, temperature) if model.dynamic_shortcuts else Conv2d
    backbones: dict[str, Callable[[], Backbone]] = {
        "mobilenet_v2": partial(
            MobileNetV2,
            model.width,
            model.depth,
            block_conv,
            last_conv,
            model.first_dynamic_block,
            model.first_strides,
        ),
        "mobilenet_v3_small": partial(
            MobileNetV3Small, model.early_stride, model.squeeze, model.last_squeeze, block_conv, last_conv
        ),
        "resnet10": partial(ResNet, (1, 1, 1, 1), block_conv, shortcut_conv),
        "resnet18": partial(ResNet, (2, 2, 2, 2), block_conv, shortcut_conv),
    }
    return backbones[model.backbone]()


def build_pose_net(config: Config) -> PoseNet:
    """Build the pose model of ``config`` with random weights from torch's default generator."""
    model, temperature = config.model, config.train.temperature
    head_conv = _conv_layer(model, model.num_kernels, temperature) if model.dynamic_head else Conv2d
    heads: dict[str, Callable[[int, int, float], nn.Module]] = {
        "type_a": TypeAHead,
        "type_b": partial(TypeBHead, conv_layer=head_conv),
    }
    activations: dict[str, Callable[[], nn.Module]] = {
        "mse": nn.Identity,
        "cross_entropy": partial(SpatialSoftmax, config.input.sigma),
    }
    backbone = build_backbone(model, temperature)
    head = heads[model.head](backbone.out_channels, config.keypoints.num_keypoints, model.head_width)
    return PoseNet(backbone, head, activations[config.train.loss]())


def build_classifier(config: ClassificationConfig) -> Classifier:
    """Build the classifier of ``config`` with random weights from torch's default generator."""
    model = config.model
    backbone = build_backbone(model, config.train.temperature)
    linear_layer: LinearLayer = nn.Linear
    if model.dynamic_classifier and model.num_kernels != 1:
        linear_layer = partial(DynamicLinear, **_attention_options(model, model.num_kernels, config.train.temperature))
    head = ClassifierHead(
        backbone.out_channels,
        config.num_classes,
        config.train.dropout,
        HIDDEN_CHANNELS.get(model.backbone),
        linear_layer,
    )
    return Classifier(backbone, head)


def _block_conv_layers(model: BackboneConfig, temperature: float) -> ConvLayers:
    """Return the convolution type of a block: one for all positions, or one per position."""
    if isinstance(model.num_kernels, int):
        return _conv_layer(model, model.num_kernels, temperature)
    return [_conv_layer(model, num_kernels, temperature) for num_kernels in model.num_kernels]


def _conv_layer(model: BackboneConfig, num_kernels: int | tuple[int, ...], temperature: float) -> ConvLayer:
    if num_kernels == 1:
        return Conv2d
    return partial(DynamicConv2d, **_attention_options(model, num_kernels, temperature))


def _attention_options(model: BackboneConfig, num_kernels: int | tuple[int, ...], temperature: float) -> dict[str, Any]:
    """Return the arguments of a dynamic layer that a static one does not have."""
    assert isinstance(num_kernels, int), "the config accepts a list only where just the blocks are dynamic"
    return {
        "num_kernels": num_kernels,
        "reduction": model.reduction,
        "temperature": temperature,
        "attention": model.attention,
    }
