"""Single training steps of one convolution; without batch norm, gradients of the parts of a batch add up exactly."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from typing import NamedTuple

import pytest
import torch
from torch import nn

from pose.config.pose import TrainConfig
from pose.datasets.samples import PoseSample
from pose.engine.ema import MovingAverage
from pose.engine.pose_task import pose_loss
from pose.engine.schedules import learning_rate
from pose.engine.state import Progress, TrainState
from pose.engine.trainer import train_one_epoch
from pose.errors import TrainingError
from pose.heatmap import encode

KEYPOINTS, SIDE, BATCH = 2, 16, 8


def make_model() -> nn.Module:
    torch.manual_seed(1)
    return nn.Conv2d(3, KEYPOINTS, 4, stride=4)


def parameter_groups(model: nn.Module) -> list[dict]:
    """Parameter groups as in training: the kernel as the backbone, the bias as the head."""
    return [{"params": [model.weight]}, {"params": [model.bias]}]


def make_state(model: nn.Module, optimizer: torch.optim.Optimizer | None = None, scale: bool = False) -> TrainState:
    optimizer = optimizer or torch.optim.Adam(parameter_groups(model))
    return TrainState(model, optimizer, torch.amp.GradScaler("cpu", enabled=scale), None, model)


class Step(NamedTuple):
    """Arguments of `EpochLog.step`."""

    loss: float | None
    learning_rate: float


class Recorder:
    """Replacement of `EpochLog`; ``on_step`` is called after each step."""

    def __init__(self, on_step: Callable[[], object] = lambda: None) -> None:
        self.steps: list[Step] = []
        self.on_step = on_step

    def next_batch(self, batches: Iterator[PoseSample]) -> PoseSample:
        return next(batches)

    def step(self, loss: float | None, learning_rate: float) -> None:
        self.steps.append(Step(loss, learning_rate))
        self.on_step()


def make_batches(count: int, size: int = BATCH) -> list[PoseSample]:
    """Noise images with random keypoints; ids count from 100."""
    rng = torch.Generator().manual_seed(2)
    batches = []
    for batch in range(count):
        keypoints = torch.rand(size, KEYPOINTS, 2, generator=rng) * SIDE
        maps = [torch.from_numpy(encode(row, [1] * KEYPOINTS, (SIDE // 4, SIDE // 4), 4, 1)[0]) for row in keypoints]
        images = torch.randint(0, 256, (size, SIDE, SIDE, 3), generator=rng, dtype=torch.uint8)
        ids = 100 + batch * size + torch.arange(size)
        batches.append(PoseSample(images, torch.stack(maps), torch.ones(size, KEYPOINTS), ids))
    return batches


def halve(batches: Sequence[PoseSample]) -> list[PoseSample]:
    """Split each batch in two."""
    return [PoseSample(*part) for batch in batches for part in zip(*(column.chunk(2) for column in batch), strict=True)]


def train(state, batches, dist, steps=None, on_step=lambda: None, **options) -> list[Step]:
    """Train the rest of an epoch and return the logged steps."""
    options = TrainConfig(batch_size=BATCH, **options)
    steps = steps or len(batches) // options.accumulate
    log = Recorder(on_step)
    train_one_epoch(state, iter(batches), pose_loss(options, dist.device), steps, options, dist, log)
    return log.steps


def test_training_equals_a_plain_loop_with_adam(dist):
    batches = make_batches(4)
    model, expected = make_model(), make_model()
    optimizer = torch.optim.Adam(expected.parameters(), 2e-3)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    losses = []
    for batch in batches:
        images = ((batch.image / 255 - mean) / std).permute(0, 3, 1, 2)
        loss = 0.5 * nn.functional.mse_loss(expected(images), batch.heatmaps)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

    steps_logged = train(make_state(model), batches, dist, learning_rate=2e-3)

    assert [step.loss for step in steps_logged] == pytest.approx(losses, rel=1e-5)
    torch.testing.assert_close(model.state_dict(), expected.state_dict(), atol=1e-6, rtol=1e-5)


def test_progress_counts_steps_and_samples(dist):
    state = make_state(make_model())

    train(state, make_batches(3), dist)

    assert state.progress == Progress(epoch=0, step=3, global_step=3, samples=3 * BATCH)


def test_the_remaining_steps_of_an_epoch_are_trained(dist):
    state = make_state(make_model())
    state.progress = Progress(epoch=5, step=2, global_step=22, samples=22 * BATCH)

    steps_logged = train(state, make_batches(2), dist, steps=4)

    assert len(steps_logged) == 2
    assert state.progress == Progress(epoch=5, step=4, global_step=24, samples=24 * BATCH)


@pytest.mark.parametrize("clip", [None, 0.01])
@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_two_accumulated_batches_train_like_one_batch(loss, clip, dist):
    """With plain gradient descent: Adam would amplify the rounding errors of zero gradients."""
    batches = make_batches(4)
    whole, parts = make_model(), make_model()
    options = {"loss": loss, "gradient_clip": clip, "learning_rate": 0.1}

    expected = train(make_state(whole, torch.optim.SGD(parameter_groups(whole))), batches, dist, **options)
    optimizer = torch.optim.SGD(parameter_groups(parts))
    steps_logged = train(make_state(parts, optimizer), halve(batches), dist, accumulate=2, **options)

    assert [step.loss for step in steps_logged] == pytest.approx([step.loss for step in expected], abs=1e-6)
    assert expected[-1].loss < expected[0].loss
    torch.testing.assert_close(parts.state_dict(), whole.state_dict(), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("clip", "scale"), [(1e-3, False), (1e-3, True), (1e3, False)])
def test_the_gradient_is_clipped_by_its_total_norm(clip, scale, dist):
    """Plain gradient descent moves the weights by learning rate x gradient, so the step's length gives the norm."""
    model = make_model()
    before = nn.utils.parameters_to_vector(model.parameters()).detach()
    state = make_state(model, torch.optim.SGD(parameter_groups(model)), scale)

    train(state, make_batches(1), dist, learning_rate=0.5, gradient_clip=clip)
    change = nn.utils.parameters_to_vector(model.parameters()).detach() - before

    if clip < 1:
        assert change.norm().item() == pytest.approx(0.5 * clip, rel=1e-3)
    else:
        assert 0 < change.norm().item() < 0.5 * clip


