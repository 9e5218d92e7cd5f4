"""Attention over K parallel kernels, and the base class of all dynamic layers.

Source: *Dynamic Convolution: Attention over Convolution Kernels* (Chen et al., CVPR 2020), sections 3 and 4.2.
"""

from collections.abc import Callable, Iterable
from math import prod
from operator import index
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, fx, nn

AttentionKind = Literal["softmax", "sigmoid"]

MIN_TEMPERATURE = 1e-6
"""Smallest temperature of the softmax: logits divided by a much smaller one are infinite."""

SizeArgument = int | Iterable[int]
"""One number for all axes, or one for each."""

Layer = TypeVar("Layer", bound="DynamicLayer")

is_exporting: Callable[[], bool] = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)
"""Whether `torch.export` is tracing, for which sizes are symbols; before torch 2.7 also true in `torch.compile`."""


class KernelAttention(nn.Module):
    """Attention over K kernels: average pooling, FC, ReLU, FC, softmax (paper, section 3.2 and Figure 3).

    The kind ``sigmoid`` is the routing function of CondConv (Yang et al., NeurIPS 2019): average pooling, one FC,
    sigmoid. Its K weights are independent, and there is no hidden layer and no temperature.

    Args:
        channels: input channels.
        num_kernels: K.
        reduction: ratio of input channels to hidden units of ``softmax``; there is at least one hidden unit.
        temperature: tau of the softmax (section 4.2); a larger tau gives more uniform weights.
        kind: ``softmax`` (the paper) or ``sigmoid`` (CondConv).
        device: of the parameters.
        dtype: of the parameters.

    Attributes:
        fc1: from the channels to the hidden units; None for ``sigmoid``.
        fc2: from the hidden units, or for ``sigmoid`` the channels, to K logits.
    """

    fc1: nn.Linear | None
    temperature: Tensor

    def __init__(
        self,
        channels: int,
        num_kernels: int,
        reduction: int,
        temperature: float,
        kind: AttentionKind,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.kind = kind
        hidden = channels if kind == "sigmoid" else max(1, channels // reduction)
        self.fc1 = None if kind == "sigmoid" else nn.Linear(channels, hidden, device=device, dtype=dtype)
        self.fc2 = nn.Linear(hidden, num_kernels, device=device, dtype=dtype)
        # Saved in the state dict, because the weights are trained for one temperature.
        self.register_buffer("temperature", torch.tensor(float(temperature), device=device, dtype=dtype))

    def reset_parameters(self) -> None:
        """Initialize the linear layers anew; the temperature stays."""
        if self.fc1 is not None:
            self.fc1.reset_parameters()
        self.fc2.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """Map features (N, C, ...) to kernel weights (N, K)."""
        if self.fc1 is None:
            return _pool_and_map(x, self.fc2).sigmoid()
        hidden = _pool_and_map(x, self.fc1).relu_()
        logits = torch.addmm(self.fc2.bias, hidden, self.fc2.weight.t())
        return (logits / self.temperature).softmax(1)


def _pool_and_map(x: Tensor, fc: nn.Linear) -> Tensor:
    """Average features (N, C, ...) over all axes after the channels, and apply a linear layer."""
    # For one sample the time is operator overhead: calling `fc` as a module would take nearly twice as long.
    bias, weight = fc.bias, fc.weight.t()
    dims = x.dim()
    if dims == 2:
        return torch.addmm(bias, x, weight)
    axes = (2, 3) if dims == 4 else tuple(range(2, dims))
    if torch.compiler.is_compiling():  # or exporting, for which sizes are symbols
        return torch.addmm(bias, x.mean(axes), weight)
    # Plain numbers also under jit tracing, where sizes are tensors.
    pixels = int(x.shape[2]) * int(x.shape[3]) if dims == 4 else prod(map(int, x.shape[2:]))
    if x.dtype != torch.float16:
        # A sum instead of a mean: its gradient is an expanded view, that of a mean is a new tensor of the size of
        # x. The division is the product's alpha, which costs nothing. bf16 has the range: PyTorch accumulates it in
        # fp32 and rounds once, and dtype=torch.float32 would first copy x to fp32.
        y = torch.addmm(bias, x.sum(axes), weight, alpha=1 / pixels)
        if y.dtype != torch.float16:
            return y
    # A product in fp16, of autocast or of the input, whose range a sum may exceed: divided before the product.
    pooled = x.sum(axes, dtype=torch.float32 if x.dtype == torch.float16 else None) / pixels
    return torch.addmm(bias, pooled.to(x.dtype), weight)


class DynamicLayer(nn.Module):
    """K parallel kernels with an attention that aggregates them for each sample: base class of all dynamic layers.

    Args:
        in_channels: input channels, from which the attention is computed.
        out_channels: size of a bias.
        kernel_shape: shape of one kernel, as the static layer has it.
        bias: also aggregate K biases; redundant before a batch norm.
        num_kernels: K.
        reduction: ratio of input channels to the softmax attention's hidden units.
        temperature: tau of the softmax; changed by `set_temperature`.
        attention: ``softmax`` or ``sigmoid``, see `KernelAttention`.
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        ValueError: an argument is out of range.
    """

    sample_dims: int
    """Number of dimensions of one sample without a batch axis."""
    fan: Literal["fan_in", "fan_out"] = "fan_out"
    """What `torch.nn.init` calls the outputs that one input reaches."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_shape: tuple[int, ...],
        bias: bool,
        num_kernels: int,
        reduction: int,
        temperature: float,
        attention: AttentionKind,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        num_kernels = to_whole(num_kernels, f"{name}: num_kernels")
        reduction = to_whole(reduction, f"{name}: reduction")
        if num_kernels < 1 or reduction < 1 or not temperature >= MIN_TEMPERATURE:
            raise ValueError(
                f"{name}: expected num_kernels >= 1, reduction >= 1 and temperature >= {MIN_TEMPERATURE:g}, "
                f"got {num_kernels}, {reduction} and {temperature}"
            )
        if attention not in ("softmax", "sigmoid"):
            raise ValueError(f"{name}: expected attention 'softmax' or 'sigmoid', got {attention!r}")
        self.num_kernels = num_kernels
        self.attention = KernelAttention(in_channels, num_kernels, reduction, temperature, attention, device, dtype)
        self.weight = nn.Parameter(torch.empty(num_kernels, *kernel_shape, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(num_kernels, out_channels, device=device, dtype=dtype)) if bias else None
        self._reset_kernels()

    def forward(self, x: Tensor, shift: Tensor | None = None) -> Tensor:
        """Apply the layer to a batch, or to one sample without a batch axis.

        Args:
            x: (N, in_channels, ...) or (in_channels, ...).
            shift: (out_channels,) bias added as it is, without aggregation: the shift of a fused batch norm.
        """
        if is_proxy(x):
            return leaf_node(self, x)  # type: ignore[no-any-return]
        if x.dim() == self.sample_dims:
            return self.forward(x[None], shift)[0]
        return self._forward(x, shift)

    def _forward(self, x: Tensor, shift: Tensor | None) -> Tensor:
        raise NotImplementedError

    def _aggregate_bias(self, attention: Tensor, shift: Tensor | None) -> Tensor | None:
        """Return the bias of each sample, (N, out_channels) or (out_channels,), with the shift added."""
        bias = None if self.bias is None else aggregate(attention, self.bias)
        if shift is None:
            return bias
        return shift if bias is None else bias + shift

    def reset_parameters(self) -> None:
        """Initialize the attention, the kernels and the biases anew, as a new layer does."""
        self.attention.reset_parameters()
        self._reset_kernels()

    @torch.no_grad()
    def _reset_kernels(self) -> None:
        for kernel in self.weight:
            nn.init.kaiming_normal_(kernel, mode=self.fan)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def _apply(self: Layer, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Layer:
        """Apply a function to all parameters, as `torch.nn.Module` does; kernels stay contiguous.

        `Module.to` with a memory format would fail on the 5-D kernels of a 2-D convolution, and kernels in another
        layout would be copied in every aggregation.
        """

        def apply_to(tensor: Tensor) -> Tensor:
            if tensor.dim() < 4:
                return fn(tensor)
            kernels: Tensor = fn(tensor.flatten(0, 1)).contiguous().unflatten(0, tensor.shape[:2])
            return kernels

        super()._apply(apply_to, recurse)  # type: ignore[no-untyped-call]
        return self


def is_proxy(x: object) -> bool:
    """Whether `torch.fx` is tracing."""
    return isinstance(x, fx.Proxy)


def leaf_node(module: nn.Module, x: Any) -> Any:
    """Record a call of ``module`` as one node of the graph that `torch.fx` traces, as it does for torch's own layers.

    Raises:
        ValueError: the layer itself is traced.
    """
    path = x.tracer.path_of_module(module)
    if not path:
        raise ValueError(
            f"{type(module).__name__}: expected a model that holds this layer, got the layer itself to trace; "
            "wrap it in torch.nn.Sequential"
        )
    return x.tracer.create_proxy("call_module", path, (x,), {})


def aggregate(attention: Tensor, bank: Tensor) -> Tensor:
    """Return the weighted sums (N, ...) of K tensors (K, ...) with weights (N, K)."""
    return (attention @ bank.flatten(1)).view(-1, *bank.shape[1:])


def set_temperature(module: nn.Module, temperature: float) -> None:
    """Set the softmax temperature of every dynamic layer in ``module``, in place; a static model is unchanged.

    Raises:
        ValueError: ``temperature`` is below `MIN_TEMPERATURE`.
    """
    if not temperature >= MIN_TEMPERATURE:
        raise ValueError(f"temperature: expected at least {MIN_TEMPERATURE:g}, got {temperature}")
    for child in module.modules():
        if isinstance(child, KernelAttention):
            child.temperature.fill_(temperature)


def to_sizes(value: SizeArgument, axes: int, name: str) -> tuple[int, ...]:
    """Return one whole number per axis, from one number or a sequence of them.

    Raises:
        ValueError: there are more or fewer, or they are not whole numbers.
    """
    try:
        sizes = tuple(map(_whole, value)) if isinstance(value, Iterable) else (_whole(value),) * axes
    except TypeError:
        sizes = ()
    if len(sizes) != axes:
        raise ValueError(f"{name}: expected a whole number or {axes} of them, got {value!r}")
    return sizes


def to_whole(value: int, name: str) -> int:
    """Return a whole number of Python from one of any library.

    Raises:
        ValueError: it is not a whole number.
    """
    try:
        return _whole(value)
    except TypeError:
        raise ValueError(f"{name}: expected a whole number, got {value!r}") from None


def _whole(value: int) -> int:
    if isinstance(value, bool):
        raise TypeError
    return index(value)
