"""Exponential moving average, compared with a plain loop."""

import torch
from torch import nn

from pose.engine.ema import MovingAverage


def model_with_buffers() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def change_weights(model: nn.Module) -> None:
    """Change every weight and buffer, as a training step does."""
    for value in model.state_dict().values():
        value.add_(torch.randn(value.shape) if value.is_floating_point() else 1)


def test_update_averages_every_weight_and_running_statistic():
    model = model_with_buffers()
    average = MovingAverage(model, decay=0.8)
    expected = {name: value.clone() for name, value in model.state_dict().items()}

    for step in range(60):
        change_weights(model)
        average.update(model, step)
        decay = min(0.8, (1 + step) / (10 + step))
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                expected[name] = decay * expected[name] + (1 - decay) * value

    expected["1.num_batches_tracked"] = torch.tensor(60)  # a count is copied, not averaged
    for name, value in average.model.state_dict().items():
        torch.testing.assert_close(value, expected[name], msg=name)


def test_the_first_updates_reduce_the_weight_of_the_initial_model():
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 100)
    average = MovingAverage(model, decay=0.9999)
    nn.init.zeros_(model.weight)

    for step in range(10):
        average.update(model, step)

    assert average.model.weight.item() < 100 / 10_000


def test_the_average_is_a_separate_model_in_evaluation_mode_without_gradients():
    model = model_with_buffers()
    average = MovingAverage(model, decay=0.9)
    before = average.model[0].weight.clone()

    change_weights(model)

    assert torch.equal(average.model[0].weight, before)
    assert not average.model.training
    assert not any(parameter.requires_grad for parameter in average.model.parameters())
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
