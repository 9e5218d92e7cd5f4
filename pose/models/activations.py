"""ReLU6 for training with half the memory.

For its backward pass PyTorch's `torch.nn.ReLU6` keeps its input, of which it makes a copy if it works in place. The
output says the same: the gradient passes where it is above 0 and below 6. The next layer keeps the output anyway.
"""

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from pose.models.kernel_attention import is_proxy, leaf_node


class ReLU6(nn.ReLU6):
    """`torch.nn.ReLU6` that keeps its output and not its input for the backward pass."""

    def forward(self, input: Tensor) -> Tensor:
        """Map a tensor to one of the same shape."""
        if is_proxy(input):
            return leaf_node(self, input)  # type: ignore[no-any-return]
        if torch.is_grad_enabled() and input.requires_grad and not torch.compiler.is_compiling():
            y: Tensor = _ReLU6.apply(input)
            return y
        return super().forward(input)


class _ReLU6(torch.autograd.Function):
    """ReLU6; its backward pass consists of a differentiable operator."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.clamp(0, 6)

    @staticmethod
    def setup_context(ctx: FunctionCtx, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return torch.ops.aten.hardtanh_backward(gradient, y, 0.0, 6.0)  # type: ignore[no-any-return]
