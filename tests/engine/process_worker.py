"""Run alone or under torchrun with the same words; the first process saves what it found.

Usage: process_worker.py OUTPUT.pt
"""

import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pose.engine.distributed import (
    DistContext,
    broadcast_buffers,
    broadcast_object,
    distribute,
    gather,
    init_distributed,
    mean_over_processes,
)
from pose.engine.trainer import LossLog
from pose.errors import TrainingError

BATCH, STEPS = 6, 3


def main(output: Path) -> None:
    with init_distributed("cpu") as processes:
        found = {"model": train(processes), "exchange": exchange(processes), "broken_loss": broken_loss(processes)}
        if processes.is_main:
            torch.save(found, output)


def train(processes: DistContext) -> dict[str, Any]:
    """A model with two batch norms of unusual options, trained on this process's share of each global batch."""
    torch.manual_seed(3)
    raw = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, eps=1e-2, momentum=0.3), nn.ReLU(), nn.Sequential(nn.BatchNorm2d(4))
    )
    nn.init.uniform_(raw[1].weight)
    names = list(raw.state_dict())
    model = distribute(raw, processes, sync_batch_norm=True)
    optimizer = torch.optim.SGD(raw.parameters(), 0.1)
    outputs, gradients = [], []
    for images, targets in torch.randn(STEPS, 2, BATCH, 4, 8, 8).unbind():
        share = slice(processes.rank * BATCH // processes.count, (processes.rank + 1) * BATCH // processes.count)
        images, targets = images[share, :3] * 2 + 1, targets[share, :, :6, :6]
        optimizer.zero_grad()
        y = model(images)
        (y - targets).square().mean().backward()
        outputs.append(torch.cat(gather(y.detach(), processes)))
        gradients.append({name: value.grad.clone() for name, value in raw.named_parameters()})
        optimizer.step()
    assert list(raw.state_dict()) == names
    evaluated = raw.eval()(torch.ones(1, 3, 8, 8)).detach()
    return {"outputs": outputs, "gradients": gradients, "state": raw.state_dict(), "evaluated": evaluated}


def exchange(processes: DistContext) -> dict[str, Any]:
    """What each of the small words gives on every process."""
    statistics = nn.BatchNorm2d(1)
    statistics.running_mean.fill_(processes.rank + 5.0)
    broadcast_buffers(statistics, processes)
    mean = mean_over_processes(torch.tensor(float(processes.rank)), processes)
    mine = (
        processes.rank,
        broadcast_object(f"from {processes.rank}", processes),
        mean.item(),
        statistics.running_mean.item(),
    )
    return {"all": gather(mine, processes)}


def broken_loss(processes: DistContext) -> list[str]:
    """The message on every process when only the last one's second loss is not finite."""
    log = LossLog()
    last = processes.rank == processes.count - 1
    log.add(torch.tensor(1.0), torch.tensor([10 + processes.rank]))
    log.add(torch.tensor(float("nan") if last else 1.0), torch.tensor([20 + processes.rank]))
    try:
        log.read(processes)
    except TrainingError as error:
        return gather(str(error), processes)
    return gather("no error", processes)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
