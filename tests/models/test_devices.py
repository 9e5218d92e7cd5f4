"""Devices: an unknown or missing one is refused in one line that lists what there is."""

from types import SimpleNamespace

import pytest
import torch

from pose.errors import ConfigError
from pose.models.devices import choose_device


@pytest.mark.parametrize("name", ["cpu", torch.device("cpu")])
def test_the_cpu_is_always_there(name):
    assert choose_device(name) == torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "GPU", "cuda:99", "meta", "", "cpu:x", "tpu", "c" * 500])
def test_a_device_that_is_not_there_is_refused_with_the_list_of_those_that_are(name):
    with pytest.raises(ConfigError, match=r"^device '.*' is not available, expected one of cpu") as raised:
        choose_device(name)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 200


def test_a_gpu_has_its_number_and_is_not_made_the_one_of_the_process(monkeypatch):
    monkeypatch.setattr(torch, "empty", lambda *size, device: SimpleNamespace(device=torch.device("cuda:0")))
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: pytest.fail("changes the process"))
    assert choose_device("cuda") == torch.device("cuda:0")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_cuda_without_a_gpu_is_refused():
    with pytest.raises(ConfigError, match=r"'cuda' is not available, expected one of cpu; .*finds no NVIDIA GPU"):
        choose_device("cuda")
    assert choose_device(None) == torch.device("cpu")
