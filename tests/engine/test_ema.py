"""The moving average, against a plain loop."""

import torch
from torch import nn

from pose.engine.ema import MovingAverage


def net_with_buffers() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def disturb(net: nn.Module) -> None:
    """Change every weight and buffer, as a training step does."""
    for value in net.state_dict().values():
        value.add_(torch.randn(value.shape) if value.is_floating_point() else 1)


def test_every_weight_and_statistic_follows_the_formula():
    net = net_with_buffers()
    average = MovingAverage(net, decay=0.8)
    expected = {name: value.clone() for name, value in net.state_dict().items()}

    for step in range(60):
        disturb(net)
        average.update(net, step)
        decay = min(0.8, (1 + step) / (10 + step))
        for name, value in net.state_dict().items():
            if value.is_floating_point():
                expected[name] = decay * expected[name] + (1 - decay) * value

    expected["1.num_batches_tracked"] = torch.tensor(60)  # a count is copied, not averaged
    for name, value in average.net.state_dict().items():
        torch.testing.assert_close(value, expected[name], msg=name)


def test_early_steps_keep_little_of_the_random_start():
    net = nn.Linear(1, 1, bias=False)
    nn.init.constant_(net.weight, 100)
    average = MovingAverage(net, decay=0.9999)
    nn.init.zeros_(net.weight)

    for step in range(10):
        average.update(net, step)

    assert average.net.weight.item() < 100 / 10_000


def test_the_average_is_a_net_apart_that_does_not_train():
    net = net_with_buffers()
    average = MovingAverage(net, decay=0.9)
    before = average.net[0].weight.clone()

    disturb(net)

    assert torch.equal(average.net[0].weight, before)
    assert not average.net.training
    assert not any(parameter.requires_grad for parameter in average.net.parameters())
    assert net.training
    assert all(parameter.requires_grad for parameter in net.parameters())
