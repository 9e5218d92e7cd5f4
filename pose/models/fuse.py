"""Batch norm fusion for inference: batch norms and the attention's temperature become part of the weights.

In evaluation a batch norm multiplies each channel by a scale and adds a shift. Convolutions are linear, so the scale is
multiplied into the kernels (all K of a dynamic convolution) and the shift becomes a bias. The softmax temperature
divides the output of the attention's second linear layer, so it is divided into the weights of this layer.
"""

import copy
from collections import Counter
from collections.abc import Iterator
from typing import Any, TypeVar

from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from pose.models.dynamic_conv import DynamicConv2d
from pose.models.fused_conv import FusedDynamicConv2d, fuse_temperature
from pose.models.kernel_attention import KernelAttention

Model = TypeVar("Model", bound=nn.Module)

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d, DynamicConv2d)


def fuse(model: Model) -> Model:
    """Return a copy in evaluation mode with the same outputs, without batch norm and with temperature 1.

    Pairs of a convolution and the following batch norm are found by tracing the data flow, regardless of the modules
    that contain them. Each batch norm is replaced by `torch.nn.Identity`.

    Args:
        model: not changed; its ``forward`` must be traceable by `torch.fx`, as in all of `pose.models`.

    Raises:
        ValueError: a batch norm does not directly follow a convolution of its own or has no running statistics, or the
            convolution is transposed and has groups.
    """
    fused = copy.deepcopy(model).eval()
    for conv_name, norm_name in list(_conv_norm_pairs(fused)):
        conv, norm = fused.get_submodule(conv_name), fused.get_submodule(norm_name)
        _replace(fused, conv_name, _fuse_pair(conv, norm, norm_name))
        _replace(fused, norm_name, nn.Identity())
    unfused = [name for name, layer in fused.named_modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    if unfused:
        raise ValueError(
            f"fuse: '{unfused[0]}': expected a batch norm directly after a convolution, each called once and the "
            f"convolution used nowhere else; cannot fuse {len(unfused)} batch norms"
        )
    for layer in fused.modules():
        if isinstance(layer, KernelAttention):
            fuse_temperature(layer)
    return fused


def _conv_norm_pairs(model: nn.Module) -> Iterator[tuple[str, str]]:
    """Yield the names of a convolution and its batch norm: both called once, the norm the only user of the output."""
    nodes = [node for node in _Tracer().trace(model).nodes if node.op == "call_module"]
    calls = Counter(node.target for node in nodes)
    for node in nodes:
        source: Any = node.args[0]
        is_norm = isinstance(model.get_submodule(str(node.target)), nn.BatchNorm2d)
        if not is_norm or source.op != "call_module" or len(source.users) > 1:
            continue
        is_conv = isinstance(model.get_submodule(source.target), CONVOLUTIONS)
        if is_conv and calls[node.target] == calls[source.target] == 1:
            yield source.target, str(node.target)


class _Tracer(fx.Tracer):
    """Traces a model down to single layers; a dynamic convolution is one layer."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, (*CONVOLUTIONS, FusedDynamicConv2d)) or super().is_leaf_module(m, module_qualified_name)


def _replace(model: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, layer)


def _fuse_pair(conv: nn.Module, norm: nn.Module, name: str) -> nn.Module:
    assert isinstance(norm, nn.BatchNorm2d)
    if norm.running_mean is None:
        raise ValueError(f"fuse: '{name}': expected running statistics, got none; without them it is no constant scale")
    if isinstance(conv, DynamicConv2d):
        return FusedDynamicConv2d(conv, norm)
    if isinstance(conv, nn.ConvTranspose2d):
        if conv.groups > 1:  # fuse_conv_bn_eval would scale the wrong channels
            raise ValueError(
                f"fuse: '{name}': expected a transposed convolution with groups=1 before it, got groups={conv.groups}; "
                "not supported"
            )
        return fuse_conv_bn_eval(conv, norm, transpose=True)
    assert isinstance(conv, nn.Conv2d)
    return fuse_conv_bn_eval(conv, norm)
