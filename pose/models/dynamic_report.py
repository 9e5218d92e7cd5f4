"""Report of a model's dynamic layers: what they cost in parameters and multiply-adds."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from pose.models.complexity import count_madds
from pose.models.dynamic_layers import DynamicConvNd
from pose.models.kernel_attention import DynamicLayer


def dynamic_report(model: nn.Module, *inputs: Any) -> str:
    """Return a table of a model's dynamic layers: kernel, K, and parameters as a static and as a dynamic layer.

    Args:
        model: not changed.
        inputs: arguments to call the model with once, in evaluation mode, to count multiply-adds too.
    """
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, DynamicLayer)}
    titles = ["layer", "kernel", "K", "params static", "dynamic"]
    rows = []
    total = static_total = sum(parameter.numel() for parameter in model.parameters())
    for name, layer in layers.items():
        params = sum(parameter.numel() for parameter in layer.parameters())
        static = layer.weight[0].numel() + (0 if layer.bias is None else layer.bias[0].numel())
        static_total -= params - static
        rows.append([name or "(the model)", _kernel(layer), str(layer.num_kernels), f"{static:,}", f"{params:,}"])
    rows.append([f"total, {len(layers)} dynamic layers", "", "", f"{static_total:,}", f"{total:,}"])
    if inputs:
        madds, _ = count_madds(model, *inputs)
        titles += ["MAdds static", "dynamic"]
        for row, name in zip(rows, layers, strict=False):
            static, added = madds.get(name, (0, 0))
            row += [f"{static:,}", f"{static + added:,}"]
        static = sum(layer.static for layer in madds.values())
        rows[-1] += [f"{static:,}", f"{static + sum(layer.added for layer in madds.values()):,}"]
    return _table([titles, *rows])


def _kernel(layer: DynamicLayer) -> str:
    if not isinstance(layer, DynamicConvNd):
        return "linear"
    size = "x".join(map(str, layer.kernel_size))
    if layer.groups == layer.in_channels > 1:
        return f"depthwise {size}"
    return size if layer.groups == 1 else f"{size}, {layer.groups} groups"


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Align columns: the first two left, the others right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    cells = [
        [
            cell.ljust(width) if place < 2 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        for row in rows
    ]
    return "\n".join("  ".join(row).rstrip() for row in cells)
