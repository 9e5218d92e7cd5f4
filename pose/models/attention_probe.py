"""The attention of a trained model's dynamic convolutions: watched over many inputs, and changed to see what it is worth.

Source: *Dynamic Convolution* (Chen et al., CVPR 2020), where trained models are inspected (Tables 3 and 4). Nothing here
knows what a model is for. Convolutions of a single kernel have nothing to mix and are left out everywhere.

To add a mode: write a `Change`, name it in `attention_modes`.
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

Change = Callable[[Tensor], Tensor]
"""From the weights (N, K) that a layer finds for N inputs to the weights (N, K) to mix its kernels with."""


def dynamic_layers(model: nn.Module) -> dict[str, DynamicConv2d]:
    """Return the dynamic convolutions of a model by their names, in the order of its modules."""
    return {
        name: layer
        for name, layer in model.named_modules()
        if isinstance(layer, DynamicConv2d) and layer.num_kernels > 1
    }


@dataclass(frozen=True)
class LayerAttention:
    """What one layer's attention was over M inputs.

    Attributes:
        name: of the layer in the model.
        kind: kernel size in words, ``1x1`` or ``depthwise 3x3``.
        stride: height of the model's input over that of the layer's output, rounded.
        weights: (M, K) float64 of the K kernels for each input.
    """

    name: str
    kind: str
    stride: int
    weights: Tensor

    @property
    def entropy(self) -> Tensor:
        """Entropy of each input's weights over log K, (M,): 1 where all kernels weigh the same, 0 for one alone."""
        return _entropy(_shares(self.weights))

    @property
    def variation(self) -> float:
        """How much the input decides: the mutual information of input and kernel, over log K.

        It is the entropy of the mean weights less the mean entropy: 0 where every input has the same weights.
        """
        shares = _shares(self.weights)
        return max(0.0, float(_entropy(shares.mean(0)) - _entropy(shares).mean()))

    def as_dict(self) -> dict[str, Any]:
        """Return figures for a JSON file; ``entropy_std`` is over the inputs."""
        entropy = self.entropy
        return {
            "name": self.name,
            "kind": self.kind,
            "stride": self.stride,
            "entropy_mean": float(entropy.mean()),
            "entropy_std": float(entropy.std(correction=0)),
            "variation": self.variation,
            "mean_weights": self.weights.mean(0).tolist(),
        }


def _shares(weights: Tensor) -> Tensor:
    """Divide by the sum over kernels, which is 1 unless the attention is a sigmoid's."""
    return weights / weights.sum(-1, keepdim=True)


def _entropy(shares: Tensor) -> Tensor:
    entropy: Tensor = torch.special.entr(shares).sum(-1) / math.log(shares.shape[-1])
    return entropy


class AttentionRecord:
    """Keeps the attention of every dynamic convolution for all that a model sees while this context is entered.

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
        self._hooks.append(self._model.register_forward_pre_hook(self._look_at_input))
        for name, layer in self._layers.items():
            self._hooks.append(layer.register_forward_hook(self._measuring(name)))
            self._hooks.append(layer.attention.register_forward_hook(self._keeping(name)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def layers(self) -> list[LayerAttention]:
        """Return what was seen, layer by layer; layers that no input reached are left out."""
        return [
            LayerAttention(name, _kind(layer), self._strides[name], torch.cat(self._weights[name]))
            for name, layer in self._layers.items()
            if self._weights[name]
        ]

    def _look_at_input(self, model: nn.Module, arguments: tuple[Any, ...]) -> None:
        self._input_height = arguments[0].shape[2]

    def _measuring(self, name: str) -> Callable[[nn.Module, tuple[Any, ...], Tensor], None]:
        def measure(layer: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> None:
            self._strides[name] = round(self._input_height / output.shape[2])

        return measure

    def _keeping(self, name: str) -> Callable[[nn.Module, tuple[Any, ...], Tensor], None]:
        def keep(attention: nn.Module, arguments: tuple[Any, ...], weights: Tensor) -> None:
            self._weights[name].append(weights.detach().double().cpu())

        return keep


def _kind(layer: DynamicConv2d) -> str:
    height, width = layer.kernel_size
    depthwise = layer.groups == layer.in_channels > 1
    return f"{'depthwise ' if depthwise else ''}{height}x{width}"


@contextmanager
def changed_attention(model: nn.Module, changes: Mapping[str, Change]) -> Iterator[None]:
    """Change the attention of the layers that ``changes`` names; afterwards the model is as it was.

    Raises:
        KeyError: the model has no such dynamic layer.
    """
    attentions = {name: dynamic_layers(model)[name].attention for name in changes}
    hooks = [attentions[name].register_forward_hook(_changing(change)) for name, change in changes.items()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _changing(change: Change) -> Callable[[nn.Module, tuple[Any, ...], Tensor], Tensor]:
    return lambda attention, arguments, weights: change(weights)


def average(weights: Tensor) -> Tensor:
    """Give all kernels the same weight: 1 / K, or the mean of a sigmoid's weights."""
    return weights.mean(1, keepdim=True).expand_as(weights)


def argmax_only(weights: Tensor) -> Tensor:
    """Give the kernel of the largest weight the weight of all: 1, or the sum of a sigmoid's weights."""
    alone = nn.functional.one_hot(weights.argmax(1), weights.shape[1]).to(weights)
    return alone * weights.sum(1, keepdim=True)


def shuffle_within(generator: torch.Generator) -> Change:
    """Exchange the kernels' weights within each input, in an order drawn anew for each; the generator is a CPU's."""

    def change(weights: Tensor) -> Tensor:
        order = torch.rand(weights.shape, generator=generator).argsort(1)
        return weights.gather(1, order.to(weights.device))

    return change


def shuffle_across(weights: Tensor) -> Tensor:
    """Give each input the weights of the one half a batch away, the same in every layer; one alone keeps its own."""
    return weights.roll(max(1, len(weights) // 2), 0)


def constant(weights: Tensor) -> Change:
    """Give every input the same weights (K,)."""
    return lambda found: weights.to(found).expand_as(found)


def attention_modes(layers: Sequence[LayerAttention], generator: torch.Generator) -> dict[str, dict[str, Change]]:
    """Return what to do to a model's attention, mode by mode: the rows of the paper's Tables 3 and 4, and ours.

    Ours is ``mean of all inputs``: static as well, but the mixture that the model makes on average. By resolution there
    are two rows a stride, attention nowhere else and attention everywhere else; where it is off it is averaged.

    Args:
        layers: as recorded over the inputs to test on.
        generator: of the random orders.
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
    for stride in strides:
        modes[f"only at stride {stride}"] = {layer.name: average for layer in layers if layer.stride != stride}
    for stride in strides:
        modes[f"off at stride {stride}"] = {layer.name: average for layer in layers if layer.stride == stride}
    return modes
