"""Products of the rows of each sample with its aggregated matrix: 1x1 convolutions and the linear layer.

A row is a pixel of a map. All forms give the same up to rounding; they differ in time and memory:

- `mix_products` computes no aggregated matrix: for maps of few pixels;
- `aggregated_product` computes it, in training once more in the backward pass, so that the graph does not keep a matrix
  for every sample: for a batch of 32 they would take a twentieth of the memory of a training step.
"""

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from pose.models.depthwise import autocast
from pose.models.kernel_attention import aggregate

CHUNK_BYTES = 5 << 19
"""Size of the matrices that are aggregated at a time on a CPU; 2.5 MB stay in the core's cache until used."""


def mix_products(rows: Tensor, attention: Tensor, bank: Tensor) -> Tensor:
    """Multiply the rows of each sample by its aggregated matrix, which is not computed.

    One product of all rows with all K matrices takes K times the multiplications, but reads K matrices instead of N.
    The weights multiply its inputs or its outputs, whichever are fewer.

    Args:
        rows: (N, P, inputs).
        attention: (N, K).
        bank: (K, outputs, inputs).

    Returns:
        (N, P, outputs).
    """
    outputs, inputs = bank.shape[1:]
    if inputs <= outputs:
        weighted = rows[:, :, None] * attention.to(rows.dtype)[:, None, :, None]
        y: Tensor = weighted.flatten(2) @ bank.transpose(1, 2).flatten(0, 1)
        return y
    products = (rows @ bank.flatten(0, 1).t()).view(*rows.shape[:2], *bank.shape[:2])
    return (products * attention.to(products.dtype)[:, None, :, None]).sum(2)


def mixing_is_faster(batch: int, rows: int, num_kernels: int) -> bool:
    """Whether `mix_products` is faster than aggregation: for few rows in each of many samples."""
    return rows <= num_kernels < batch


def aggregated_product(rows: Tensor, attention: Tensor, bank: Tensor, transposed: bool = False) -> Tensor:
    """Multiply the rows of each sample by its aggregated matrix, with the result of `mix_products`.

    Args:
        rows: (N, P, inputs).
        attention: (N, K).
        bank: (K, outputs, inputs).
        transposed: memory layout of ``rows`` and of the result: as (N, inputs, P), which is that of maps in the
            default layout.
    """
    if torch.compiler.is_compiling() or rows.device.type != "cpu":
        product = _multiply(rows, aggregate(attention, bank), transposed)
        return product.transpose(1, 2) if transposed else product
    if torch.is_autocast_enabled("cpu"):
        # Autocast does not cast the inputs of a custom autograd function.
        rows, attention, bank = (autocast(tensor) for tensor in (rows, attention, bank))
    y: Tensor = _AggregatedProduct.apply(rows, attention, bank, transposed)
    return y.transpose(1, 2) if transposed else y


class _AggregatedProduct(torch.autograd.Function):
    """The product, with the matrices computed once more in the backward pass.

    The backward pass consists of differentiable operators, so that second derivatives are PyTorch's own.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(rows: Tensor, attention: Tensor, bank: Tensor, transposed: bool) -> Tensor:
        size = _chunk_size(rows, bank)
        chunks = zip(rows.split(size), attention.split(size), strict=True)
        return _join([_multiply(some, aggregate(weights, bank), transposed) for some, weights in chunks])

    @staticmethod
    def setup_context(ctx: FunctionCtx, inputs: tuple[Tensor, Tensor, Tensor, bool], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:3])
        ctx.transposed = inputs[3]  # type: ignore[attr-defined]

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        rows, attention, bank = ctx.saved_tensors  # type: ignore[attr-defined]
        transposed: bool = ctx.transposed  # type: ignore[attr-defined]
        needs_rows, needs_attention, needs_bank, _ = ctx.needs_input_grad  # type: ignore[attr-defined]
        size = _chunk_size(rows, bank)
        of_rows, of_attention, of_bank = [], [], None
        gradient = gradient.transpose(1, 2) if transposed else gradient
        for part, some, weights in zip(gradient.split(size), rows.split(size), attention.split(size), strict=True):
            if needs_rows:
                of_rows.append(_multiply(part, aggregate(weights, bank).transpose(1, 2), transposed))
            if needs_attention or needs_bank:
                of_matrices = torch.bmm(part.transpose(1, 2), some).flatten(1)
                of_attention.append(of_matrices @ bank.flatten(1).t())
                # In half precision the sum over chunks would round once for each.
                product = (weights.t() @ of_matrices).to(torch.promote_types(bank.dtype, torch.float32))
                of_bank = product if of_bank is None else of_bank + product
        return (
            (_join(of_rows).transpose(1, 2) if transposed else _join(of_rows)) if needs_rows else None,
            _join(of_attention) if needs_attention else None,
            of_bank.view_as(bank).to(bank.dtype) if needs_bank and of_bank is not None else None,
            None,
        )


def _multiply(rows: Tensor, matrices: Tensor, transposed: bool) -> Tensor:
    """Multiply rows (N, P, inputs) by matrices (N, outputs, inputs): (N, outputs, P) if transposed, (N, P, outputs)."""
    if transposed:
        return torch.bmm(matrices, rows.transpose(1, 2))
    return torch.bmm(rows, matrices.transpose(1, 2))


def _chunk_size(rows: Tensor, bank: Tensor) -> int:
    """Return how many samples to multiply at a time: all where the rows are larger than the matrices."""
    outputs, inputs = bank.shape[1:]
    if rows.shape[1] >= min(outputs, inputs):
        return max(1, len(rows))
    return max(1, CHUNK_BYTES // (outputs * inputs * rows.element_size()))


def _join(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)
