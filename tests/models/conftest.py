"""Fixtures of model tests: a fixed seed, and comparison with a reference model."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import nn


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture
def assert_same_model() -> Callable[[nn.Module, nn.Module], None]:
    """Copy the weights of a reference model and compare outputs, also in training mode with its batch statistics."""

    def check(ours: nn.Module, reference: nn.Module) -> None:
        ours, reference = ours.double(), reference.double()
        for layer in reference.modules():
            if isinstance(layer, nn.BatchNorm2d):
                nn.init.uniform_(layer.weight, 0.5, 1.5)
                nn.init.normal_(layer.bias, std=0.3)
                nn.init.normal_(layer.running_mean, std=0.3)
                nn.init.uniform_(layer.running_var, 0.5, 1.5)
        # By position: names differ, order and shapes do not.
        ours.load_state_dict(dict(zip(ours.state_dict(), reference.state_dict().values(), strict=True)))
        images = torch.randn(3, 3, 64, 64, dtype=torch.double)
        for training in (False, True):
            torch.testing.assert_close(ours.train(training)(images), reference.train(training)(images))
        for buffer, expected in zip(ours.buffers(), reference.buffers(), strict=True):
            torch.testing.assert_close(buffer, expected)

    return check