def test_gradients_are_cleared_after_a_step(dist):
    model = make_model()

    train(make_state(model), make_batches(1), dist)

    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_runs_the_model_in_half_precision_and_reduces_the_loss(precision, dist):
    model = make_model()
    types = set()
    model.register_forward_hook(lambda module, inputs, output: types.add(output.dtype))
    batches = make_batches(1) * 30

    steps_logged = train(
        make_state(model, scale=precision == "fp16"), batches, dist, precision=precision, learning_rate=1e-2
    )

    assert types == {torch.bfloat16 if precision == "bf16" else torch.float16}
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert steps_logged[-1].loss < 0.7 * steps_logged[0].loss


def test_channels_last_changes_the_memory_layout_but_not_the_result(dist):
    batches = make_batches(3)
    contiguous, channels_last = make_model(), make_model().to(memory_format=torch.channels_last)
    layouts = []
    channels_last.register_forward_pre_hook(
        lambda module, inputs: layouts.append(inputs[0].is_contiguous(memory_format=torch.channels_last))
    )

    train(make_state(contiguous), batches, dist)
    train(make_state(channels_last), batches, dist, channels_last=True)

    assert layouts == [True] * 3
    torch.testing.assert_close(channels_last.state_dict(), contiguous.state_dict(), atol=1e-6, rtol=1e-5)


def test_the_moving_average_is_updated_after_each_step(dist):
    model = make_model()
    state = make_state(model)
    state.ema = MovingAverage(model, 0.9)
    expected, count = MovingAverage(model, 0.9), itertools.count()

    train(state, make_batches(5), dist, on_step=lambda: expected.update(model, next(count)))

    torch.testing.assert_close(state.ema.model.state_dict(), expected.model.state_dict(), rtol=0, atol=0)


def test_a_loss_that_is_not_finite_raises_before_the_update_and_names_the_records(dist):
    model = make_model()
    batches = make_batches(3)
    batches[2].heatmaps[4, 1, 2, 2] = math.nan
    state = make_state(model)
    after_steps = []
    record = lambda: after_steps.append(deepcopy((model.state_dict(), state.progress)))  # noqa: E731

    with pytest.raises(TrainingError, match=r"records \[116, 117, 118, 119, 120, 121, 122, 123\]"):
        train(state, batches, dist, on_step=record)

    before, progress = after_steps[-1]
    assert len(after_steps) == 2
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert state.progress == progress


