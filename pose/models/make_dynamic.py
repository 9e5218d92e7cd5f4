"""Make any CNN dynamic: its `torch.nn.Conv2d` layers become `DynamicConv2d` layers that start with the same outputs.

Each new layer holds K copies of the static kernel, see `pose.models.inflate`. The copies separate in training, as far
as the attention differs between inputs.
"""

import copy
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import TypeVar

from torch import nn

from pose.models.depthwise import Conv2d
from pose.models.dynamic_conv import DynamicConv2d
from pose.models.inflate import inflate
from pose.models.kernel_attention import AttentionKind, KernelAttention, set_temperature

Model = TypeVar("Model", bound=nn.Module)

NameFilter = str | Sequence[str] | Callable[[str], bool]
"""Patterns such as ``layer3.*`` (`fnmatch`), or a function from a module name to whether it is chosen."""


def make_dynamic(
    model: Model,
    num_kernels: int = 4,
    temperature: float = 30.0,
    *,
    reduction: int = 4,
    attention: AttentionKind = "softmax",
    skip_first: bool = True,
    include: NameFilter | None = None,
    exclude: NameFilter | None = None,
) -> Model:
    """Return a copy of a model in which the convolutions are dynamic and the outputs are the same, up to rounding.

    Replaced are layers of the class `torch.nn.Conv2d` itself (also `pose.models.depthwise.Conv2d`), of any kernel size,
    groups and padding. Subclasses and layers with hooks or with a reparametrized weight compute something else and stay
    as they are. Device, dtype, training mode and ``requires_grad`` are kept. Only the attention is random, drawn from
    torch's default generator.

    Args:
        model: not changed.
        num_kernels: K of each layer.
        temperature: tau of the softmax; `set_temperature` changes it later.
        reduction: ratio of input channels to the softmax attention's hidden units.
        attention: ``softmax``, or ``sigmoid`` as in CondConv, see `pose.models.kernel_attention.KernelAttention`.
        skip_first: keep the model's first convolution (by order of registration) static, as the paper does, whatever
            the names to include are.
        include: names of the convolutions to replace; default all.
        exclude: names of convolutions to keep.

    Raises:
        ValueError: an argument is out of range, a pattern of ``include`` matches no convolution, or none is chosen.
    """
    dynamic = copy.deepcopy(model)
    chosen = _choose(dynamic, skip_first, include, exclude)
    layers = {
        conv: _dynamic_layer(conv, seed, num_kernels, temperature, reduction, attention)
        for seed, conv in enumerate(chosen.values())
    }
    if dynamic in layers:
        return layers[dynamic]  # type: ignore[return-value]
    for parent in list(dynamic.modules()):
        for name, child in parent._modules.items():  # unlike named_children(), with a layer that has two names
            if child in layers:
                parent._modules[name] = layers[child]
    return dynamic


def attention_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of all attentions in a model, for a parameter group of the optimizer."""
    attentions = (layer for layer in model.modules() if isinstance(layer, KernelAttention))
    return [parameter for attention in attentions for parameter in attention.parameters()]


def _choose(
    model: nn.Module, skip_first: bool, include: NameFilter | None, exclude: NameFilter | None
) -> dict[str, nn.Conv2d]:
    """Return the convolutions to replace, by name."""
    convs = {name: layer for name, layer in model.named_modules() if _is_plain(layer)}
    candidates = dict(list(convs.items())[skip_first:])
    if not callable(include) and include is not None:
        for pattern in [include] if isinstance(include, str) else include:
            if not any(fnmatchcase(name, pattern) for name in convs):
                raise ValueError(f"make_dynamic: include: expected the name of an nn.Conv2d, got {pattern!r}; no match")
    chosen = {
        name: conv
        for name, conv in candidates.items()
        if (include is None or _matches(name, include)) and not (exclude is not None and _matches(name, exclude))
    }
    if not chosen:
        raise ValueError(
            f"make_dynamic: expected at least one nn.Conv2d to replace, got none of {len(convs)}; see skip_first, "
            "include and exclude"
        )
    return chosen


def _is_plain(layer: nn.Module) -> bool:
    """Whether a layer computes what `torch.nn.Conv2d` does with its own weight, and nothing more."""
    hooks = (layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks)
    return type(layer) in (nn.Conv2d, Conv2d) and "weight" in layer._parameters and not any(hooks)


def _matches(name: str, names: NameFilter) -> bool:
    if callable(names):
        return names(name)
    return any(fnmatchcase(name, pattern) for pattern in ([names] if isinstance(names, str) else names))


def _dynamic_layer(
    conv: nn.Conv2d, seed: int, num_kernels: int, temperature: float, reduction: int, attention: AttentionKind
) -> DynamicConv2d:
    """Return a layer with the outputs of ``conv``; ``seed`` is for `inflate`."""
    layer = DynamicConv2d(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,
        conv.stride,
        conv.padding,
        conv.dilation,
        conv.groups,
        conv.bias is not None,
        conv.padding_mode,
        "meta",  # whose kernels need no random numbers
        conv.weight.dtype,
        num_kernels=num_kernels,
        temperature=temperature,
        reduction=reduction,
        attention=attention,
    ).to_empty(device=conv.weight.device)
    layer.attention.reset_parameters()
    set_temperature(layer, temperature)
    layer.load_state_dict(inflate(conv.state_dict(), layer, seed))
    layer.weight.requires_grad_(conv.weight.requires_grad)
    layer.attention.requires_grad_(conv.weight.requires_grad)
    if layer.bias is not None and conv.bias is not None:
        layer.bias.requires_grad_(conv.bias.requires_grad)
    return layer.train(conv.training)
