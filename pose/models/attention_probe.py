"""Record and modify the attention of dynamic convolutions, for ablation studies of trained models.

Source: *Dynamic Convolution* (Chen et al., CVPR 2020), Tables 3 and 4. Nothing here depends on the model's task.
Layers with a single kernel are ignored.

To add a mode, write a `Change` and name it in `attention_modes`.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from pose.models.dynamic_conv import DynamicConv2d
from pose.models.dynamic_layers import DynamicLinear

Change = Callable[[Tensor], Tensor]
"""Maps the attention weights (N, K) of a layer for N inputs to the weights (N, K) to aggregate its kernels with."""


def dynamic_layers(model: nn.Module) -> dict[str, DynamicConv2d | DynamicLinear]:
    """Return the dynamic 2-D convolutions and linear layers with K > 1 of a model, by name and in module order."""
    return {
        name: layer
        for name, layer in model.named_modules()
        if isinstance(layer, (DynamicConv2d, DynamicLinear)) and layer.num_kernels > 1
    }


@dataclass(frozen=True)
class LayerAttention:
    """Attention of one layer over M inputs.

    Attributes:
        name: module name of the layer.
        kind: kernel size, such as ``1x1`` or ``depthwise 3x3``, or ``linear``.
        stride: height of the model's input divided by that of the layer's input, rounded. The paper groups layers by
            this input resolution. The input of a linear layer counts as one pixel.
        weights: (M, K) float64 attention weights.
    """

    name: str
    kind: str
    stride: int
    weights: Tensor

    @property
    def entropy(self) -> Tensor:
        """Entropy of each input's weights divided by log K, (M,): 1 for uniform weights, 0 for a single kernel."""
        return _entropy(_normalize(self.weights))

    @property
    def variation(self) -> float:
        """Dependence of the attention on the input: mutual information of input and kernel, divided by log K.

        It is the entropy of the mean weights minus the mean entropy: 0 if all inputs have the same weights.
        """
        probabilities = _normalize(self.weights)
        return max(0.0, float(_entropy(probabilities.mean(0)) - _entropy(probabilities).mean()))

    @property
    def effective_kernels(self) -> float:
        """Effective number of kernels over all inputs: exp of the entropy of the mean weights, from 1 to K.

        1 if all inputs use the same single kernel.
        """
        mean = _normalize(self.weights).mean(0)
        return math.exp(float(torch.special.entr(mean).sum()))

    def as_dict(self) -> dict[str, Any]:
        """Return the statistics as plain values for JSON; ``entropy_std`` is the deviation over the inputs."""
        entropy = self.entropy
        return {
            "name": self.name,
            "kind": self.kind,
            "stride": self.stride,
            "entropy_mean": float(entropy.mean()),
            "entropy_std": float(entropy.std(correction=0)),
            "variation": self.variation,
            "effective_kernels": self.effective_kernels,
            "mean_weights": self.weights.mean(0).tolist(),
        }


def _normalize(weights: Tensor) -> Tensor:
    """Divide by the sum over the kernels, which differs from 1 for sigmoid attention only."""
    return weights / weights.sum(-1, keepdim=True)


def _entropy(probabilities: Tensor) -> Tensor:
    entropy: Tensor = torch.special.entr(probabilities).sum(-1) / math.log(probabilities.shape[-1])
    return entropy