def test_the_accumulated_batch_whose_loss_is_not_finite_is_named(dist):
    parts = halve(make_batches(1))
    parts[1].heatmaps[0, 0, 0, 0] = math.inf

    with pytest.raises(TrainingError, match=r"records \[104, 105, 106, 107\]"):
        train(make_state(make_model()), parts, dist, accumulate=2)


def test_the_learning_rate_drops_at_the_milestones(dist):
    state = make_state(make_model())
    rates = []
    for epoch in range(3):
        state.progress.epoch, state.progress.step = epoch, 0
        steps_logged = train(state, make_batches(2), dist, epochs=3, milestones=(1, 2), learning_rate=1.0)
        rates += [step.learning_rate for step in steps_logged]

    assert rates == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    assert state.optimizer.param_groups[0]["lr"] == pytest.approx(0.01)


def test_backbone_learning_rate_applies_to_the_backbone_only(dist):
    """Plain gradient descent moves the weights by learning rate x gradient."""
    start, plain, slow = make_model(), make_model(), make_model()

    train(make_state(plain, torch.optim.SGD(parameter_groups(plain))), make_batches(1), dist, learning_rate=0.5)
    state = make_state(slow, torch.optim.SGD(parameter_groups(slow)))
    (step,) = train(state, make_batches(1), dist, learning_rate=0.5, backbone_learning_rate=0.02)

    assert step.learning_rate == 0.5
    torch.testing.assert_close(slow.bias, plain.bias, rtol=0, atol=0)
    torch.testing.assert_close(slow.weight - start.weight, 0.04 * (plain.weight - start.weight), rtol=1e-3, atol=1e-7)
    assert (plain.weight - start.weight).abs().max() > 1e-4


def test_both_learning_rates_follow_the_schedule(dist):
    state = make_state(make_model())
    rates = []
    options = {
        "epochs": 2, "milestones": (1,), "warmup_steps": 2, "learning_rate": 1.0, "backbone_learning_rate": 0.3
    }  # fmt: skip
    for epoch in range(2):
        state.progress.epoch, state.progress.step = epoch, 0
        record = lambda: rates.append([group["lr"] for group in state.optimizer.param_groups])  # noqa: E731
        train(state, make_batches(2), dist, on_step=record, **options)

    assert rates == [pytest.approx([0.3 * rate, rate]) for rate in (0.5, 1, 0.1, 0.1)]


def test_each_parameter_group_follows_the_schedule_from_its_own_rate(dist):
    model = nn.ModuleDict({"backbone": make_model(), "head": nn.Linear(2, 2), "attention": nn.Linear(2, 2)})
    groups = [{"params": list(part.parameters())} for part in model.values()]
    state = TrainState(model, torch.optim.SGD(groups), torch.amp.GradScaler("cpu", enabled=False), None, model.backbone)
    rates = []
    record = lambda: rates.append([group["lr"] for group in state.optimizer.param_groups])  # noqa: E731

    train(
        state, make_batches(4), dist, on_step=record, epochs=1, schedule="cosine", warmup_steps=2,
        learning_rate=1.0, backbone_learning_rate=0.3, attention_learning_rate=0.02,
    )  # fmt: skip

    factors = [0.5 * min(1, (step + 1) / 2) * (1 + math.cos(math.pi * step / 4)) for step in range(4)]
    assert rates == [pytest.approx([0.3 * factor, factor, 0.02 * factor]) for factor in factors]


def test_learning_rate_is_cosine_decay_times_warm_up():
    options = TrainConfig(epochs=4, schedule="cosine", learning_rate=2.0, warmup_steps=10)

    assert learning_rate(options, epoch=0, global_step=0) == pytest.approx(2 * 0.1)
    assert learning_rate(options, epoch=2, global_step=9) == pytest.approx(2 * 0.5)
    assert learning_rate(options, epoch=2.5, global_step=99) == pytest.approx(1 + math.cos(math.pi * 2.5 / 4))
