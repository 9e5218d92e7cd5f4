"""One or many processes with the same words: the only module that reads torchrun's environment.

Gloo on CPU, NCCL on GPU. Outside torchrun everything here is the identity.
"""

import gc
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

Item = TypeVar("Item")


@dataclass(frozen=True)
class DistContext:
    """This process among its equals."""

    rank: int
    count: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0


@contextmanager
def init_distributed(device: str | None = None) -> Iterator[DistContext]:
    """Join the group that torchrun announces, or stand alone; the group is left at the end.

    Args:
        device: ``"cpu"``, ``"cuda"``, ...; by default this process's GPU where there is one.
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
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield DistContext(dist.get_rank(), dist.get_world_size(), chosen)
        dist.barrier()  # leave together: a process that goes while another still talks to it can take both down
    finally:
        # Models wrapped for the group lie in reference cycles and would keep its threads to the end of the interpreter,
        # which then aborts now and then.
        gc.collect()
        dist.destroy_process_group()


def distribute(model: nn.Module, processes: DistContext, sync_batch_norm: bool, accumulate: int = 1) -> nn.Module:
    """Wrap a model so that its gradients (and, if asked, its batch statistics) are those of the global batch.

    Args:
        model: to wrap.
        processes: this process among its equals.
        sync_batch_norm: share batch statistics.
        accumulate: backward passes a step, all but the last without exchange.
    """
    if processes.count == 1:
        return model
    if sync_batch_norm:
        model = share_batch_norm(model)
    devices = [processes.device] if processes.device.type == "cuda" else None
    with warnings.catch_warnings():
        # torch 2.15 renames `broadcast_buffers`; older ones know no other name.
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
        return DistributedDataParallel(
            model,
            device_ids=devices,
            broadcast_buffers=False,
            gradient_as_bucket_view=True,
            static_graph=accumulate == 1,  # which knows no backward pass without exchange
        )


def share_batch_norm(model: nn.Module) -> nn.Module:
    """Replace every batch norm of a model by one whose statistics are over all processes; names and weights stay."""
    for name, child in model.named_children():
        if isinstance(child, nn.BatchNorm2d):
            shared = SharedBatchNorm2d(child.num_features, child.eps, child.momentum)
            shared.weight, shared.bias = child.weight, child.bias
            shared.load_state_dict(child.state_dict())
            setattr(model, name, shared.to(child.weight.device))
        else:
            share_batch_norm(child)
    return model


class SharedBatchNorm2d(nn.BatchNorm2d):
    """Batch norm over all processes' batches, which must be of equal size. PyTorch's own does not run on CPU."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Normalize (B, C, H, W)."""
        if not self.training:
            return super().forward(input)
        values = input.float()
        moments = torch.stack([values.mean(dim=(0, 2, 3)), values.square().mean(dim=(0, 2, 3))])
        mean, square = _SumOverProcesses.apply(moments) / dist.get_world_size()
        variance = (square - mean.square()).clamp_min(0)
        self._track(mean.detach(), variance.detach(), input.numel() // input.shape[1] * dist.get_world_size())
        scale = self.weight * torch.rsqrt(variance + self.eps)
        shift = self.bias - mean * scale
        return torch.addcmul(shift[:, None, None], values, scale[:, None, None]).to(input.dtype)

    def _track(self, mean: torch.Tensor, variance: torch.Tensor, count: int) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.momentum is not None
        assert self.num_batches_tracked is not None
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * count / max(count - 1, 1), self.momentum)
        self.num_batches_tracked += 1


class _SumOverProcesses(torch.autograd.Function):
    """Sum of all processes' tensors; its gradient is the sum of their gradients."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor) -> torch.Tensor:
        return _summed(values)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        return _summed(gradients[0])


def _summed(values: torch.Tensor) -> torch.Tensor:
    total = values.clone()
    dist.all_reduce(total)
    return total


def broadcast_buffers(model: nn.Module, processes: DistContext) -> None:
    """Give every process the first one's buffers (batch statistics), so that all evaluate the same model."""
    if processes.count > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)


def gather(item: Item, processes: DistContext) -> list[Item]:
    """Return every process's item, in order of rank, on every process."""
    if processes.count == 1:
        return [item]
    items: list[Item | None] = [None] * processes.count
    dist.all_gather_object(items, item)
    return items  # type: ignore[return-value]


def broadcast_object(item: Item, processes: DistContext) -> Item:
    """Return the first process's item on every process."""
    if processes.count == 1:
        return item
    items = [item]
    dist.broadcast_object_list(items, src=0)
    return items[0]


def barrier(processes: DistContext) -> None:
    """Wait for all processes."""
    if processes.count > 1:
        dist.barrier()


def mean_over_processes(value: torch.Tensor, processes: DistContext) -> torch.Tensor:
    """Return the mean of a tensor over all processes."""
    if processes.count > 1:
        dist.all_reduce(value)
        value /= processes.count
    return value
