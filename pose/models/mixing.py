"""Products with aggregated kernels that are not computed, for maps of few pixels.

Aggregation takes N times the size of a kernel in memory traffic, forward and backward, however small the map is.
"""

from torch import Tensor


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
