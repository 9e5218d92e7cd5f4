"""Networks: `build_pose_net` makes the one that a config describes."""

from collections.abc import Callable
from functools import partial

from torch import nn

from pose.config import Config, ModelConfig
from pose.models.blocks import ConvLayer
from pose.models.convolution import Conv2d
from pose.models.dynamic_conv import DynamicConv2d
from pose.models.heads import TypeAHead, TypeBHead
from pose.models.mobilenet_v2 import MobileNetV2
from pose.models.networks import PoseNet, SpatialSoftmax


def build_pose_net(config: Config) -> PoseNet:
    """Make the net of ``config`` with new weights, drawn from torch's default generator."""
    model = config.model
    dynamic = _dynamic_conv(model, config.train.temperature)
    in_blocks = dynamic if model.dynamic_backbone else Conv2d
    in_last = dynamic if model.dynamic_last else Conv2d
    in_head = dynamic if model.dynamic_head else Conv2d
    backbones = {
        "mobilenet_v2": partial(MobileNetV2, model.width, model.depth, in_blocks, in_last),
    }
    heads: dict[str, Callable[[int, int, float], nn.Module]] = {
        "type_a": TypeAHead,
        "type_b": partial(TypeBHead, conv_layer=in_head),
    }
    activations: dict[str, Callable[[], nn.Module]] = {
        "mse": nn.Identity,
        "cross_entropy": partial(SpatialSoftmax, config.input.sigma),
    }
    backbone = backbones[model.backbone]()
    head = heads[model.head](backbone.out_channels, config.keypoints.num_keypoints, model.head_width)
    return PoseNet(backbone, head, activations[config.train.loss]())


def _dynamic_conv(model: ModelConfig, temperature: float) -> ConvLayer:
    return partial(
        DynamicConv2d,
        num_kernels=model.num_kernels,
        reduction=model.reduction,
        temperature=temperature,
        attention=model.attention,
    )