class AttentionRecord:
    """Context manager that records the attention of every dynamic layer in all forward passes of a model.

    Args:
        model: called with images (N, C, H, W) as its first argument.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._layers = dynamic_layers(model)
        self._weights: dict[str, list[Tensor]] = {name: [] for name in self._layers}
        self._strides: dict[str, int] = {}
        self._input_height = 0
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []

    def __enter__(self) -> "AttentionRecord":
        self._hooks.append(self._model.register_forward_pre_hook(self._record_input_height))
        for name, layer in self._layers.items():
            self._hooks.append(layer.register_forward_hook(self._stride_hook(name)))
            self._hooks.append(layer.attention.register_forward_hook(self._attention_hook(name)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def layers(self) -> list[LayerAttention]:
        """Return the recorded attention of each layer, without layers that were never called."""
        return [
            LayerAttention(name, _kind(layer), self._strides[name], torch.cat(self._weights[name]))
            for name, layer in self._layers.items()
            if self._weights[name]
        ]

    def _record_input_height(self, model: nn.Module, arguments: tuple[Any, ...]) -> None:
        self._input_height = arguments[0].shape[2]

    def _stride_hook(self, name: str) -> Callable[[nn.Module, tuple[Any, ...], Tensor], None]:
        def record_stride(layer: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> None:
            height = arguments[0].shape[2] if isinstance(layer, DynamicConv2d) else 1
            self._strides[name] = round(self._input_height / height)

        return record_stride

    def _attention_hook(self, name: str) -> Callable[[nn.Module, tuple[Any, ...], Tensor], None]:
        def record_weights(attention: nn.Module, arguments: tuple[Any, ...], weights: Tensor) -> None:
            self._weights[name].append(weights.detach().double().cpu())

        return record_weights


def _kind(layer: DynamicConv2d | DynamicLinear) -> str:
    if isinstance(layer, DynamicLinear):
        return "linear"
    height, width = layer.kernel_size
    depthwise = layer.groups == layer.in_channels > 1
    return f"{'depthwise ' if depthwise else ''}{height}x{width}"


@contextmanager
def changed_attention(model: nn.Module, changes: Mapping[str, Change]) -> Iterator[None]:
    """Context manager that modifies the attention of the layers named in ``changes``; restores the model at exit.

    Raises:
        KeyError: the model has no dynamic layer of this name.
    """
    attentions = {name: dynamic_layers(model)[name].attention for name in changes}
    hooks = [attentions[name].register_forward_hook(_output_hook(change)) for name, change in changes.items()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _output_hook(change: Change) -> Callable[[nn.Module, tuple[Any, ...], Tensor], Tensor]:
    return lambda attention, arguments, weights: change(weights)


def average(weights: Tensor) -> Tensor:
    """Replace the weights of each input by their mean over the kernels: 1 / K for softmax attention."""
    return weights.mean(1, keepdim=True).expand_as(weights)


def argmax_only(weights: Tensor) -> Tensor:
    """Keep only the kernel with the largest weight and give it the sum of all weights: 1 for softmax attention."""
    one_hot = nn.functional.one_hot(weights.argmax(1), weights.shape[1]).to(weights)
    return one_hot * weights.sum(1, keepdim=True)


def shuffle_within(generator: torch.Generator) -> Change:
    """Permute the weights of each input randomly over its kernels, so that no kernel keeps its own (paper, Table 3).

    Args:
        generator: CPU generator of the permutations.
    """

    def change(weights: Tensor) -> Tensor:
        return weights.gather(1, _derangements(len(weights), weights.shape[1], generator).to(weights.device))

    return change


def _derangements(count: int, size: int, generator: torch.Generator) -> Tensor:
    """Return ``count`` random permutations (count, size) without fixed points, all of them equally likely."""
    orders = torch.rand((count, size), generator=generator).argsort(1)
    while (fixed := (orders == torch.arange(size)).any(1)).any():  # a third of the permutations has none
        orders[fixed] = torch.rand((int(fixed.sum()), size), generator=generator).argsort(1)
    return orders


def shuffle_across(weights: Tensor) -> Tensor:
    """Give each input the weights of another one, half a batch away in every layer; a batch of one is unchanged."""
    return weights.roll(max(1, len(weights) // 2), 0)


def constant(weights: Tensor) -> Change:
    """Return a change that gives every input the same weights (K,)."""
    return lambda attention: weights.to(attention).expand_as(attention)


def attention_modes(layers: Sequence[LayerAttention], generator: torch.Generator) -> dict[str, dict[str, Change]]:
    """Return the ablation modes, each as changes by layer name: the rows of the paper's Tables 3 and 4, and ours.

    Table 4 switches the attention on by input resolution, from the deepest layers (``on from stride 16 to deeper``) and
    from the shallowest (``on up to stride 4``). Where it is off the weights are uniform. Ours are ``mean of all
    inputs``, which gives each layer the static kernel that it aggregates on average, and one stride only, or one off.

    Args:
        layers: attention recorded over the test inputs.
        generator: CPU generator of the permutations.
    """

    def everywhere(change: Change) -> dict[str, Change]:
        return {layer.name: change for layer in layers}

    modes: dict[str, dict[str, Change]] = {
        "averaged": everywhere(average),
        "mean of all inputs": {layer.name: constant(layer.weights.mean(0)) for layer in layers},
        "largest only": everywhere(argmax_only),
        "shuffled within each image": everywhere(shuffle_within(generator)),
        "shuffled across images": everywhere(shuffle_across),
    }
    strides = sorted({layer.stride for layer in layers})
    for stride in reversed(strides[1:]):
        modes[f"on from stride {stride} to deeper"] = {layer.name: average for layer in layers if layer.stride < stride}
    for stride in strides[:-1]:
        modes[f"on up to stride {stride}"] = {layer.name: average for layer in layers if layer.stride > stride}
    for stride in strides:
        modes[f"only at stride {stride}"] = {layer.name: average for layer in layers if layer.stride != stride}
    for stride in strides:
        modes[f"off at stride {stride}"] = {layer.name: average for layer in layers if layer.stride == stride}
    return modes
