"""A trained model without what only training needed: batch norms and the temperature are folded into the weights.

In evaluation a batch norm is one scale and one shift a channel, and convolutions are linear: the scale moves into the
kernels, into each of the K of a dynamic convolution, and the shift becomes a bias. The attention's temperature divides
what its second layer gives, so that layer takes it up.
"""

import copy
from collections import Counter
from collections.abc import Iterator
from typing import Any, TypeVar

from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from pose.models.dynamic_conv import DynamicConv2d, KernelAttention
from pose.models.fused_conv import FusedDynamicConv2d, fuse_temperature

Model = TypeVar("Model", bound=nn.Module)

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d, DynamicConv2d)


def fuse(model: Model) -> Model:
    """Return a model of equal outputs in evaluation, without batch norms and with temperature 1.

    Pairs of a convolution and the batch norm behind it are found in the flow of the data, whatever modules they are
    in; an `torch.nn.Identity` takes the place of the norm.

    Args:
        model: whose ``forward`` `torch.fx` can trace, as it can those of `pose.models`; not changed.

    Raises:
        ValueError: a batch norm stands behind something else than one convolution of its own, or has no statistics.
    """
    fused = copy.deepcopy(model).eval()
    for conv_name, norm_name in list(_pairs(fused)):
        conv, norm = fused.get_submodule(conv_name), fused.get_submodule(norm_name)
        _replace(fused, conv_name, _fold(conv, norm, norm_name))
        _replace(fused, norm_name, nn.Identity())
    left = [name for name, layer in fused.named_modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    if left:
        raise ValueError(
            f"deploy: '{left[0]}' is not the only batch norm behind one convolution, which is used once "
            f"({len(left)} such); nothing can take it up"
        )
    for layer in fused.modules():
        if isinstance(layer, KernelAttention):
            fuse_temperature(layer)
    return fused


def _pairs(model: nn.Module) -> Iterator[tuple[str, str]]:
    """Yield the names of convolutions that are used once, and of the batch norms that alone take their outputs."""
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
    """Follows a model's data from layer to layer, and does not look into convolutions."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, (*CONVOLUTIONS, FusedDynamicConv2d)) or super().is_leaf_module(m, module_qualified_name)


def _replace(model: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, layer)


def _fold(conv: nn.Module, norm: nn.Module, name: str) -> nn.Module:
    assert isinstance(norm, nn.BatchNorm2d)
    if norm.running_mean is None:
        raise ValueError(f"deploy: '{name}' keeps no running statistics, so it is never a constant scale")
    if isinstance(conv, DynamicConv2d):
        return FusedDynamicConv2d(conv, norm)
    if isinstance(conv, nn.ConvTranspose2d):
        if conv.groups > 1:  # the library scales the wrong channels
            raise ValueError(f"deploy: '{name}' stands behind a transposed convolution with groups; not supported")
        return fuse_conv_bn_eval(conv, norm, transpose=True)
    assert isinstance(conv, nn.Conv2d)
    return fuse_conv_bn_eval(conv, norm)
