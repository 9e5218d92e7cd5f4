"""Distributed training with torchrun: process group, model wrapping, collectives.

Gloo on CPU, NCCL on GPU. Without torchrun every function returns its input unchanged. This is the only module that
reads torchrun's environment variables.
"""

import gc
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as torch_dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

Item = TypeVar("Item")


@dataclass(frozen=True)
class DistContext:
    """Rank, world size and device of this process."""

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, which writes files and prints."""
        return self.rank == 0


@contextmanager
def init_distributed(device: str | None = None) -> Iterator[DistContext]:
    """Context manager: initialize torchrun's process group and destroy it at the end; without torchrun, one process.

    Args:
        device: ``"cpu"``, ``"cuda"``, ...; by default the GPU of this local rank, else the CPU.
    """
    local_rank = int(os.environ.get("LOCAL_RANK", 0))
    kind = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if kind == "cuda":
        torch.cuda.set_device(local_rank)
        chosen = torch.device("cuda", local_rank)
    else:
        chosen = torch.device(kind)
    if "WORLD_SIZE" not in os.environ:
        yield DistContext(0, 1, chosen)
        return
    torch_dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield DistContext(torch_dist.get_rank(), torch_dist.get_world_size(), chosen)
        torch_dist.barrier()  # a rank that exits while another still communicates with it can crash both
    finally:
        # Wrapped models are in reference cycles and would keep the group's threads until the interpreter exits, which
        # then sometimes aborts.
        gc.collect()
        torch_dist.destroy_process_group()


def wrap_model(model: nn.Module, dist: DistContext, sync_batch_norm: bool, accumulate: int = 1) -> nn.Module:
    """Wrap a model in DistributedDataParallel, so that its gradients are those of the global batch.

    Args:
        model: model to wrap; returned unchanged for world size 1.
        dist: rank, world size and device.
        sync_batch_norm: compute batch statistics over all ranks.
        accumulate: backward passes per step; all but the last run without gradient exchange.
    """
    if dist.world_size == 1:
        return model
    if sync_batch_norm:
        model = convert_sync_batch_norm(model)
    devices = [dist.device] if dist.device.type == "cuda" else None
    with warnings.catch_warnings():
        # torch 2.15 renames `broadcast_buffers`; older versions do not accept the new name.
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
        return DistributedDataParallel(
            model,
            device_ids=devices,
            broadcast_buffers=False,
            gradient_as_bucket_view=True,
            static_graph=accumulate == 1,  # a static graph does not allow backward passes without exchange
        )


def convert_sync_batch_norm(model: nn.Module) -> nn.Module:
    """Replace every batch norm of a model by `SyncBatchNorm2d`, in place; names and weights are kept."""
    for name, child in model.named_children():
        if isinstance(child, nn.BatchNorm2d):
            synced = SyncBatchNorm2d(child.num_features, child.eps, child.momentum)
            synced.weight, synced.bias = child.weight, child.bias
            synced.load_state_dict(child.state_dict())
            setattr(model, name, synced.to(child.weight.device))
        else:
            convert_sync_batch_norm(child)
    return model


class SyncBatchNorm2d(nn.BatchNorm2d):
    """Batch norm over the batches of all ranks, which must be of equal size. `torch.nn.SyncBatchNorm` needs a GPU."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Normalize (B, C, H, W)."""
        if not self.training:
            return super().forward(input)
        values = input.float()
        moments = torch.stack([values.mean(dim=(0, 2, 3)), values.square().mean(dim=(0, 2, 3))])
        mean, mean_square = _AllReduceSum.apply(moments) / torch_dist.get_world_size()
        variance = (mean_square - mean.square()).clamp_min(0)
        count = input.numel() // input.shape[1] * torch_dist.get_world_size()
        self._update_running_stats(mean.detach(), variance.detach(), count)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        shift = self.bias - mean * scale
        return torch.addcmul(shift[:, None, None], values, scale[:, None, None]).to(input.dtype)

    def _update_running_stats(self, mean: torch.Tensor, variance: torch.Tensor, count: int) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.momentum is not None
        assert self.num_batches_tracked is not None
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * count / max(count - 1, 1), self.momentum)
        self.num_batches_tracked += 1


class _AllReduceSum(torch.autograd.Function):
    """Sum over all ranks; the gradient is the sum of the ranks' gradients."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor) -> torch.Tensor:
        return _all_reduce_sum(values)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        return _all_reduce_sum(gradients[0])


def _all_reduce_sum(values: torch.Tensor) -> torch.Tensor:
    total = values.clone()
    torch_dist.all_reduce(total)
    return total


def broadcast_buffers(model: nn.Module, dist: DistContext) -> None:
    """Copy the buffers of rank 0 (running statistics) to all ranks, so that all validate the same model."""
    if dist.world_size > 1:
        for buffer in model.buffers():
            torch_dist.broadcast(buffer, src=0)


def all_gather(item: Item, dist: DistContext) -> list[Item]:
    """Gather the items of all ranks on every rank, ordered by rank."""
    if dist.world_size == 1:
        return [item]
    items: list[Item | None] = [None] * dist.world_size
    torch_dist.all_gather_object(items, item)
    return items  # type: ignore[return-value]


def broadcast_object(item: Item, dist: DistContext) -> Item:
    """Broadcast the item of rank 0 to every rank."""
    if dist.world_size == 1:
        return item
    items = [item]
    torch_dist.broadcast_object_list(items, src=0)
    return items[0]


def barrier(dist: DistContext) -> None:
    """Wait until every rank has called this."""
    if dist.world_size > 1:
        torch_dist.barrier()


def all_reduce_mean(value: torch.Tensor, dist: DistContext) -> torch.Tensor:
    """Return the mean of a tensor over all ranks."""
    if dist.world_size > 1:
        torch_dist.all_reduce(value)
        value /= dist.world_size
    return value
