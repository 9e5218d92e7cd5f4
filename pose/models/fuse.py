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


def fuse(model: Model, strict: bool = True) -> Model:
    """Return a copy in evaluation mode with the same outputs, without batch norm and with temperature 1.

    Pairs of a convolution and the following batch norm are found by tracing the data flow, regardless of the modules
    that contain them. Each batch norm is replaced by `torch.nn.Identity`. Of a model that `torch.fx` cannot trace, such
    as a detector, its submodules are traced.

    Args:
        model: not changed.
        strict: every batch norm must be fused; otherwise those that cannot be are left as they are.

    Raises:
        ValueError: with ``strict``, a batch norm does not directly follow a convolution of its own or has no running
            statistics, or the convolution is transposed and has groups.
    """
    fused = copy.deepcopy(model).eval()
    for conv_name, norm_name in list(_conv_norm_pairs(fused)):
        conv, norm = fused.get_submodule(conv_name), fused.get_submodule(norm_name)
        obstacle = _obstacle(conv, norm)
        if obstacle is None:
            _replace(fused, conv_name, _fuse_pair(conv, norm))
            _replace(fused, norm_name, nn.Identity())
        elif strict:
            raise ValueError(f"fuse: '{norm_name}': {obstacle}")
    unfused = [name for name, layer in fused.named_modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    if unfused and strict:
        raise ValueError(
            f"fuse: '{unfused[0]}': expected a batch norm directly after a convolution, each called once and the "
            f"convolution used nowhere else; cannot fuse {len(unfused)} batch norms (strict=False leaves them)"
        )
    for layer in fused.modules():
        if isinstance(layer, KernelAttention):
            fuse_temperature(layer)
    return fused


def _conv_norm_pairs(model: nn.Module, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the names of a convolution and its batch norm: both called once, the norm the only user of the output."""
    try:
        nodes = [node for node in _Tracer().trace(model).nodes if node.op == "call_module"]
    except Exception:  # whatever code raises that is run with placeholders
        for name, child in model.named_children():
            yield from _conv_norm_pairs(child, f"{prefix}{name}.")
        return
    calls = Counter(node.target for node in nodes)
    for node in nodes:
        source: Any = node.args[0] if node.args else None
        is_norm = isinstance(model.get_submodule(str(node.target)), nn.BatchNorm2d)
        if not is_norm or not isinstance(source, fx.Node) or source.op != "call_module" or len(source.users) > 1:
            continue
        is_conv = isinstance(model.get_submodule(str(source.target)), CONVOLUTIONS)
        if is_conv and calls[node.target] == calls[source.target] == 1:
            yield f"{prefix}{source.target}", f"{prefix}{node.target}"


class _Tracer(fx.Tracer):
    """Traces a model down to single layers; a dynamic convolution is one layer."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, (*CONVOLUTIONS, FusedDynamicConv2d)) or super().is_leaf_module(m, module_qualified_name)


def _replace(model: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, layer)


def _obstacle(conv: nn.Module, norm: nn.Module) -> str | None:
    """Return why a pair cannot be fused, if it cannot."""
    assert isinstance(norm, nn.BatchNorm2d)
    if norm.running_mean is None:
        return "expected running statistics, got none; without them it is no constant scale"
    if isinstance(conv, nn.ConvTranspose2d) and conv.groups > 1:  # fuse_conv_bn_eval would scale the wrong channels
        return f"expected a transposed convolution with groups=1 before it, got groups={conv.groups}; not supported"
    return None


def _fuse_pair(conv: nn.Module, norm: nn.Module) -> nn.Module:
    assert isinstance(norm, nn.BatchNorm2d)
    if isinstance(conv, DynamicConv2d):
        return FusedDynamicConv2d(conv, norm)
    assert isinstance(conv, (nn.Conv2d, nn.ConvTranspose2d))
    return fuse_conv_bn_eval(conv, norm, transpose=isinstance(conv, nn.ConvTranspose2d))
