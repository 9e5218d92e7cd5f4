"""Distributed training with torchrun: process group, model wrapping, collectives.

Gloo on CPU, NCCL on GPU. Without torchrun every function returns its input unchanged. `pose.engine.launch` starts and
ends the process group.
"""

import warnings
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as torch_dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

Item = TypeVar("Item")


@dataclass(frozen=True)
class DistContext:
    """Rank, world size and device of this process.

    Attributes:
        rank: number of this process.
        world_size: number of processes.
        device: of this process.
        patient_group: process group without a timeout, for `barrier`; None: the default group.
    """

    rank: int
    world_size: int
    device: torch.device
    patient_group: Any = None

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, which writes files and prints."""
        return self.rank == 0


def seed_step(seed: int, step: int, dist: DistContext) -> None:
    """Seed torch's generators for a step: a resumed run draws the same numbers again, and each rank draws others."""
    torch.manual_seed(int(np.random.SeedSequence((seed, step, dist.rank)).generate_state(1, np.uint64)[0]))


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
        model = convert_sync_batch_norm(model, dist.device)
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


def convert_sync_batch_norm(model: nn.Module, device: torch.device) -> nn.Module:
    """Replace every batch norm of a model, in place; names and weights are kept.

    On a GPU by `torch.nn.SyncBatchNorm`, which needs one, else by `SyncBatchNorm2d`.
    """
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-any-return]
    for name, child in model.named_children():
        if isinstance(child, nn.BatchNorm2d):
            synced = SyncBatchNorm2d(child.num_features, child.eps, child.momentum)
            synced.weight, synced.bias = child.weight, child.bias
            synced.load_state_dict(child.state_dict())
            setattr(model, name, synced.to(child.weight.device))
        else:
            convert_sync_batch_norm(child, device)
    return model


class SyncBatchNorm2d(nn.BatchNorm2d):
    """Batch norm over the batches of all ranks, which must be of equal size."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Normalize (B, C, H, W)."""
        if not self.training:
            return super().forward(input)
        values = input.float()
        # The variance of centered values: a difference of mean squares has no correct digit if the mean is large.
        own_variance, own_mean = torch.var_mean(values, dim=(0, 2, 3), correction=0)
        means, variances = _AllGather.apply(torch.stack([own_mean, own_variance])).unbind(1)
        mean = means.mean(dim=0)
        variance = (variances + (means - mean).square()).mean(dim=0)
        count = input.numel() // input.shape[1] * len(means)
        self._update_running_stats(mean.detach(), variance.detach(), count)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        centered = values - mean[:, None, None]
        return torch.addcmul(self.bias[:, None, None], centered, scale[:, None, None]).to(input.dtype)

    def _update_running_stats(self, mean: torch.Tensor, variance: torch.Tensor, count: int) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.momentum is not None
        assert self.num_batches_tracked is not None
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * count / max(count - 1, 1), self.momentum)
        self.num_batches_tracked += 1


class _AllGather(torch.autograd.Function):
    """Stack the values of all ranks along a new first axis; the gradient is the sum of the ranks' gradients."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor) -> torch.Tensor:
        gathered = [torch.empty_like(values) for _ in range(torch_dist.get_world_size())]
        torch_dist.all_gather(gathered, values)
        return torch.stack(gathered)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        torch_dist.all_reduce(total)
        return total[torch_dist.get_rank()]


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
    """Wait until every rank has called this, without a timeout: rank 0 may prepare data for hours."""
    if dist.world_size > 1:
        torch_dist.barrier(dist.patient_group)


def all_reduce_mean(value: torch.Tensor, dist: DistContext) -> torch.Tensor:
    """Return the mean of a tensor over all ranks."""
    if dist.world_size > 1:
        torch_dist.all_reduce(value)
        value /= dist.world_size
    return value
