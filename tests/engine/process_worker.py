"""Training steps and collectives, run as one process or under torchrun; rank 0 saves the results.

Usage: process_worker.py OUTPUT.pt
"""

import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pose.engine.distributed import (
    DistContext,
    all_gather,
    all_reduce_mean,
    broadcast_buffers,
    broadcast_object,
    convert_sync_batch_norm,
    seed_step,
    wrap_model,
)
from pose.engine.launch import init_distributed
from pose.engine.trainer import _check_losses, describe_ids
from pose.errors import TrainingError

BATCH, STEPS = 6, 3


def main(output: Path) -> None:
    with init_distributed("cpu") as dist:
        results = {
            "model": train(dist),
            "exchange": exchange(dist),
            "broken_loss": broken_loss(dist),
            "variance": variance_of_far_values(dist),
            "draws": draws(dist),
        }
        if dist.is_main:
            torch.save(results, output)


def train(dist: DistContext) -> dict[str, Any]:
    """Train a model with two batch norms of unusual options on this rank's share of each global batch."""
    torch.manual_seed(3)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, eps=1e-2, momentum=0.3), nn.ReLU(), nn.Sequential(nn.BatchNorm2d(4))
    )
    nn.init.uniform_(model[1].weight)
    names = list(model.state_dict())
    wrapped = wrap_model(model, dist, sync_batch_norm=True)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    outputs, gradients = [], []
    for images, targets in torch.randn(STEPS, 2, BATCH, 4, 8, 8).unbind():
        share = slice(dist.rank * BATCH // dist.world_size, (dist.rank + 1) * BATCH // dist.world_size)
        images, targets = images[share, :3] * 2 + 1, targets[share, :, :6, :6]
        optimizer.zero_grad()
        y = wrapped(images)
        (y - targets).square().mean().backward()
        outputs.append(torch.cat(all_gather(y.detach(), dist)))
        gradients.append({name: value.grad.clone() for name, value in model.named_parameters()})
        optimizer.step()
    assert list(model.state_dict()) == names
    evaluated = model.eval()(torch.ones(1, 3, 8, 8)).detach()
    return {"outputs": outputs, "gradients": gradients, "state": model.state_dict(), "evaluated": evaluated}


def exchange(dist: DistContext) -> dict[str, Any]:
    """Return the results of the collectives on every rank."""
    statistics = nn.BatchNorm2d(1)
    statistics.running_mean.fill_(dist.rank + 5.0)
    broadcast_buffers(statistics, dist)
    mean = all_reduce_mean(torch.tensor(float(dist.rank)), dist)
    own = (
        dist.rank,
        broadcast_object(f"from {dist.rank}", dist),
        mean.item(),
        statistics.running_mean.item(),
    )
    return {"all": all_gather(own, dist)}


def broken_loss(dist: DistContext) -> list[str]:
    """Return the error message of every rank when only the second loss of the last rank is not finite."""
    last = dist.rank == dist.world_size - 1
    pending = [
        (torch.tensor(1.0), torch.tensor([10 + dist.rank])),
        (torch.tensor(float("nan") if last else 1.0), torch.tensor([20 + dist.rank])),
    ]
    try:
        _check_losses(pending, describe_ids, dist)
    except TrainingError as error:
        return all_gather(str(error), dist)
    return all_gather("no error", dist)


def variance_of_far_values(dist: DistContext) -> torch.Tensor:
    """Return the running variance after one batch of mean 1,000 and standard deviation 1, with momentum 1."""
    images = torch.randn(4, 1, 32, 32, generator=torch.Generator().manual_seed(5)) + 1000
    norm = convert_sync_batch_norm(nn.Sequential(nn.BatchNorm2d(1, momentum=1.0)), dist.device)
    if dist.world_size == 1:
        norm = nn.Sequential(nn.BatchNorm2d(1, momentum=1.0))
    norm(images.chunk(dist.world_size)[dist.rank])
    return norm[0].running_var


def draws(dist: DistContext) -> list[list[list[float]]]:
    """Return the dropout masks of every rank in two steps, the first of which is seeded twice."""
    own = []
    for step in (1, 2, 1):
        seed_step(7, step, dist)
        own.append(nn.functional.dropout(torch.ones(64)).tolist())
    return all_gather(own, dist)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
