"""Two ranks under torchrun (gloo) compute the same as one process."""

import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from pose.engine import launch
from pose.engine.distributed import convert_sync_batch_norm, wrap_model
from pose.engine.launch import init_distributed

WORKER = Path(__file__).with_name("process_worker.py")
ROOT = Path(__file__).resolve().parents[2]


def test_the_gpu_of_a_process_is_the_one_that_it_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[torch.device] = []
    monkeypatch.setattr(launch, "choose_device", lambda name: torch.device(name))
    monkeypatch.setattr(torch.cuda, "set_device", used.append)
    with init_distributed("cuda:1") as dist:
        assert dist.device == torch.device("cuda:1")
    with init_distributed("cpu"):
        pass
    assert used == [torch.device("cuda:1")]


@pytest.fixture(scope="module")
def one_process(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Results of one process, with torch's batch norm."""
    output = tmp_path_factory.mktemp("one") / "results.pt"
    with torch.random.fork_rng(devices=[]):
        runpy.run_path(str(WORKER))["main"](output)
    return torch.load(output, weights_only=True)


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Results of two ranks, gathered by rank 0."""
    output = tmp_path_factory.mktemp("two") / "results.pt"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([*torchrun, WORKER, output], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return torch.load(output, weights_only=True)


def test_sync_batch_norm_gives_the_outputs_of_the_whole_batch(one_process, two_ranks):
    torch.testing.assert_close(two_ranks["model"]["outputs"], one_process["model"]["outputs"], atol=1e-5, rtol=1e-5)


def test_sync_batch_norm_gives_the_gradients_of_the_whole_batch(one_process, two_ranks):
    torch.testing.assert_close(two_ranks["model"]["gradients"], one_process["model"]["gradients"], atol=1e-6, rtol=1e-4)


def test_sync_batch_norm_keeps_the_running_statistics_of_the_whole_batch(one_process, two_ranks):
    two, one = two_ranks["model"]["state"], one_process["model"]["state"]

    assert one["1.num_batches_tracked"] == 3
    torch.testing.assert_close(dict(two), dict(one), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(two_ranks["model"]["evaluated"], one_process["model"]["evaluated"], atol=1e-5, rtol=1e-5)


def test_collectives_return_the_same_on_every_rank(two_ranks):
    assert two_ranks["exchange"]["all"] == [(0, "from 0", 0.5, 5.0), (1, "from 0", 0.5, 5.0)]


def test_collectives_of_one_process_return_their_input(one_process):
    assert one_process["exchange"]["all"] == [(0, "from 0", 0.0, 5.0)]


def test_every_rank_names_the_records_of_the_rank_whose_loss_is_not_finite(one_process, two_ranks):
    first, second = two_ranks["broken_loss"]

    assert first == second
    assert "on the records [21]" in first
    assert "on the records [20]" in one_process["broken_loss"][0]


def test_sync_batch_norm_has_the_variance_of_values_far_from_zero(one_process, two_ranks):
    images = torch.randn(4, 1, 32, 32, generator=torch.Generator().manual_seed(5)) + 1000
    expected = images.double().var().item()

    assert one_process["variance"].item() == pytest.approx(expected, rel=1e-3)
    assert two_ranks["variance"].item() == pytest.approx(expected, rel=1e-3)


def test_dropout_differs_between_ranks_and_steps_and_is_repeated_by_a_resumed_run(two_ranks):
    first, second = two_ranks["draws"]

    for step, other, again in (first, second):
        assert step == again
        assert step != other
    assert first[0] != second[0]
    assert first[1] != second[1]


def test_a_gpu_uses_the_batch_norm_of_torch():
    model = convert_sync_batch_norm(nn.Sequential(nn.Sequential(nn.BatchNorm2d(2))), torch.device("cuda"))

    assert type(model[0][0]) is nn.SyncBatchNorm


def test_without_torchrun_there_is_one_process(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)

    with init_distributed("cpu") as dist:
        assert (dist.rank, dist.world_size, dist.device.type) == (0, 1, "cpu")
        assert dist.is_main
        model = nn.BatchNorm2d(2)
        assert wrap_model(model, dist, sync_batch_norm=True) is model
    assert not torch.distributed.is_initialized()


def test_convert_sync_batch_norm_keeps_names_weights_and_parameters():
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Sequential(nn.BatchNorm2d(2, eps=0.1, momentum=0.4)))
    model[1][0].running_mean.fill_(3)
    before, parameters = {name: value.clone() for name, value in model.state_dict().items()}, list(model.parameters())

    synced = convert_sync_batch_norm(model, torch.device("cpu"))

    torch.testing.assert_close(dict(synced.state_dict()), before, rtol=0, atol=0)
    assert [id(value) for value in synced.parameters()] == [id(value) for value in parameters]
    assert (synced[1][0].eps, synced[1][0].momentum) == (0.1, 0.4)
